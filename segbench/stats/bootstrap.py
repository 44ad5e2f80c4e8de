"""How far a score on a few hundred images can be trusted: the bootstrap over images.

B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, Chapman & Hall 1993: resampling (ch. 6), paired data
(ch. 8), percentile intervals (ch. 13). Images are drawn with replacement, their raw confusions are summed, and the
score is computed of each sum, as a score of all pixels together must be. Two models are compared on the *same* draws:
what makes an image hard for both cancels out.

What it does not cover: another seed, another training, and that neighbouring frames of one drive resemble each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import metrics

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
Statistic = Callable[[Counts], Values]  # (…, 35, 8) raw confusions to (…) or (…, 8) scores

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


class Interval(NamedTuple):
    """A number and the percentile interval around it; NaN where the number is undefined."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return bool(self.low > 0 or self.high < 0)


def miou(raw_confusion: Counts) -> Values:
    """(…, 35, 8) to (…): the mean IoU over the 8 categories, absent ones skipped, as metrics.scores computes it."""
    return _mean(iou(raw_confusion))


def miou_official(raw_confusion: Counts) -> Values:
    """(…, 35, 8) to (…): the mean over the 7 official categories."""
    return _mean(metrics.official_iou(raw_confusion))


def pixel_accuracy(raw_confusion: Counts) -> Values:
    """(…, 35, 8) to (…): correct pixels over all pixels."""
    categories = metrics.category_confusion(raw_confusion)
    hits = np.trace(categories, axis1=-2, axis2=-1)
    return np.asarray(hits / np.maximum(categories.sum((-2, -1)), 1), np.float64)


def iou(raw_confusion: Counts) -> Values:
    """(…, 35, 8) to (…, 8): IoU per category; NaN where it occurs neither in truth nor in prediction."""
    return metrics.jaccard(metrics.category_confusion(raw_confusion))


@functools.lru_cache(maxsize=4)
def draws(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """(resamples, images): how often each image enters each resample. The same arguments give the same draws."""
    generator = np.random.default_rng(seed)
    times = generator.multinomial(images, np.full(images, 1 / images), size=resamples)
    times.setflags(write=False)  # it is kept for the next call
    return times


def resample(confusions: Counts, times: NDArray[np.int64]) -> Counts:
    """confusions: (N, 35, 8), times: (R, N) as `draws` makes it. Returns (R, 35, 8): each resample's sum."""
    flat = confusions.reshape(len(confusions), -1).astype(np.float64)  # exact: whole numbers far below 2**53
    sums = times.astype(np.float64) @ flat
    return sums.astype(np.int64).reshape(len(times), *confusions.shape[1:])


def interval(runs: Sequence[Counts], statistic: Statistic, level: float = LEVEL) -> list[Interval]:
    """The statistic's value and interval. `runs` holds one (N, 35, 8) array per seed, of the same images in the same
    order; the statistic is averaged over them. One Interval for a scalar statistic, 8 for one per category."""
    return _intervals(_estimate(runs, statistic), _resampled(runs, statistic), level)


def difference(
    first: Sequence[Counts], second: Sequence[Counts], statistic: Statistic, level: float = LEVEL
) -> list[Interval]:
    """The same of `first` minus `second`, paired: both are resampled alike. All arrays hold the same images."""
    estimate = _estimate(first, statistic) - _estimate(second, statistic)
    return _intervals(estimate, _resampled(first, statistic) - _resampled(second, statistic), level)


def superiority(first: Sequence[Counts], second: Sequence[Counts], statistic: Statistic) -> list[float]:
    """In which share (0..1) of the paired resamples `first` scores above `second`; a tie counts half to each.

    The arguments are those of `difference`, and so are the resamples. One share for a scalar statistic, 8 for one per
    category. Resamples in which either score is undefined are left out; NaN where none remains. It is not the
    probability that `first` is the better model: near 1 it says that another draw of such images would hardly turn the
    order round (the one-sided achieved significance level of the percentile bootstrap is 1 minus it).
    """
    one, other = _resampled(first, statistic), _resampled(second, statistic)
    defined = np.isfinite(one) & np.isfinite(other)
    wins = np.where(defined, (one > other) + 0.5 * (one == other), 0.0).sum(0)
    counts = defined.sum(0)
    shares = np.divide(wins, counts, out=np.full(len(wins), np.nan), where=counts > 0)
    return [float(share) for share in shares]


def _estimate(runs: Sequence[Counts], statistic: Statistic) -> Values:
    return np.asarray(np.mean([np.atleast_1d(statistic(run.sum(0))) for run in runs], axis=0))


def _resampled(runs: Sequence[Counts], statistic: Statistic) -> Values:
    """(R, 1) or (R, 8)."""
    times = draws(len(runs[0]))
    values = [statistic(resample(run, times)) for run in runs]
    return np.asarray(np.mean([v if v.ndim > 1 else v[:, None] for v in values], axis=0))


def _intervals(estimates: Values, values: Values, level: float) -> list[Interval]:
    tail = (1 - level) / 2
    found = []
    for estimate, column in zip(estimates, values.T, strict=True):
        defined = column[np.isfinite(column)]  # a rare category may be absent from a resample
        low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
        found.append(Interval(float(estimate), float(low), float(high)))
    return found


def _mean(per_category: Values) -> Values:
    defined = np.isfinite(per_category)
    total = np.where(defined, per_category, 0.0).sum(-1)
    count = defined.sum(-1)
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))
