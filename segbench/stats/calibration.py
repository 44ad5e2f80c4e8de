"""Whether a network knows how sure it may be: calibration of its confidence, and whether its entropy finds errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

BINS = 15  # of confidence, equally wide
ENTROPIES = 64  # of entropy over its largest possible value, equally wide


def reliability(bins: NDArray[np.floating]) -> Values:
    """(…, BINS, 3) pixels, right ones and summed confidence to (…, BINS, 3): the share of the pixels, their accuracy
    and their mean confidence, 0..1; NaN in an empty bin."""
    counts, right, confidence = (np.asarray(bins[..., i], np.float64) for i in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts / counts.sum(-1, keepdims=True)
        return np.stack([share, right / counts, confidence / counts], axis=-1)


def ece(bins: NDArray[np.floating]) -> Values:
    """(…, BINS, 3) as `reliability` takes it to (…): the expected calibration error, 0..1.

    Σ share · |accuracy - confidence| over the bins (M. P. Naeini et al., AAAI 2015). Bins hide errors that cancel
    within one, so that it is a lower bound; NaN without pixels.
    """
    gap = np.abs(bins[..., 1] - bins[..., 2]).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(gap / bins[..., 0].sum(-1), np.float64)


def overconfidence(bins: NDArray[np.floating]) -> Values:
    """Mean confidence minus accuracy, -1..1: (…, BINS, 3) to (…)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((bins[..., 2] - bins[..., 1]).sum(-1) / bins[..., 0].sum(-1), np.float64)


def auroc(entropies: NDArray[np.floating]) -> Values:
    """(…, K, 2) right and wrong pixels by rising entropy to (…): the probability that a wrong pixel has the higher
    entropy of the two, 0..1; pixels of one bin count half. 0.5: entropy says nothing. NaN without both kinds.

    J. A. Hanley, B. J. McNeil, Radiology 143, 1982: the area under the ROC curve of "entropy finds errors".
    """
    right, wrong = (np.asarray(entropies[..., i], np.float64) for i in range(2))
    below = np.cumsum(right, axis=-1) - right / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((wrong * below).sum(-1) / (right.sum(-1) * wrong.sum(-1)))
