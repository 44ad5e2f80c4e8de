"""The score lost by working at a smaller size: that of a network which reproduces its labels without error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.core import metrics
from segbench.core.labels import IGNORED, LabelSet


def label_ceiling(raw: NDArray[np.uint8], size: tuple[int, int], labels: LabelSet) -> NDArray[np.int64]:
    """The raw confusion of one image, full-size truth against its own labels scaled to `size` and back.

    raw: (H, W) uint8 label ids at the photograph's size. size: (h, w). Both scalings take the nearest pixel, the first
    exactly as data.packing does (PIL's NEAREST). Returns (R, C) pixel counts. From their sum over images
    `metrics.scores` computes the mIoU of a network whose class map at `size` agrees with its labels everywhere.
    Where the
    scaled labels have no class, the network is free, and counts as right. Raises ValueError for ids that are not in the
    label set.

    So it is the ceiling of learning those labels and scaling the class map back by nearest. It is not a strict bound: a
    class map with each cell's most frequent class agrees with slightly more pixels than one with its nearest pixel's,
    and scores that are resized bilinearly before the argmax, as `predict` does, can draw a border between cells.
    """
    height, width = raw.shape
    rows, columns = _there_and_back(height, size[0]), _there_and_back(width, size[1])
    counts = np.bincount(raw.ravel(), minlength=256)
    if unknown := [raw for raw in np.flatnonzero(counts).tolist() if raw not in labels.raw_ids]:
        raise ValueError(f"labels hold ids that label set '{labels.name}' does not have: {unknown[:5]}")
    of_raw, classes = np.array(labels.class_of_raw), len(labels)
    truth, predicted = of_raw[raw], of_raw[raw[np.ix_(rows, columns)]]
    predicted = np.where(predicted == IGNORED, truth, predicted)
    predicted[truth == IGNORED] = 0  # in a row that no score counts
    cells = np.bincount((raw.astype(np.int64) * classes + predicted).ravel(), minlength=256 * classes)
    return metrics.rows(cells.reshape(256, classes), labels)


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
