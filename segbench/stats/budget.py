"""The expected result of a search: the best of k trials, the best within a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segbench.stats.bootstrap import RESAMPLES, Sampled

Values = NDArray[np.float64]

_EXACT = 16  # up to so many trials, all 2**n subsets are enumerated; above, random orders are drawn
_ORDERS, _FEWEST_ORDERS = 20_000, 1_000
_DRAWS = 4_000_000  # numbers drawn for all orders together
_SEED = 0
_ROUNDING = 1e-9  # relative: sums of costs that equal the budget but for rounding are within it


class _Steps(NamedTuple):
    """The expected best as a function of the budget: it rises by `gains` where the budget reaches `costs`."""

    costs: Values
    gains: Values


def expected_best(values: Sequence[float], k: int) -> float:
    """The expected maximum of k of the n observed values, drawn without replacement: the average result of a search of
    k such trials.

    values: n numbers in any order, such as the mIoU of each trial. k: 1..n, else ValueError. With the values sorted,
    v(1) ≤ … ≤ v(n), it is Σ v(i) · C(i-1, k-1) / C(n, k) over i = k … n, as i is the highest rank in C(i-1, k-1) of the
    C(n, k) subsets: the unbiased estimator of the expected maximum of k independent trials (R. Tang et al., Showing
    Your Work Doesn't Always Work, ACL 2020, arXiv 2004.13705), where J. Dodge et al. (EMNLP 2019, arXiv 1909.03004)
    draw with replacement and so estimate too low.

    A failed trial must stay in `values`, or the search looks better than it was. The caller chooses its value: 0.0, the
    mIoU of having no model, or NaN, which ranks below every number; then the result is NaN if all k trials may have
    failed, that is for k up to the number of NaN.
    """
    curve = expected_best_curve(values)
    if not 1 <= k <= len(curve):
        raise ValueError(f"k must be 1..{len(curve)}, the number of values, not {k}")
    return float(curve[k - 1])


def expected_best_curve(values: Sequence[float]) -> Values:
    """`expected_best` for all k = 1 … n at once: (n,), from the mean of the values up to their maximum."""
    ranked = np.asarray(values, np.float64)
    failed = int(np.isnan(ranked).sum())
    ranked = np.concatenate([np.zeros(failed), np.sort(ranked[~np.isnan(ranked)])])
    n = len(ranked)
    k, i = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)[None]
    # C(n-1, k-1) / C(n, k) = k / n, and C(i-1, k-1) / C(i, k-1) = (i-k+1) / i leads from each rank to the one below.
    ratios = np.where(i < n, np.maximum(i - k + 1, 0) / i, k / n)
    weights = np.cumprod(ratios[:, ::-1], axis=1)[:, ::-1]
    curve: Values = weights @ ranked
    curve[:failed] = np.nan
    return curve


def expected_best_by_cost(
    values: Sequence[float], costs: Sequence[float], budgets: ArrayLike, nothing: float = 0.0
) -> Values:
    """The expected best value found within each budget, when the n observed trials run in random order.

    values: n numbers, such as mIoU. costs: n numbers ≥ 0, such as the GPU-hours each trial took. budgets: (B,), in the
    unit of the costs. Returns (B,), which never falls as the budget grows. Precisely: every order of the trials is
    equally likely, and they run one after another. The first trial that cannot finish within the rest of the budget is
    not counted, and no other runs after it, because a trial's cost is not known beforehand. The result is the mean over
    the orders of the best value among the finished trials, or of `nothing` if none finished. NaN is a failed trial,
    which costs and has the value `nothing`. Raises ValueError for values below `nothing`, which make no sense.

    Exact up to 16 trials: a set U of finished trials is a beginning of the order with probability 1 / C(n, |U|), and
    the last of them raised the best by top(U) - second(U) if it was the best one, with probability 1 / |U|. Hence

        E(t) = nothing + Σ (top(U) - second(U)) / (|U| · C(n, |U|))  over all U of total cost ≤ t,

    with second(U) = `nothing` for a single trial. More trials: the mean over seeded random orders,
    20,000 of them, fewer from 200 trials on, 1,000 at least: an order of n trials is n numbers.
    """
    worth, spent = np.asarray(values, np.float64), np.asarray(costs, np.float64)
    if worth.shape != spent.shape or worth.ndim != 1:
        raise ValueError(f"each of {worth.shape} values needs a cost, found {spent.shape}")
    if not (np.isfinite(spent).all() and (spent >= 0).all()):
        raise ValueError("costs must be finite and at least 0")
    worth = np.where(np.isnan(worth), nothing, worth)
    if (worth < nothing).any():
        raise ValueError(f"a value lies below {nothing:g}, which is what no finished trial is worth")
    steps = (_counted if len(worth) <= _EXACT else _sampled)(worth, spent, nothing)
    order = np.argsort(steps.costs, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(steps.gains[order])])
    limits = np.asarray(budgets, np.float64) * (1 + _ROUNDING)
    return np.asarray(nothing + reached[np.searchsorted(steps.costs[order], limits, side="right")])


def another_search(values: Sequence[float]) -> Sampled:
    """The best of another draw of as many trials, by drawing the n observed trials with replacement: the observed best
    and its values in the resamples. Two searches' are independent.

    values: n numbers, at least one; NaN is a failed trial, which has the value 0. No resample holds a trial better than
    the best one, so that this understates what luck may add; it says how much of the best is owed to a single trial.
    """
    worth = np.nan_to_num(np.asarray(values, np.float64), nan=0.0)
    chosen = np.random.default_rng([_SEED, len(worth)]).integers(0, len(worth), (RESAMPLES, len(worth)))
    return Sampled(float(worth.max()), worth[chosen].max(1))


def crossover(budgets: Sequence[float], first: Sequence[float], second: Sequence[float]) -> float | None:
    """The smallest budget from which on the lead has changed permanently; None if it has not.

    budgets: (B,) ascending; first, second: (B,) the expected results of two searches at each, such as from
    `expected_best_by_cost`. Precisely: the leader is strictly above the other at the largest budget. The result is the
    smallest given budget from which on the leader is strictly above at all budgets, if the other was strictly above at
    some smaller budget. None for a tie at the largest budget, and for a leader that was never behind. Budgets with NaN
    are skipped. The result is one of `budgets`: a finer grid makes it more precise.
    """
    lead = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    defined = np.isfinite(lead)
    at, signs = np.asarray(budgets, np.float64)[defined], np.sign(lead[defined])
    if not len(signs) or signs[-1] == 0 or not (signs == -signs[-1]).any():
        return None
    return float(at[np.flatnonzero(signs != signs[-1])[-1] + 1])


def _counted(values: Values, costs: Values, nothing: float) -> _Steps:
    """Enumerates all non-empty subsets by adding trials in ascending order of value: the added one is the new top."""
    n = len(values)
    total, size = np.zeros(1), np.zeros(1, np.int64)
    top, second = np.full(1, nothing), np.full(1, nothing)
    for index in np.argsort(values, kind="stable"):
        total, size = np.append(total, total + costs[index]), np.append(size, size + 1)
        second, top = np.append(second, top), np.append(top, np.full(len(top), values[index]))
    chance = np.array([0.0, *(1 / (s * math.comb(n, s)) for s in range(1, n + 1))])
    return _Steps(total, (top - second) * chance[size])


def _sampled(values: Values, costs: Values, nothing: float) -> _Steps:
    """Draws random orders. Only trials that raise the best of their order matter: about ln n of n."""
    generator = np.random.default_rng(_SEED)
    orders_drawn = min(max(_DRAWS // len(values), _FEWEST_ORDERS), _ORDERS)
    orders = generator.permuted(np.tile(np.arange(len(values)), (orders_drawn, 1)), axis=1)
    best = np.maximum.accumulate(values[orders], axis=1)
    gains = np.diff(best, axis=1, prepend=nothing) / orders_drawn
    raises = gains > 0
    return _Steps(np.cumsum(costs[orders], axis=1)[raises], gains[raises])
