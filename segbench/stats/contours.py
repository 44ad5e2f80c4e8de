"""How well outlines agree: boundary F at a few pixels, and Boundary IoU."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.stats.taxonomy import Categories, Flags

REACH = 2  # pixels: outlines this near agree


class Contours(NamedTuple):
    """Counts of one image per class, in pixels."""

    outline: NDArray[np.int64]  # (classes, 4): predicted outline near a true one, all of it; true near predicted, all
    band: NDArray[np.int64]  # (classes, 2): intersection and union of the inner bands


def contours(truth: Categories, predicted: Categories, classes: int, void: int | None = None) -> Contours:
    """Compares the outlines of each class in one image. truth, predicted: (H, W) categories.

    An outline is the class's pixels with another one above, below, left or right; the image's edge is none. Boundary F
    is the harmonic mean of its two shares within REACH pixels (G. Csurka et al., What is a good evaluation measure for
    semantic segmentation?, BMVC 2013). Boundary IoU is that of the bands as wide as 2 % of the diagonal inside each
    outline (B. Cheng et al., CVPR 2021, who count the image's edge as an outline). `void` pixels of the truth count
    nowhere.
    """
    outline, band = np.zeros((classes, 4), np.int64), np.zeros((classes, 2), np.int64)
    width = max(1, round(0.02 * math.hypot(*truth.shape)))
    labelled = np.ones(truth.shape, np.bool_) if void is None else truth != void
    for category in range(classes):
        true, guess = truth == category, predicted == category
        if category == void or not (true | guess).any():
            continue
        edges = _outline(true), _outline(guess)
        near = _grown(edges[0]), _grown(edges[1])
        guessed = edges[1] & labelled
        outline[category] = (guessed & near[0]).sum(), guessed.sum(), (edges[0] & near[1]).sum(), edges[0].sum()
        bands = _band(true, edges[0], width) & labelled, _band(guess, edges[1], width) & labelled
        band[category] = (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
    return Contours(outline, band)


def boundary_f(outline: NDArray[np.floating]) -> NDArray[np.float64]:
    """(…, 4) counts of `Contours.outline` to (…): the harmonic mean of precision and recall, 0..1; NaN without one."""
    near_true, guessed, near_guess, true = (outline[..., i].astype(np.float64) for i in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = near_true / guessed, near_guess / true
        harmonic = 2 * precision * recall / (precision + recall)
    missing = ((guessed == 0) | (near_true + near_guess == 0)) & (true > 0)
    return np.asarray(np.where(missing, 0.0, harmonic))


def _outline(region: Flags) -> Flags:
    from scipy import ndimage

    return np.asarray(region & ~ndimage.binary_erosion(region, border_value=1))


def _grown(flags: Flags) -> Flags:
    from scipy import ndimage

    around = np.arange(-REACH, REACH + 1)
    disc = np.hypot(around[:, None], around) <= REACH
    return np.asarray(ndimage.binary_dilation(flags, disc))


def _band(region: Flags, outline: Flags, width: int) -> Flags:
    from scipy import ndimage

    if not outline.any():
        return np.zeros_like(region)
    return np.asarray(region & (ndimage.distance_transform_edt(~outline) < width))
