"""The section of the searches: what tuning bought and at which budget, then trials, configurations, importance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from segbench import stats
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.report.figures import search
from segbench.report.figures.theme import GREY, colour
from segbench.report.numbers import searches, tuning
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.page.blocks import Block, Cell, Figure, Heading, Key, Prose, Section, Table, plot
from segbench.report.sections import sentences
from segbench.report.text.i18n import decimals, duration, percent, points, scalar, score, signed, text

_PROMOTED, _BASELINE = "◆", "○"
Searched = Sequence[tuple[Candidate, StudyRecord]]


def section(ledgers: Comparison) -> Section:
    """Everything about the searches, side by side; architectures without a study are left out."""
    found = [(side, side.study) for side in ledgers.candidates if side.study]
    blocks: list[Block] = [Prose((text("search.lead" if found else "search.none"),), tone="lead" if found else "note")]
    if found:
        tuned = tuning.tunings(ledgers)
        blocks += _expected(tuned)
        if tuned:
            blocks.append(_bought(tuned))
        shown = [(side, study) for side, study in found if any(t.epochs for t in study.trials)]
        if shown:
            blocks += [_history(shown), _learning(shown), *_parallel(shown), *_importance(shown)]
        for side, study in found:
            blocks += [Heading(side.title, colour(side.index)), Prose(_facts(study)), _table(side, study)]
    return Section("search", text("search.title"), text("search.short"), tuple(blocks))


def _expected(tuned: Sequence[tuning.Tuning]) -> list[Block]:
    found = tuning.budgets(tuned)
    if found is None:
        key = "expected_few" if tuning.comparable(tuned) else "unequal"
        return [Prose((text(f"search.{key}"),), tone="note")]
    lows = [v for one in tuned for v in one.by_trials]
    axis = (max(min(lows) - 0.01, 0.0), max(one.best for one in tuned) * 1.05)
    keys = tuple(Key(one.side.title, colour(one.side.index), "line") for one in tuned)
    plots = (
        plot(
            "expected-trials",
            search.expected_by_trials(tuned, axis),
            text("search.expected_trials"),
            keys=keys,
        ),
        plot(
            "expected-time",
            search.expected_by_time(tuned, found, axis),
            text("search.expected_hours"),
            keys=keys,
        ),
    )
    title = text("search.expected")
    return [
        Prose((sentences.budget(tuned, found),), tone="lead"),
        Figure(title, plots, text("search.expected_caption")),
    ]


def _bought(tuned: Sequence[tuning.Tuning]) -> Table:
    def row(key: str, value: Callable[[tuning.Tuning], float], written: Callable[[float], str]) -> tuple[Cell, ...]:
        cells = [Cell(written(v), number=True, values=(v,)) for v in map(value, tuned)]
        return (Cell(text(f"search.{key}")), *cells)

    rows = [
        row("best_trial", lambda one: one.best, score),
        row("median_trial", lambda one: one.median, score),
        row("gain", lambda one: one.best - one.median, _gain),
        row(
            "next_trial", lambda one: one.by_trials[-1] - one.by_trials[-2] if len(one.values) > 1 else math.nan, _gain
        ),
    ]
    if not all(math.isnan(one.chance) for one in tuned):
        rows.append(row("chance", lambda one: one.chance, percent))
    if any(not math.isnan(one.baseline) for one in tuned):
        rows[3:3] = [
            row("known", lambda one: one.baseline, score),
            row("gain_known", lambda one: one.best - one.baseline, _gain),
        ]
    if any(one.rescored.n for one in tuned):
        rows.append((Cell(text("search.hindsight")), *(_ranks(one.rescored) for one in tuned)))
    rows.append((Cell(text("search.ranks")), *(_ranks(one.ranks) for one in tuned)))
    heads = [Cell(one.side.title, swatch=colour(one.side.index), number=True) for one in tuned]
    missing = text("search.chance_none") if any(math.isnan(one.chance) for one in tuned) else ""
    caption = text("search.bought_caption", missing=" " + missing if missing else "")
    head = (Cell(text("search.measure")), *heads)
    return Table("tuning", text("search.bought"), head, tuple(rows), caption)


def _gain(value: float) -> str:
    return points(value) if math.isnan(value) else f"{signed(value)} {text('words.points')}"


def _ranks(found: stats.Agreement) -> Cell:
    ends = (
        "" if math.isnan(found.low) else text("words.range", low=decimals(found.low, 2), high=decimals(found.high, 2))
    )
    values = (found.tau, found.low, found.high)
    return Cell(decimals(found.tau, 2), f"({ends})" if ends else "", number=True, values=values)


def _facts(study: StudyRecord) -> tuple[str, ...]:
    used, asked = searches.budget(study), study.protocol.search
    facts = [
        text(
            "search.budget",
            complete=used.complete,
            asked=used.asked,
            epochs=used.epochs,
            seconds=duration(used.seconds),
            train=asked.train_images,
            val=asked.val_images,
        )
        + " "
        + text("search.how", sampler=asked.sampler, pruner=asked.pruner, seed=asked.seed)
    ]
    if asked.select_on == "val":
        facts.append(text("search.select_on_val"))
    if augmentation := searches.augmentation(study):
        facts.append(text("search.augmented", how=augmentation))
    return tuple(facts)


def _history(shown: Searched) -> Figure:
    axis = search.span([study for _, study in shown], epochs=False)
    plots, without = [], []
    for side, study in shown:
        drawn = search.history(study, side.index, axis)
        tint = colour(side.index)
        own = (Key(text("figures.trial"), tint), Key(text("figures.best_so_far"), tint, "line"))
        plots.append(plot(f"history-{side.index}", drawn, side.title, keys=(*own, *_baseline_key(study))))
        gone = [f"{side.title} {_title(t)} ({_state(t)})" for t in study.trials if t.value is None]
        without += gone
    said = text("search.without", list=", ".join(without)) if without else ""
    caption = text("search.history_caption", without=" " + said if said else "")
    return Figure(text("search.history"), tuple(plots), caption)


def _learning(shown: Searched) -> Figure:
    axis = search.span([study for _, study in shown])
    plots = [
        plot(
            f"learning-{side.index}",
            search.learning(study, side.index, axis),
            side.title,
            keys=_keys(side, study),
        )
        for side, study in shown
    ]
    return Figure(text("search.learning"), tuple(plots), text("search.learning_caption"))


def _parallel(shown: Searched) -> list[Block]:
    plots, few = [], []
    for side, study in shown:
        if len(searches.valued(study)) < 2:
            few.append(text("search.parallel_few", title=side.title))
            continue
        drawn = search.parallel(study, side.index)
        plots.append(plot(f"parallel-{side.index}", drawn, side.title, keys=_keys(side, study)))
    made: list[Block] = []
    if plots:
        made.append(Figure(text("search.parallel"), tuple(plots), text("search.parallel_caption")))
    return [*made, Prose(tuple(few), tone="note")] if few else made


def _importance(shown: Searched) -> list[Block]:
    plots, missing = [], []
    for side, _ in shown:
        found = searches.importance(side)
        if found.missing:
            values = {"trials": found.trials, "needed": searches.TRIALS_FOR_IMPORTANCE, "title": side.title}
            missing.append(text(f"search.importance_{found.missing}", **values))
            continue
        plots.append(plot(f"importance-{side.index}", search.importance(found.shares, side.index), side.title))
    made: list[Block] = []
    if plots:
        made.append(Figure(text("search.importance"), tuple(plots), text("search.importance_caption")))
    return [*made, Prose(tuple(missing), tone="note")] if missing else made


def _table(side: Candidate, study: StudyRecord) -> Table:
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    scores = ("value", "official", *(("final",) if study.final_scores else ()), "last", "best_epoch")
    columns = [
        Cell(text("search.trial")),
        *(Cell(text(f"search.{key}"), number=True) for key in scores),
        *(Cell(name, number=True) for name in names),
        Cell(text("search.seconds"), number=True),
        Cell(text("search.state")),
    ]
    promoted = {model.card.trial for model in side.models}
    values = [t.value for t in study.trials if t.value is not None and not t.baseline]
    best = max(values, default=None)
    rows = tuple(_row(t, names, t.index in promoted, best, study.final_scores) for t in study.trials)
    title = text("search.table", title=side.title)
    return Table(f"trials-{side.name}", title, tuple(columns), rows, text("search.table_caption"), dense=True)


def _row(
    trial: TrialRecord, names: list[str], promoted: bool, best: float | None, final: Mapping[int, float]
) -> tuple[Cell, ...]:
    top = trial.best_epoch
    mark = f" {_BASELINE}" if trial.baseline else f" {_PROMOTED}" if promoted else ""
    last = trial.epochs[-1].miou if trial.epochs else None
    highest = trial.value is not None and trial.value == best and not trial.baseline
    return (
        Cell(_title(trial) + mark),
        _scored(trial.value, highest),
        _scored(top.miou_official if top else None),
        *([_scored(final.get(trial.index))] if final else []),
        _scored(last),
        Cell(str(top.epoch) if top else "", number=True),
        *(_param(trial.params.get(name, "")) for name in names),
        Cell(decimals(trial.seconds, 1) if trial.seconds else "", number=True, values=(trial.seconds,)),
        Cell(f"{_state(trial)}: {trial.reason}" if trial.reason else _state(trial)),
    )


def _scored(value: float | None, best: bool = False) -> Cell:
    return Cell(score(value), best=best, number=True, values=() if value is None else (value,))


def _param(value: object) -> Cell:
    return Cell(scalar(value), number=True, values=(value,) if isinstance(value, float) else ())


def _keys(side: Candidate, study: StudyRecord) -> tuple[Key, ...]:
    best, others = text("figures.best_trial"), text("figures.other_trials")
    return (Key(best, colour(side.index), "line"), Key(others, GREY, "line"), *_baseline_key(study))


def _baseline_key(study: StudyRecord) -> tuple[Key, ...]:
    return (Key(text("figures.baseline"), GREY, "dash"),) if any(t.baseline for t in study.trials) else ()


def _title(trial: TrialRecord) -> str:
    return text("search.baseline") if trial.baseline else str(trial.index)


def _state(trial: TrialRecord) -> str:
    return text(f"state.{trial.state}")
