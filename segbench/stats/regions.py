"""Which regions are found, by size; which are invented; and how smooth the outlines of the found ones are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.stats.taxonomy import NEIGHBOURS, Categories, Flags

SIZES = (16, 64, 256, 1024)  # pixels: the edges between the five sizes of regions
_MATCH = 0.5  # IoU above which a true and a predicted region are one object; more than one pair is then impossible
_SMALLEST_OUTLINE = 64  # pixels; the outline of a smaller region is mostly corners


class Regions(NamedTuple):
    """Counts of one image per class and size."""

    found: NDArray[np.int64]  # (classes, 5, 2): true regions that were found, and all of them, by true size
    supported: NDArray[np.int64]  # (classes, 5, 2): predicted regions the truth supports, and all, by predicted size
    perimeter: NDArray[np.float64]  # (classes, 2): of matched regions as predicted, and as they are, in pixels


def regions(truth: Categories, predicted: Categories, classes: int, void: int | None = None) -> Regions:
    """Looks at the 8-connected regions of each class in one image. truth, predicted: (H, W) categories.

    A true region is *found* if at least half of its pixels are predicted as its class. A predicted region is
    *supported* if at least half of its labelled pixels truly are of its class; it counts only where at least half of
    it is labelled, because nobody knows what is under `void`. The sizes are divided at SIZES pixels.
    """
    found = np.zeros((classes, len(SIZES) + 1, 2), np.int64)
    supported = np.zeros_like(found)
    perimeter = np.zeros((classes, 2))
    labelled = np.ones(truth.shape, np.bool_) if void is None else truth != void
    for category in range(classes):
        if category != void:
            true, guess = truth == category, predicted == category
            found[category] = _shares(true, guess, true)
            supported[category] = _shares(guess, true, labelled)
            perimeter[category] = _perimeters(true, guess & labelled)
    return Regions(found, supported, perimeter)


def crofton(region: Flags) -> float:
    """The length of a region's outline in pixels, (H, W) flags; the image's edge is no outline.

    Cauchy-Crofton: the mean, over directions, of how often parallel lines cross the outline. Four directions, whose
    lines lie 1, 1, 1/√2 and 1/√2 apart: π/8 · (n₀ + n₉₀ + (n₄₅ + n₁₃₅)/√2). Exact on average over rotations.
    """
    straight = (region[:, 1:] != region[:, :-1]).sum() + (region[1:] != region[:-1]).sum()
    slanted = (region[1:, 1:] != region[:-1, :-1]).sum() + (region[1:, :-1] != region[:-1, 1:]).sum()
    return float(math.pi / 8 * (straight + slanted / math.sqrt(2)))


def _shares(regions: Flags, support: Flags, counted: Flags) -> NDArray[np.int64]:
    """(5, 2): by size, how many regions have half of their counted pixels in `support`, and how many there are."""
    from scipy import ndimage

    labels, number = ndimage.label(regions, NEIGHBOURS)
    size = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    known = np.bincount(labels[counted], minlength=number + 1)[1:]
    held = np.bincount(labels[counted & support], minlength=number + 1)[1:]
    counts = np.zeros((len(SIZES) + 1, 2), np.int64)
    judged = 2 * known >= size
    rows = np.digitize(size[judged], SIZES)
    np.add.at(counts[:, 0], rows, 2 * held[judged] >= known[judged])
    np.add.at(counts[:, 1], rows, 1)
    return counts


def _perimeters(true: Flags, guess: Flags) -> tuple[float, float]:
    """Of the matched regions together: as predicted, and as they are."""
    from scipy import ndimage

    (trues, count), (guesses, guessed) = (ndimage.label(flags, NEIGHBOURS) for flags in (true, guess))
    common = np.bincount(trues.ravel() * (guessed + 1) + guesses.ravel(), minlength=(count + 1) * (guessed + 1))
    common = common.reshape(count + 1, guessed + 1)
    sizes = common.sum(1, keepdims=True), common.sum(0, keepdims=True)
    matched = (common > _MATCH * (sizes[0] + sizes[1] - common)) & (np.minimum(*sizes) >= _SMALLEST_OUTLINE)
    matched[0] = matched[:, 0] = False
    boxes = ndimage.find_objects(trues), ndimage.find_objects(guesses)
    of_guess = of_truth = 0.0
    for i, j in np.argwhere(matched):
        of_truth += crofton((trues == i)[_wider(boxes[0][i - 1])])
        of_guess += crofton((guesses == j)[_wider(boxes[1][j - 1])])
    return of_guess, of_truth


def _wider(box: tuple[slice, slice]) -> tuple[slice, slice]:
    """With one more pixel to each side, as far as the image goes."""
    rows, columns = box
    return slice(max(rows.start - 1, 0), rows.stop + 1), slice(max(columns.start - 1, 0), columns.stop + 1)
