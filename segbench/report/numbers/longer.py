"""The full trainings' curves: whether they still rose, what more epochs would add, and where the leader changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segbench import stats
from segbench.report.numbers.comparison import Candidate

_FACTOR = 2  # the curves are continued to so many times their epochs


class Outlook(NamedTuple):
    """One architecture's curve: the mIoU of each epoch, the mean over its seeds."""

    candidate: Candidate
    scores: tuple[float, ...]
    rise: stats.Rise
    longer: stats.Longer | None  # None under a schedule, which ends the curve by itself
    schedule: str  # of the learning rate

    @property
    def more(self) -> int:
        """How many epochs the curve is continued by."""
        return len(self.scores) * (_FACTOR - 1)


class Crossing(NamedTuple):
    """`first` was ahead of `second` at the end, comparing the best epoch so far."""

    first: Candidate
    second: Candidate
    epoch: int | None  # from which on it was; None if it never was behind


def outlooks(candidates: Sequence[Candidate]) -> list[Outlook]:
    """One per candidate whose curves are all there and have the same epochs."""
    return [_outlook(candidate, curve) for candidate in candidates if (curve := _curve(candidate))]


def crossings(found: Sequence[Outlook]) -> list[Crossing]:
    """The one ahead at the end against each other one, best first; ties are left out."""
    order = sorted(found, key=lambda outlook: (-max(outlook.scores), outlook.candidate.name))
    return [made for other in order[1:] if (made := _crossing(order[0], other))]


def _curve(candidate: Candidate) -> tuple[float, ...]:
    curves = [[epoch.value for epoch in model.epochs] for model in candidate.models]
    numbers = {tuple(epoch.epoch for epoch in model.epochs) for model in candidate.models}
    if len(numbers) != 1 or next(iter(numbers)) != tuple(range(1, len(curves[0]) + 1)):
        return ()  # MLflow lost a run, or was asked for other epochs
    return tuple(np.mean(curves, axis=0).tolist())


def _outlook(candidate: Candidate, scores: tuple[float, ...]) -> Outlook:
    schedule = candidate.models[0].card.hyperparameters.recipe.schedule
    longer = stats.continued(scores, len(scores) * _FACTOR) if schedule == "constant" else None
    return Outlook(candidate, scores, stats.last_rise(scores), longer, schedule)


def _crossing(first: Outlook, second: Outlook) -> Crossing | None:
    common = min(len(first.scores), len(second.scores))
    a, b = (np.maximum.accumulate(outlook.scores[:common]).tolist() for outlook in (first, second))
    if a[-1] == b[-1]:
        return None
    ahead, behind = (first, second) if a[-1] > b[-1] else (second, first)
    epoch = stats.crossover(range(1, common + 1), a, b)
    return Crossing(ahead.candidate, behind.candidate, None if epoch is None else round(epoch))
