"""What the searches bought, in numbers: the best after k trials and after a time, and how sure the choice is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench import stats
from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.ledger import studies
from segbench.report.numbers.comparison import Candidate, Comparison

_GRID = 241  # budgets between nothing and the longer search
NAN = float("nan")


class Tuning(NamedTuple):
    """One search. Scores are mIoU on the selection images; NaN where nothing is known."""

    side: Candidate
    values: tuple[float, ...]  # of the planned trials that ended, by trial; NaN where one failed
    seconds: tuple[float, ...]  # what each took
    median: float
    best: float
    baseline: float  # the known-good values
    by_trials: tuple[float, ...]  # expected best after 1, 2, … trials
    chance: float  # that the best trial is the best, 0..1
    ranks: stats.Agreement  # of mIoU and official mIoU over the trials
    rescored: stats.Agreement  # of mIoU on the selection and on the final images, over those that kept weights


class Budgets(NamedTuple):
    """The expected best within each budget, and where the leader changes for good."""

    seconds: NDArray[np.float64]  # (B,) from 0 to the longer search
    expected: tuple[NDArray[np.float64], ...]  # (B,) per side
    ahead: int | None  # which of the first two leads at the largest budget; None where neither does
    crossover: float | None  # seconds from which on it does, where the other one led before


def tunings(ledgers: Comparison) -> list[Tuning]:
    """One per searched side that has a trial with a value."""
    return [found for side in ledgers.candidates if side.study and (found := _tuning(side, side.study))]


def comparable(found: Sequence[Tuning]) -> bool:
    """Whether all selected on the same images."""
    studies = [one.side.study for one in found if one.side.study]
    return len({(s.data_fingerprint, s.subset, s.protocol.search.seed) for s in studies}) <= 1


def budgets(found: Sequence[Tuning]) -> Budgets | None:
    """None below two searches of two ended trials each, or where they cannot be set against each other."""
    if len(found) < 2 or min(len(one.values) for one in found) < 2 or not comparable(found):
        return None
    grid = np.linspace(0, max(sum(one.seconds) for one in found), _GRID)
    expected = []
    for one in found:
        curve = stats.expected_best_by_cost(one.values, one.seconds, grid)
        curve[grid > sum(one.seconds) + grid[1]] = NAN  # nothing is known of a search longer than it was
        expected.append(curve)
    lengths = [sum(one.seconds) for one in found[:2]]
    common = grid <= min(lengths)
    a, b = expected[0][common], expected[1][common]
    lead = a[-1] - b[-1]
    ahead = None if lead == 0 else int(lead < 0)
    return Budgets(grid, tuple(expected), ahead, stats.crossover(grid[common].tolist(), a.tolist(), b.tolist()))


def shared_seconds(found: Sequence[Tuning]) -> float:
    """How long the shorter of the first two searches was."""
    return min(sum(one.seconds) for one in found[:2])


def _tuning(side: Candidate, study: StudyRecord) -> Tuning | None:
    ended = [t for t in study.planned if t.state.ended]
    values = [NAN if t.value is None else t.value for t in ended]
    known = [v for v in values if not math.isnan(v)]
    best = studies.best(study)
    if not known or best is None:
        return None
    baseline = next((t.value for t in study.trials if t.baseline and t.value is not None), NAN)
    official = [t.best_epoch.miou_official if t.best_epoch else None for t in ended]
    return Tuning(
        side=side,
        values=tuple(values),
        seconds=tuple(t.seconds for t in ended),
        median=float(np.median([0.0 if math.isnan(v) else v for v in values])),
        best=max(known),
        baseline=float(baseline),
        by_trials=tuple(stats.expected_best_curve([0.0 if math.isnan(v) else v for v in values]).tolist()),
        chance=_chance(side, ended, best.index),
        ranks=stats.rank_agreement([t.value for t in ended], official),
        rescored=stats.rank_agreement([t.value for t in ended], [study.final_scores.get(t.index) for t in ended]),
    )


def _chance(side: Candidate, ended: Sequence[TrialRecord], best: int) -> float:
    """From the confusions the search kept of its trials; NaN where one with a value has none."""
    indices = [t.index for t in ended if t.value is not None and t.state == TrialState.COMPLETE]
    if best not in indices or not set(indices) <= set(side.trials):
        return NAN
    return float(stats.probability_best([side.trials[index] for index in indices])[indices.index(best)])
