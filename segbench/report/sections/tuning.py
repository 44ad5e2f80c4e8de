"""What tuning bought, and what a search of another budget would have found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segbench import stats
from segbench.report.figures import search
from segbench.report.figures.theme import MANY
from segbench.report.numbers import tuning
from segbench.report.numbers.comparison import CONTENDERS
from segbench.report.numbers.tuning import Budgets, Tuning
from segbench.report.page.blocks import Block, Cell, Figure, Plot, Prose, Table, plot
from segbench.report.sections import sentences
from segbench.report.sections.heads import candidate_cell, candidate_keys, transposed
from segbench.report.text.i18n import decimals, percent, points, score, score_range, signed, text


def expected(tuned: Sequence[Tuning]) -> list[Block]:
    """The expected best by number of trials and by time; or why there is none."""
    budgets = tuning.budgets(tuned)
    if budgets is None:
        key = "expected_few" if tuning.comparable(tuned) else "unequal"
        return [Prose((text(f"search.{key}"),), tone="note")]
    lows = [v for own in tuned for v in own.by_trials]
    axis = (max(min(lows) - 0.01, 0.0), max(own.best for own in tuned) * 1.05)
    said = Prose((sentences.budget(tuned, budgets),), tone="lead")
    caption = text("search.expected_caption")
    if len(tuned) >= MANY:
        plots = tuple(_panels(tuned, budgets, axis))
        caption += f" {text('figures.behind_caption')}"
        return [said, Figure(text("search.expected"), plots, caption, shown=1, small=True)]
    keys = candidate_keys([own.candidate for own in tuned])
    by_trials, by_time = search.expected_by_trials(tuned, axis), search.expected_by_time(tuned, budgets, axis)
    plots = (
        plot("expected-trials", by_trials, text("search.expected_trials"), keys=keys),
        plot("expected-time", by_time, text("search.expected_hours"), keys=keys),
    )
    return [said, Figure(text("search.expected"), plots, caption)]


def _panels(tuned: Sequence[Tuning], budgets: Budgets, axis: tuple[float, float]) -> Iterator[Plot]:
    """A panel per architecture, the others grey behind it."""
    by_trials, by_time = text("search.expected_trials"), text("search.expected_hours")
    for own in tuned:
        made = search.expected_by_trials(tuned, axis, own.candidate)
        yield _panel(f"expected-trials-{own.candidate.index}", made, own.candidate.title, by_trials)
    for own in tuned:
        made = search.expected_by_time(tuned, budgets, axis, own.candidate)
        yield _panel(f"expected-time-{own.candidate.index}", made, own.candidate.title, by_time)


def _panel(name: str, made: Any, title: str, choice: str) -> Plot:
    return Plot(name, made, f"{choice}, {title}", made.layout.height, title, choice=choice)


def bought(tuned: Sequence[Tuning]) -> Table:
    """The gain of tuning, and how far its choice can be trusted: a column per search."""
    rows = [
        _row(tuned, "best_trial", lambda own: own.best, score),
        _row(tuned, "median_trial", lambda own: own.median, score),
        _row(tuned, "gain", lambda own: own.best - own.median, _gain),
    ]
    if any(not math.isnan(own.baseline) for own in tuned):
        rows.append(_row(tuned, "known", lambda own: own.baseline, score))
        rows.append(_row(tuned, "gain_known", lambda own: own.best - own.baseline, _gain))
    rows.append(_row(tuned, "next_trial", _last_gain, _gain))
    rows.append((Cell(text("search.another")), *(_another(own) for own in tuned)))
    if not all(math.isnan(own.chance) for own in tuned):
        rows.append(_row(tuned, "chance", lambda own: own.chance, percent))
    if any(own.rescored.n for own in tuned):
        rows.append((Cell(text("search.rescored")), *(_agreement(own.rescored) for own in tuned)))
    rows.append((Cell(text("search.ranks")), *(_agreement(own.ranks) for own in tuned)))
    heads = [candidate_cell(own.candidate, number=True) for own in tuned]
    head = (Cell(text("search.measure")), *heads)
    made = Table("tuning", text("search.bought"), head, tuple(rows), _caption(tuned))
    return transposed(made, text("many.architecture")) if len(tuned) >= MANY else made


def _caption(tuned: Sequence[Tuning]) -> str:
    sentences = [text("search.bought_caption")]
    if any(own.complete > CONTENDERS for own in tuned):
        sentences.append(text("search.chance_contenders", contenders=CONTENDERS))
    if any(math.isnan(own.chance) for own in tuned):
        sentences.append(text("search.chance_none"))
    if len(tuned) == 2 and tuning.comparable(tuned):
        first, second = sorted(tuned, key=lambda own: -own.best)
        share = percent(tuning.finds_more(first, second))
        titles = {"first": first.candidate.title, "second": second.candidate.title}
        sentences.append(text("search.another_order", share=share, **titles))
    return " ".join(sentences)


def _row(
    tuned: Sequence[Tuning], key: str, value: Callable[[Tuning], float], written: Callable[[float], str]
) -> tuple[Cell, ...]:
    cells = [Cell(written(v), number=True, values=(v,)) for v in map(value, tuned)]
    return (Cell(text(f"search.{key}")), *cells)


def _another(own: Tuning) -> Cell:
    found = own.again.interval()
    return Cell(score(float(own.again.values.mean())), score_range(found), number=True, values=tuple(found))


def _last_gain(own: Tuning) -> float:
    return own.by_trials[-1] - own.by_trials[-2] if len(own.by_trials) > 1 else math.nan


def _gain(value: float) -> str:
    return points(value) if math.isnan(value) else f"{signed(value)} {text('common.points')}"


def _agreement(agreement: stats.Agreement) -> Cell:
    low, high = decimals(agreement.low, 2), decimals(agreement.high, 2)
    ends = "" if math.isnan(agreement.low) else f"({text('common.range', low=low, high=high)})"
    values = (agreement.tau, agreement.low, agreement.high)
    return Cell(decimals(agreement.tau, 2), ends, number=True, values=values)
