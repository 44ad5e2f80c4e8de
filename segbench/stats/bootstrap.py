"""The uncertainty of a score on a few hundred images: the bootstrap over images.

B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, Chapman & Hall 1993: resampling (ch. 6), paired data
(ch. 8), percentile intervals (ch. 13). Images are drawn with replacement, their raw confusions are summed, and the
score is computed from each sum, because it is a score of all pixels together. Two models are compared on the *same*
draws, so that the difficulty of an image for both cancels out.

It does not cover another seed or another training: see `seeds`. Neighbouring frames of one drive are no independent
evidence: `clusters` draws whole drives or cities.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import metrics
from segbench.core.labels import LabelSet

Values = NDArray[np.float64]
Counts = NDArray[Any]  # whole numbers, but for the summed IoU of segments
Statistic = Callable[[Counts], Values]  # (…, R, C) raw confusions to (…) or (…, C) scores

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


class Sampled(NamedTuple):
    """A number and its values in R resamples. Two of the same draws are paired: their difference and ratio, too."""

    estimate: float
    values: Values  # (R,)

    def minus(self, other: Sampled) -> Sampled:
        return Sampled(self.estimate - other.estimate, self.values - other.values)

    def over(self, other: Sampled) -> Sampled:
        """The ratio; NaN over zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(other.values == 0, np.nan, self.values / other.values)
        return Sampled(self.estimate / other.estimate if other.estimate else float("nan"), values)

    def interval(self, level: float = LEVEL) -> Interval:
        """The percentile interval; resamples where the number is undefined are left out."""
        return _intervals(np.array([self.estimate]), self.values[:, None], level)[0]


def miou(labels: LabelSet) -> Statistic:
    """(…, R, C) to (…): the mean IoU over the classes, absent ones skipped, as metrics.scores computes it."""
    return lambda raw_confusion: mean_of_defined(iou(labels)(raw_confusion))


def miou_official(labels: LabelSet) -> Statistic:
    """(…, R, C) to (…): the official mean, over categories where the label set has them, as metrics.scores does."""
    per_class = metrics.parent_iou if labels.parents else metrics.official_iou
    return lambda raw_confusion: mean_of_defined(per_class(raw_confusion, labels))


def pixel_accuracy(labels: LabelSet) -> Statistic:
    """(…, R, C) to (…): correct pixels over all pixels that have a class."""

    def share(raw_confusion: Counts) -> Values:
        classes = metrics.class_confusion(raw_confusion, labels)
        hits = np.trace(classes, axis1=-2, axis2=-1)
        return np.asarray(hits / np.maximum(classes.sum((-2, -1)), 1), np.float64)

    return share


def iou(labels: LabelSet) -> Statistic:
    """(…, R, C) to (…, C): IoU per class; NaN where it occurs neither in truth nor in prediction."""
    return lambda raw_confusion: metrics.jaccard(metrics.class_confusion(raw_confusion, labels))


@functools.lru_cache(maxsize=4)
def draws(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """(resamples, images): how often each image enters each resample. The same arguments give the same draws."""
    generator = np.random.default_rng(seed)
    times = generator.multinomial(images, np.full(images, 1 / images), size=resamples)
    times.setflags(write=False)  # the cache shares it between calls
    return times


def resample(confusions: Counts, times: NDArray[np.int64]) -> Counts:
    """confusions: (N, R, C), times: (R, N) as `draws` makes it. Returns (R, …): each resample's sum. Counts that are
    not whole, such as the summed IoU of segments, stay so."""
    flat = confusions.reshape(len(confusions), -1).astype(np.float64)  # exact: whole numbers far below 2**53
    sums = times.astype(np.float64) @ flat
    whole = np.issubdtype(confusions.dtype, np.integer)
    summed: Counts = (sums.astype(np.int64) if whole else sums).reshape(len(times), *confusions.shape[1:])
    return summed


def interval(runs: Sequence[Counts], statistic: Statistic, level: float = LEVEL) -> list[Interval]:
    """The statistic's value and interval at `level` (0..1). `runs` holds one (N, R, C) array per seed, of the same
    images in the same order; the statistic is averaged over them. Returns one Interval for a scalar statistic, C for
    one per class."""
    return _intervals(_estimate(runs, statistic), _resampled(runs, statistic), level)


def difference(
    first: Sequence[Counts], second: Sequence[Counts], statistic: Statistic, level: float = LEVEL
) -> list[Interval]:
    """Like `interval`, for `first` minus `second`, paired: both use the same resamples. All arrays hold the same
    images."""
    estimate = _estimate(first, statistic) - _estimate(second, statistic)
    return _intervals(estimate, _resampled(first, statistic) - _resampled(second, statistic), level)


def sampled(runs: Sequence[Counts], statistic: Statistic, times: NDArray[np.int64]) -> Sampled:
    """A scalar statistic, as `interval` takes it, with its values in the resamples `times`."""
    return Sampled(float(_estimate(runs, statistic)[0]), _resampled(runs, statistic, times)[:, 0])


def sampled_difference(
    first: Sequence[Counts], second: Sequence[Counts], statistic: Statistic, times: NDArray[np.int64]
) -> Sampled:
    """The difference of a scalar statistic, as `difference` takes it, with its values in the resamples `times`."""
    return sampled(first, statistic, times).minus(sampled(second, statistic, times))


def superiority(first: Sequence[Counts], second: Sequence[Counts], statistic: Statistic) -> list[float]:
    """The share (0..1) of paired resamples in which `first` scores above `second`; a tie counts half.

    Arguments and resamples are those of `difference`. Returns one share for a scalar statistic, C for one per class.
    Resamples with an undefined score are left out; NaN if none remains. The share is not the probability that `first`
    is the better model. Near 1 it says that another draw of such images would hardly reverse the order (the one-sided
    achieved significance level of the percentile bootstrap is 1 minus the share).
    """
    of_first, of_second = _resampled(first, statistic), _resampled(second, statistic)
    defined = np.isfinite(of_first) & np.isfinite(of_second)
    wins = np.where(defined, (of_first > of_second) + 0.5 * (of_first == of_second), 0.0).sum(0)
    counts = defined.sum(0)
    shares = np.divide(wins, counts, out=np.full(len(wins), np.nan), where=counts > 0)
    return [float(share) for share in shares]


def _estimate(runs: Sequence[Counts], statistic: Statistic) -> Values:
    return np.asarray(np.mean([np.atleast_1d(statistic(run.sum(0))) for run in runs], axis=0))


def _resampled(runs: Sequence[Counts], statistic: Statistic, times: NDArray[np.int64] | None = None) -> Values:
    """(R, 1) or (R, C)."""
    times = draws(len(runs[0])) if times is None else times
    values = [statistic(resample(run, times)) for run in runs]
    return np.asarray(np.mean([v if v.ndim > 1 else v[:, None] for v in values], axis=0))


def _intervals(estimates: Values, values: Values, level: float) -> list[Interval]:
    tail = (1 - level) / 2
    intervals = []
    for estimate, column in zip(estimates, values.T, strict=True):
        defined = column[np.isfinite(column)]  # a rare category may be absent from a resample
        low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
        intervals.append(Interval(float(estimate), float(low), float(high)))
    return intervals


def mean_of_defined(per_category: Values) -> Values:
    """(…, C) to (…), without NaN; NaN where all are."""
    defined = np.isfinite(per_category)
    total = np.where(defined, per_category, 0.0).sum(-1)
    count = defined.sum(-1)
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0))
