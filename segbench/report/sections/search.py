"""The section of the searches: what tuning bought and at which budget, then trials, configurations, importance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from segbench.core.study_record import StudyRecord, TrialState
from segbench.ledger import samplers
from segbench.report.figures import search
from segbench.report.figures.theme import GREY, MANY, colour
from segbench.report.numbers import searches, seen
from segbench.report.numbers import tuning as tunings
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.page.blocks import Block, Figure, Fold, Heading, Key, Plot, Prose, Section, plot
from segbench.report.sections import trials, tuning
from segbench.report.sections.heads import mark
from segbench.report.text.i18n import duration, listed, percent, scalar, text

_NAMED = 12  # so many trials without a value are named; of more, it is said how many there are
Searched = Sequence[tuple[Candidate, StudyRecord]]


def section(comparison: Comparison) -> Section:
    """Everything about the searches, side by side; architectures without a study are left out."""
    searched = [(candidate, candidate.study) for candidate in comparison.candidates if candidate.study]
    blocks: list[Block] = [Prose((text("search.none"),), tone="note")]
    if searched:
        tuned = tunings.tunings(comparison)
        blocks = [Prose((text("search.lead"),), tone="lead"), *tuning.expected(tuned)]
        if tuned:
            blocks.append(tuning.bought(tuned))
        blocks += _figures([(candidate, study) for candidate, study in searched if any(t.epochs for t in study.trials)])
        for candidate, study in searched:
            of_one = (Prose(_facts(study)), trials.table(candidate, study))
            if len(searched) >= MANY:
                blocks.append(Fold(text("search.table", title=candidate.title), of_one, *mark(candidate)))
            else:
                blocks += [Heading(candidate.title, *mark(candidate)), *of_one]
    return Section("search", text("search.title"), text("search.short"), tuple(blocks))


def _figures(searched: Searched) -> list[Block]:
    """Of the searches that have an epoch to show. Of many trials, curves and lines are drawn of some."""
    if not searched:
        return []
    notes = tuple(note for candidate, study in searched if (note := trials.thinned_note(candidate, study)))
    shown = [(candidate, searches.thinned(study, candidate.promoted_trials)) for candidate, study in searched]
    return [
        _history(searched),
        *([Prose(notes, tone="note")] if notes else []),
        _learning(shown),
        *_parallel(shown),
        *_importance(searched),
    ]


def _facts(study: StudyRecord) -> tuple[str, ...]:
    used, asked = searches.budget(study), study.protocol.search
    facts = [
        searches.said(
            used,
            "search.budget",
            "search.budget_hours",
            seconds=duration(used.seconds),
            train=asked.train_images,
            val=asked.val_images,
        )
        + " "
        + text("search.how", sampler=asked.sampler, pruner=asked.pruner, seed=asked.seed)
    ]
    if cut := [t for t in study.planned if t.state == TrialState.COMPLETE and len(t.epochs) < asked.epochs]:
        facts.append(text("search.cut", list=", ".join(f"{t.index} ({len(t.epochs)})" for t in cut)))
    facts += _starts(study)
    if used.pruned:
        share = percent(used.saved / max(used.ended * used.epochs, 1))
        facts.append(text("search.pruned", pruned=used.pruned, ended=used.ended, saved=used.saved, share=share))
    if asked.pruner == "halving":
        facts.append(text("search.rungs", epochs=", ".join(map(str, samplers.rungs(asked)))))
    if asked.select_on == "val":
        facts.append(text("search.select_on_val"))
    if augmentation := searches.augmentation(study):
        own = "search.augmented_own" if study.architecture.augment is not None else "search.augmented"
        facts.append(text(own, how=augmentation))
    if how := seen.said(study.protocol.train.crop, study.protocol.passes):
        facts.append(text("seen.how", how=how))
    if recipe := searches.recipe(study):
        facts.append(text("search.recipe", fields=recipe))
    return (*facts, *map(_at_bound, searches.at_bounds(study)))


def _at_bound(found: searches.AtBound) -> str:
    low, high = scalar(found.range.low), scalar(found.range.high)
    key = "search.at_upper_bound" if found.upper else "search.at_lower_bound"
    return text(key, name=found.name, value=scalar(found.value), low=low, high=high)


def _starts(study: StudyRecord) -> list[str]:
    """Where the configurations come from that were not drawn."""
    known = [index for index, source in study.starts.items() if source == "baseline"]
    others = {index: source for index, source in study.starts.items() if source != "baseline"}
    facts = [text("search.enqueued", index=index) for index in known]
    if others:
        listing = ", ".join(f"{index} ({source})" for index, source in others.items())
        facts.append(text("search.warm_start", list=listing, protocol=study.protocol.search.warm_start))
    return facts


def _history(shown: Searched) -> Figure:
    axis = search.span([study for _, study in shown], epochs=False)
    plots, without, many = [], [], len(shown) >= MANY
    for candidate, study in shown:
        drawn = _panel(search.history(study, candidate.index, axis), many)
        keys = () if many else _history_keys(colour(candidate.index), study)
        plots.append(plot(f"history-{candidate.index}", drawn, candidate.title, keys=keys))
        without += _without_value(candidate, study)
    shared = _history_keys(GREY, shown[0][1]) if many else ()
    said = text("search.without", list=", ".join(without)) if without else ""
    caption = text("search.history_caption", without=" " + said if said else "")
    return Figure(text("search.history"), tuple(plots), caption, small=many, keys=shared)


def _history_keys(tint: str, study: StudyRecord) -> tuple[Key, ...]:
    own = (Key(text("figures.trial"), tint), Key(text("figures.best_so_far"), tint, "line"))
    return (*own, *_baseline_key(study))


def _without_value(candidate: Candidate, study: StudyRecord) -> list[str]:
    without = [trial for trial in study.trials if trial.value is None]
    if len(without) <= _NAMED:
        return [f"{candidate.title} {trials.title(trial)} ({trials.state(trial)})" for trial in without]
    counts = Counter(map(trials.state, without))
    return [f"{candidate.title} {count} × {state}" for state, count in counts.items()]


def _learning(shown: Searched) -> Figure:
    axis, many = search.span([study for _, study in shown]), len(shown) >= MANY
    plots = [
        plot(
            f"learning-{candidate.index}",
            _panel(search.learning(study, candidate.index, axis), many),
            candidate.title,
            keys=() if many else _keys(candidate, study),
        )
        for candidate, study in shown
    ]
    shared = _keys(*shown[0])[1:] if many else ()  # the best trial's colour is each one's own
    return Figure(text("search.learning"), tuple(plots), text("search.learning_caption"), small=many, keys=shared)


def _parallel(shown: Searched) -> list[Block]:
    plots, few = [], []
    for candidate, study in shown:
        if len(searches.valued(study)) < 2:
            few.append(text("search.parallel_few", title=candidate.title))
            continue
        drawn = search.parallel(study, candidate.index)
        plots.append(_chosen(f"parallel-{candidate.index}", drawn, candidate, _keys(candidate, study)))
    made: list[Block] = []
    if plots:
        made.append(_choosing("parallel", plots))
    return [*made, Prose(tuple(few), tone="note")] if few else made


def _importance(shown: Searched) -> list[Block]:
    plots: list[Plot] = []
    without: dict[tuple[str, int], list[str]] = {}  # titles by reason and number of trials
    for candidate, _ in shown:
        importance = searches.importance(candidate)
        if importance.missing:
            without.setdefault((importance.missing, importance.trials), []).append(candidate.title)
            continue
        drawn = search.importance(importance.shares, candidate.index)
        plots.append(_chosen(f"importance-{candidate.index}", drawn, candidate))
    made: list[Block] = [_choosing("importance", plots)] if plots else []
    missing = tuple(
        text(f"search.importance_{reason}", title=listed(titles), trials=trials, needed=searches.TRIALS_FOR_IMPORTANCE)
        for (reason, trials), titles in without.items()
    )
    return [*made, Prose(missing, tone="note")] if missing else made


def _panel(drawn: Any, many: bool) -> Any:
    """One of many is lower, without the axis title that the heading above all of them stands for."""
    if many:
        drawn.update_layout(height=search.PANEL, yaxis_title=None, margin_l=40)
        drawn.update_xaxes(dtick=None, nticks=6)
    return drawn


def _chosen(name: str, drawn: Any, candidate: Candidate, keys: tuple[Key, ...] = ()) -> Plot:
    return Plot(name, drawn, candidate.title, drawn.layout.height, candidate.title, keys=keys, choice=candidate.title)


def _choosing(key: str, plots: list[Plot]) -> Figure:
    """All side by side; of many, two at a time."""
    shown = 2 if len(plots) >= MANY else 0
    return Figure(text(f"search.{key}"), tuple(plots), text(f"search.{key}_caption"), shown=shown)


def _keys(candidate: Candidate, study: StudyRecord) -> tuple[Key, ...]:
    best, others = text("figures.best_trial"), text("figures.other_trials")
    return (Key(best, colour(candidate.index), "line"), Key(others, GREY, "line"), *_baseline_key(study))


def _baseline_key(study: StudyRecord) -> tuple[Key, ...]:
    return (Key(text("figures.baseline"), GREY, "dash"),) if any(t.baseline for t in study.trials) else ()
