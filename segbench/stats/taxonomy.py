"""Which kind of error: a wrong outline, a wrong extent, or a region that is missed or invented.

M. Bernhard et al., What's Outside the Intersection? Fine-grained Error Analysis for Semantic Segmentation Beyond IoU,
WACV 2024. Every wrong pixel of a class belongs to exactly one of six parts, so that, as shares of the union of truth
and prediction, IoU and the six parts sum to 1. Written from the paper's description.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Categories = NDArray[np.integer]

HITS = "hits"
PARTS = ("boundary_fp", "extent_fp", "segment_fp", "boundary_fn", "extent_fn", "segment_fn")
CODES = {name: code for code, name in enumerate((HITS, *PARTS), start=1)}  # in `error_map`; 0: neither holds the class
NEIGHBOURS = np.ones((3, 3), np.bool_)  # regions are 8-connected, so that a diagonal pole is one region


def boundary_width(shape: tuple[int, ...]) -> int:
    """The width of an outline in pixels: 1 % of the image's diagonal, at least 1. shape: (height, width)."""
    return max(1, round(math.hypot(*shape[:2]) / 100))


def error_parts(truth: Categories, predicted: Categories, classes: int, void: int | None = None) -> NDArray[np.int64]:
    """Pixel counts of one image, (classes, 7): the hits, then PARTS, whose sum is the union of each class.

    truth, predicted: (H, W) categories 0..classes-1. Pixels that are `void` in the truth count nowhere, because they
    have no label, but they are part of the picture: there the class is absent.
    """
    counts = np.zeros((classes, len(CODES) + 1), np.int64)
    labelled = np.ones(truth.shape, np.bool_) if void is None else truth != void
    width = boundary_width(truth.shape)
    for category in range(classes):
        if category != void:
            codes = error_map(truth == category, predicted == category, width)
            counts[category] = np.bincount(codes[labelled], minlength=len(CODES) + 1)
    return counts[:, 1:]


def error_map(truth: Flags, predicted: Flags, width: int) -> NDArray[np.uint8]:
    """CODES of each pixel for one class. truth, predicted: (H, W), where the class is and where it was predicted.

    Of the wrong pixels, *boundary* ones have a hit and a pixel without the class in truth and prediction both within
    `width` pixels: the outline runs a little beside the true one. Of the others, a false positive is *extent* if its
    predicted region, 8-connected, holds a hit, and else *segment*: nothing of the class is there. A false negative is
    judged likewise by its true region: *segment* is a region that was missed altogether.
    """
    codes = np.zeros(truth.shape, np.uint8)
    window = _window(truth | predicted, width + 1)
    if window is None:
        return codes
    true, guess = truth[window], predicted[window]
    hits, wrong = true & guess, true ^ guess
    near = _within(hits, width) & _within(~true & ~guess, width)
    inner = codes[window]
    inner[hits] = CODES[HITS]
    for region, side in ((guess, "fp"), (true, "fn")):
        own = region & wrong
        touched = _regions_with(region, hits)
        inner[own & ~touched] = CODES[f"segment_{side}"]
        inner[own & touched] = CODES[f"extent_{side}"]
        inner[own & near] = CODES[f"boundary_{side}"]
    return codes


def _window(where: Flags, margin: int) -> tuple[slice, slice] | None:
    """The part of the image around the flags, all that decides about them; None where there are none."""
    if not where.any():
        return None
    ends = []
    for axis in (1, 0):
        found = np.flatnonzero(where.any(axis))
        ends.append(slice(max(int(found[0]) - margin, 0), int(found[-1]) + 1 + margin))
    return ends[0], ends[1]


def _within(flags: Flags, reach: int) -> Flags:
    """Pixels within `reach` pixels of a flagged one, between centres."""
    from scipy import ndimage  # takes a quarter of a second, so not when the statistics are imported

    if not flags.any():
        return np.zeros_like(flags)
    return np.asarray(ndimage.distance_transform_edt(~flags) <= reach)


def _regions_with(region: Flags, seeds: Flags) -> Flags:
    """The pixels of those 8-connected regions that hold a seed."""
    from scipy import ndimage

    labels, number = ndimage.label(region, NEIGHBOURS)
    chosen = np.zeros(number + 1, np.bool_)
    chosen[labels[seeds & region]] = True
    return np.asarray(chosen[labels])
