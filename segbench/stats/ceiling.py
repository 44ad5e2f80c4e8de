"""The score lost by working at a smaller size: that of a network which reproduces its labels without error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.core import metrics
from segbench.core.labels import IGNORED, LabelSet

_STEPS, _RATE, _MOMENTUM, _SHARPNESS = 40, 8.0, 0.9, 8.0  # of `grid_ceiling`


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
    rows, columns = there_and_back(height, size[0]), there_and_back(width, size[1])
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


def there_and_back(full: int, small: int) -> NDArray[np.int64]:
    """(full,) indices: the full-size pixel whose label each full-size pixel gets."""
    return nearest(full, small)[nearest(small, full)]


def grid_ceiling(truth: NDArray[np.integer], grid: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """The class map of a network that knows the truth but scores on a coarser grid: (H, W) categories.

    truth: (H, W) categories 0..classes-1. grid: (h, w), the resolution of the network's scores, which are resized
    bilinearly before the argmax, as `Segmenter.scores` are. What this map misses, no network of that grid can draw: a
    stride of 8 pixels loses fine detail whatever the architecture.

    Scores are fitted by _STEPS steps of gradient descent on the pixels' cross-entropy, from the shares of each class
    in the cells; the best map on the way counts. So it is a lower bound of the true ceiling.
    """
    if grid[0] >= truth.shape[0] and grid[1] >= truth.shape[1]:
        return truth.astype(np.uint8)
    present = np.unique(truth)
    wanted = (truth == present[:, None, None]).astype(np.float32)
    down, across = (_bilinear(full, small) for full, small in zip(truth.shape, grid, strict=True))
    weight = down.sum(0)[:, None] * across.sum(0)
    scores = _SHARPNESS * (down.T @ wanted @ across / weight - 0.5)
    best, most, momentum = truth.astype(np.uint8), -1, np.zeros_like(scores)
    for _ in range(_STEPS):
        seen = down @ scores @ across.T
        drawn = present[seen.argmax(0)]
        right = int((drawn == truth).sum())
        if right > most:
            best, most = drawn.astype(np.uint8), right
        seen = np.exp(seen - seen.max(0))
        slope = down.T @ (wanted - seen / seen.sum(0)) @ across / weight
        momentum = _MOMENTUM * momentum + slope
        scores = scores + _RATE * momentum
    return best


def _bilinear(full: int, small: int) -> NDArray[np.float32]:
    """(full, small): how torch's bilinear interpolation without align_corners mixes `small` values into `full`."""
    centre = np.maximum((np.arange(full) + 0.5) * (small / full) - 0.5, 0)
    above = centre.astype(np.int64)
    below = np.minimum(above + 1, small - 1)
    mix = np.zeros((full, small), np.float32)
    np.add.at(mix, (np.arange(full), above), 1 - (centre - above))
    np.add.at(mix, (np.arange(full), below), centre - above)
    return mix
