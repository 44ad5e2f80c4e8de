"""The section of the searches: per architecture history, learning curves, parallel coordinates, importance, trials."""

from __future__ import annotations

from segbench.records import StudyRecord, TrialRecord
from segbench.report import search_figures, searches
from segbench.report.blocks import Block, Cell, Figure, Heading, Key, Plot, Prose, Section, Table
from segbench.report.ledgers import Ledgers, Side
from segbench.report.texts import score, text
from segbench.report.theme import GREY, colour
from segbench.terminal import duration

_PROMOTED, _BASELINE = "◆", "○"


def section(ledgers: Ledgers) -> Section:
    """Everything about the searches; architectures without a study are left out."""
    blocks: list[Block] = []
    for side in ledgers.sides:
        if side.study:
            blocks += _side(side, side.study)
    lead = Prose((text("searches.lead" if blocks else "searches.none"),), tone="lead" if blocks else "note")
    return Section("searches", text("searches.title"), text("searches.short"), (lead, *blocks))


def _side(side: Side, study: StudyRecord) -> list[Block]:
    blocks: list[Block] = [Heading(side.title, colour(side.index)), Prose(_facts(study))]
    if any(t.epochs for t in study.trials):
        blocks.append(_history(side, study))
        blocks.append(_parallel(side, study))
    blocks.append(_importance(side))
    blocks.append(_table(side, study))
    return blocks


def _facts(study: StudyRecord) -> tuple[str, ...]:
    used, asked = searches.budget(study), study.protocol["search"]
    how = text("searches.how", sampler=asked["sampler"], pruner=asked["pruner"], seed=asked["seed"])
    facts = [
        text(
            "searches.budget",
            complete=used.complete,
            asked=used.asked,
            epochs=used.epochs,
            seconds=duration(used.seconds),
            subset=study.subset,
            how=how,
        )
    ]
    if asked.get("select_on") == "val":
        facts.append(text("searches.select_on_val"))
    return tuple(facts)


def _history(side: Side, study: StudyRecord) -> Figure:
    height = search_figures.HISTORY
    left, right = text("searches.history_left"), text("searches.history_right")
    without = ", ".join(f"{_title(t)} ({t.state})" for t in study.trials if t.value is None)
    values, curves = search_figures.history(study, side.index), search_figures.learning(study, side.index)
    tint = colour(side.index)
    own = (Key(text("figures.trial"), tint), Key(text("figures.best_so_far"), tint, "line"))
    dashed = _baseline_key(study)
    plots = (
        Plot(f"history-{side.index}", values, left, height, left, keys=(*own, *dashed)),
        Plot(f"learning-{side.index}", curves, right, height, right, keys=_keys(side, study)),
    )
    words = text("searches.without", list=without) if without else ""
    caption = text("searches.history_caption", without=" " + words if words else "")
    return Figure(text("searches.history"), plots, caption)


def _parallel(side: Side, study: StudyRecord) -> Block:
    if len(searches.valued(study)) < 2:
        return Prose((text("searches.parallel_few"),), tone="note")
    drawn = search_figures.parallel(study, side.index)
    title = text("searches.parallel")
    plot = Plot(
        f"parallel-{side.index}",
        drawn,
        f"{title}, {side.title}",
        search_figures.PARALLEL,
        wide=True,
        keys=_keys(side, study),
    )
    return Figure(title, (plot,), text("searches.parallel_caption"))


def _importance(side: Side) -> Block:
    found = searches.importance(side)
    if found.missing:
        values = {"trials": found.trials, "needed": searches.TRIALS_FOR_IMPORTANCE}
        return Prose((text(f"searches.importance_{found.missing}", **values),), tone="note")
    drawn = search_figures.importance(found.shares, side.index)
    title = text("searches.importance")
    plot = Plot(f"importance-{side.index}", drawn, f"{title}, {side.title}", int(drawn.layout.height), wide=True)
    return Figure(title, (plot,), text("searches.importance_caption", trials=found.trials))


def _table(side: Side, study: StudyRecord) -> Table:
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    scores = ("value", "official", "last", "best_epoch")
    columns = [
        Cell(text("searches.trial")),
        *(Cell(text(f"searches.{key}"), number=True) for key in scores),
        *(Cell(name, number=True) for name in names),
        Cell(text("searches.seconds"), number=True),
        Cell(text("searches.state")),
    ]
    promoted = {model.card.slot for model in side.models}
    values = [t.value for t in study.trials if t.value is not None and not t.baseline]
    rows = tuple(_row(t, names, t.slot in promoted, max(values, default=None)) for t in study.trials)
    title = text("searches.table", title=side.title)
    return Table(title, tuple(columns), rows, text("searches.table_caption"), dense=True)


def _row(trial: TrialRecord, names: list[str], promoted: bool, best: float | None) -> tuple[Cell, ...]:
    top = searches.top_epoch(trial)
    mark = f" {_BASELINE}" if trial.baseline else f" {_PROMOTED}" if promoted else ""
    last = trial.epochs[-1].miou if trial.epochs else None
    highest = trial.value is not None and trial.value == best and not trial.baseline
    return (
        Cell(_title(trial) + mark),
        Cell(score(trial.value), best=highest, number=True),
        Cell(score(top.miou_official if top else None), number=True),
        Cell(score(last), number=True),
        Cell(str(top.epoch) if top else "", number=True),
        *(Cell(searches.short(trial.params.get(name, "")), number=True) for name in names),
        Cell(f"{trial.seconds:.1f}" if trial.seconds else "", number=True),
        Cell(f"{trial.state}: {trial.reason}" if trial.reason else trial.state),
    )


def _keys(side: Side, study: StudyRecord) -> tuple[Key, ...]:
    best, others = text("figures.best_trial"), text("figures.other_trials")
    return (Key(best, colour(side.index), "line"), Key(others, GREY, "line"), *_baseline_key(study))


def _baseline_key(study: StudyRecord) -> tuple[Key, ...]:
    return (Key(text("figures.baseline"), GREY, "dash"),) if any(t.baseline for t in study.trials) else ()


def _title(trial: TrialRecord) -> str:
    return text("searches.baseline") if trial.baseline else str(trial.slot)
