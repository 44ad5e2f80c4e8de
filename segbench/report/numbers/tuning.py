"""What the searches bought, in numbers: the best after k trials and after a time, and how sure the choice is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench import stats
from segbench.core.study_record import StudyRecord, TrialState
from segbench.ledger import studies
from segbench.report.numbers.comparison import Candidate, Comparison, contenders

_GRID = 241  # budgets between nothing and the longer search
NAN = float("nan")


class Tuning(NamedTuple):
    """One search. Scores are mIoU on the selection images; NaN where nothing is known."""

    candidate: Candidate
    values: tuple[float, ...]  # of the planned trials that ended, by trial; NaN where one failed
    seconds: tuple[float, ...]  # what each took
    median: float
    best: float
    baseline: float  # the known-good values
    by_trials: tuple[float, ...]  # expected best after 1, 2, … trials
    again: stats.Sampled  # the best of another draw of as many trials
    complete: int  # trials
    chance: float  # that the best trial is the best of the contenders, 0..1
    ranks: stats.Agreement  # of mIoU and official mIoU over the trials
    rescored: stats.Agreement  # of mIoU on the selection and on the final images, over those that kept weights


class Budgets(NamedTuple):
    """The expected best within each budget, and where the leader changes for good."""

    seconds: NDArray[np.float64]  # (B,) from 0 to the longer search
    expected: tuple[NDArray[np.float64], ...]  # (B,) per candidate
    ahead: int | None  # which leads at the largest budget that all were given; None where none does alone
    crossover: float | None  # seconds from which on it does, where another one led before
    before: int | None  # which led just before that


def tunings(comparison: Comparison) -> list[Tuning]:
    """One per searched candidate that has a trial with a value."""
    return [
        tuning
        for candidate in comparison.candidates
        if candidate.study and (tuning := _tuning(candidate, candidate.study))
    ]


def comparable(tuned: Sequence[Tuning]) -> bool:
    """Whether all selected on the same images."""
    studies = [tuning.candidate.study for tuning in tuned if tuning.candidate.study]
    return len({(s.data_fingerprint, s.subset, s.protocol.search.seed) for s in studies}) <= 1


def budgets(tuned: Sequence[Tuning]) -> Budgets | None:
    """None below two searches of two ended trials each, or where they cannot be set against each other."""
    if len(tuned) < 2 or min(len(tuning.values) for tuning in tuned) < 2 or not comparable(tuned):
        return None
    grid = np.linspace(0, max(sum(tuning.seconds) for tuning in tuned), _GRID)
    expected = []
    for tuning in tuned:
        curve = stats.expected_best_by_cost(tuning.values, tuning.seconds, grid)
        curve[grid > sum(tuning.seconds) + grid[1]] = NAN  # nothing is known of a search longer than it was
        expected.append(curve)
    common = grid <= shared_seconds(tuned)
    shared = np.stack([curve[common] for curve in expected]).round(9)  # equal but for rounding is equal
    order = np.argsort(-shared[:, -1], kind="stable")
    ahead = int(order[0])
    if shared[order[0], -1] == shared[order[1], -1]:
        return Budgets(grid, tuple(expected), None, None, None)
    others = np.delete(shared, ahead, axis=0)
    seconds = grid[common]
    crossover = stats.crossover(seconds.tolist(), shared[ahead].tolist(), others.max(0).tolist())
    if crossover is None:
        return Budgets(grid, tuple(expected), ahead, None, None)
    overtaken = int(others[:, seconds < crossover][:, -1].argmax())
    return Budgets(grid, tuple(expected), ahead, crossover, overtaken + (overtaken >= ahead))


def finds_more(first: Tuning, second: Tuning) -> float:
    """In which share of other draws of both searches the first finds a better trial, 0..1; ties count half."""
    a, b = first.again.values[:, None], second.again.values
    return float(((a > b) + 0.5 * (a == b)).mean())


def shared_seconds(tuned: Sequence[Tuning]) -> float:
    """How long the shortest of the searches was."""
    return min(sum(tuning.seconds) for tuning in tuned)


def _tuning(candidate: Candidate, study: StudyRecord) -> Tuning | None:
    ended = [t for t in study.planned if t.state.ended]
    values = [NAN if t.value is None else t.value for t in ended]
    known = [v for v in values if not math.isnan(v)]
    best = studies.best(study)
    if not known or best is None:
        return None
    known_good = [t for t in study.trials if t.baseline or study.starts.get(t.index) == "baseline"]
    baseline = next((t.value for t in known_good if t.value is not None), NAN)
    official = [t.best_epoch.miou_official if t.best_epoch else None for t in ended]
    return Tuning(
        candidate=candidate,
        values=tuple(values),
        seconds=tuple(t.seconds for t in ended),
        median=float(np.median([0.0 if math.isnan(v) else v for v in values])),
        best=max(known),
        baseline=float(baseline),
        by_trials=tuple(stats.expected_best_curve([0.0 if math.isnan(v) else v for v in values]).tolist()),
        again=stats.another_search(values),
        complete=sum(t.state == TrialState.COMPLETE for t in ended),
        chance=_chance(candidate, study, best.index),
        ranks=stats.rank_agreement([t.value for t in ended], official),
        rescored=stats.rank_agreement([t.value for t in ended], [study.final_scores.get(t.index) for t in ended]),
    )


def _chance(candidate: Candidate, study: StudyRecord, best: int) -> float:
    """Among the contenders, from the confusions the search kept of them; NaN where one of them has none."""
    indices = contenders(study)
    if best not in indices or not set(indices) <= set(candidate.trial_runs):
        return NAN
    chances = stats.probability_best([candidate.trial_runs[i] for i in indices], candidate.value)
    return float(chances[indices.index(best)])
