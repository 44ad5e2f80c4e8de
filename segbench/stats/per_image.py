"""Numbers of many images with their bootstrap: ratios of counts, and scores of confusions, one per image.

All use the draws of `bootstrap`, so that those of the same images are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segbench.core.metrics import jaccard
from segbench.stats.bootstrap import Sampled, draws


def ratio(part: ArrayLike, whole: ArrayLike, times: NDArray[np.int64] | None = None) -> Sampled:
    """(N,) parts and (N,) wholes of N images: the sum of the parts over that of the wholes; NaN if the wholes are 0.
    `times`: the resamples, (R, N); default: `draws` of single images."""
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    times = (draws(len(parts)) if times is None else times).astype(np.float64)
    return Sampled(_over(parts.sum(), wholes.sum()).item(), _over(times @ parts, times @ wholes))


def mean(values: ArrayLike) -> Sampled:
    """The mean of (N,) values."""
    return ratio(values, np.ones(len(np.asarray(values))))


def mean_iou(confusions: ArrayLike, times: NDArray[np.int64] | None = None) -> Sampled:
    """(N, C, C) confusions of N images, rows are the truth: the mean IoU of their sum over the classes that occur.
    `times` as in `ratio`."""
    counts = np.asarray(confusions, np.float64)
    times = (draws(len(counts)) if times is None else times).astype(np.float64)
    resampled = (times @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])
    return Sampled(_mean_iou(counts.sum(0)).item(), _mean_iou(resampled))


def averaged(values: Sequence[Sampled]) -> Sampled:
    """The mean of several numbers of the same resamples, such as those of several seeds."""
    return Sampled(float(np.mean([v.estimate for v in values])), np.mean([v.values for v in values], axis=0))


def _mean_iou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, C, C) to (…)."""
    iou = jaccard(counts.astype(np.int64))  # whole numbers far below 2**53
    defined = np.isfinite(iou)
    return _over(np.where(defined, iou, 0.0).sum(-1), defined.sum(-1))


def _over(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.asarray(np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes != 0))
