"""The region of an image that maps are about, and the tiles outside of it that they rank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from segbench.explain.probe import Scene

ROWS = 8  # tiles from top to bottom; as many from left to right as make them square
_SMALLEST, _LARGEST = 1 / 400, 1 / 10  # of the image's area
_EIGHT = np.ones((3, 3), bool)  # neighbours


class Region(NamedTuple):
    category: int
    mask: Tensor  # (H, W) bool
    box: tuple[int, int, int, int]  # top, left, bottom, right, in pixels; the ends are outside


class Tiles(NamedTuple):
    """The tiles of an image, numbered row by row."""

    of: Tensor  # (H, W) int64, the tile of each pixel
    shape: tuple[int, int]
    outside: Tensor  # (T,) bool, which hold no pixel of the region

    def mean(self, plane: Tensor) -> Tensor:
        """(H, W) to the (T,) means over tiles."""
        number, index = self.shape[0] * self.shape[1], self.of.flatten()
        total = torch.zeros(number, device=plane.device).index_add_(0, index, plane.flatten().float())
        return total / torch.bincount(index, minlength=number)


def region(scene: Scene) -> Region | None:
    """The largest connected region of one true category that covers no more than a tenth of the image: things
    rather than roads, with much outside to ask about; None if every region is larger, or smaller than 1/400."""
    truth, labelled = scene.truth.cpu().numpy(), scene.labelled.cpu().numpy()
    found = []
    for category in np.unique(truth[labelled]):
        parts, _ = ndimage.label(truth == category, _EIGHT)
        areas = np.bincount(parts.ravel())
        areas[0] = 0
        areas[(areas < truth.size * _SMALLEST) | (areas > truth.size * _LARGEST)] = 0
        found.append((int(areas.max()), int(category), parts == areas.argmax()))
    area, category, mask = max(found, key=lambda each: each[0], default=(0, 0, labelled))
    if not area:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    return Region(category, torch.from_numpy(mask).to(scene.truth.device), box)


def tiles(scene: Scene, asked: Region) -> Tiles:
    """The grid of tiles, and which of them lie outside of the region."""
    height, width = scene.size
    columns = max(round(ROWS * width / height), 1)
    down = torch.arange(height) * ROWS // height
    across = torch.arange(width) * columns // width
    index = (down[:, None] * columns + across).to(scene.truth.device)
    touched = torch.bincount(index[asked.mask], minlength=ROWS * columns) > 0
    return Tiles(index, (ROWS, columns), ~touched)
