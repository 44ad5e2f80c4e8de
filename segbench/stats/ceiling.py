"""The score lost by working at a smaller size: that of a network which reproduces its labels without error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.core import metrics
from segbench.core.labels import CATEGORIES, CATEGORY_OF_RAW, UNKNOWN

_CATEGORY = np.array(CATEGORY_OF_RAW)


def label_ceiling(raw: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.int64]:
    """The raw confusion of one image, full-size truth against its own labels scaled to `size` and back.

    raw: (H, W) uint8 label ids at the photograph's size. size: (h, w). Both scalings take the nearest pixel, the first
    exactly as data.packing does (PIL's NEAREST). Returns (35, 8) pixel counts. From their sum over images
    `metrics.scores` computes the mIoU of a network whose class map at `size` agrees with its labels everywhere.
    Raises ValueError for ids that Cityscapes does not have.

    So it is the ceiling of learning those labels and scaling the class map back by nearest. It is not a strict bound: a
    class map with each cell's most frequent class agrees with slightly more pixels than one with its nearest pixel's,
    and scores that are resized bilinearly before the argmax, as `predict` does, can draw a border between cells.
    """
    height, width = raw.shape
    rows, columns = _there_and_back(height, size[0]), _there_and_back(width, size[1])
    counts = np.bincount(raw.ravel(), minlength=256)
    if (unknown := np.flatnonzero((counts > 0) & (_CATEGORY == UNKNOWN))).size:
        raise ValueError(f"labels hold ids Cityscapes does not have: {unknown[:5].tolist()}; expected 0..33 or 255")
    predicted = _CATEGORY[raw[np.ix_(rows, columns)]]
    cells = np.bincount((raw.astype(np.int64) * len(CATEGORIES) + predicted).ravel(), minlength=256 * len(CATEGORIES))
    return metrics.rows(cells.reshape(256, len(CATEGORIES)))


def nearest(source: int, target: int) -> NDArray[np.int64]:
    """(target,) indices 0..source-1: the pixel of a line that each target pixel is copied from by PIL's NEAREST.

    Pixel x is copied from floor((x + 1/2) · source / target). Like PIL (Geometry.c, ImagingScaleAffine), this sums the
    steps pixel by pixel in double precision: if the exact position is whole, rounding decides.
    """
    step = source / target
    return np.cumsum(np.concatenate([[step * 0.5], np.full(target - 1, step)])).astype(np.int64)


def _there_and_back(full: int, small: int) -> NDArray[np.int64]:
    """(full,) indices: the full-size pixel whose label each full-size pixel gets."""
    return nearest(full, small)[nearest(small, full)]
