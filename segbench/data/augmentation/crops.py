"""Crops: where each training image is cut, so that no class fills it; and the one sampling that shows it there.

Places are chosen on the CPU, from thinned label maps, so that the device is never asked a question. Of an image on the
device only what its view can see is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segbench.core.crops import Size
from segbench.core.labels import IGNORED, LabelSet
from segbench.data.augmentation import geometry

# As cat_max_ratio of mmsegmentation's RandomCrop in the published recipes for Cityscapes: up to ten places are tried
# for one where no class has more than three quarters of the labelled pixels.
LARGEST_SHARE, TRIES = 0.75, 10
_POINTS = 64  # at most about so many rows and columns of a crop are counted
_PARTS = 16  # at most as many threads sample an image
_SAMPLING = {"void": "border", "reflect": "reflection"}  # what is sampled beside the image; void is filled afterwards


class Crops:
    """How a split's images are cut: the size of the crops, and what is where in the images."""

    def __init__(self, crop: Size, labels: Iterable[NDArray[np.uint8]], label_set: LabelSet) -> None:
        """`labels`: (H, W) raw ids of each image, read once and thinned."""
        self.size = crop
        self._step = max(min(crop) // _POINTS, 1)
        first, classes = self._step // 2, np.array(label_set.class_of_raw, np.uint8)
        self._image = (0, 0)
        thinned = []
        for raw in labels:
            self._image = (raw.shape[0], raw.shape[1])
            thinned.append(classes[raw[first :: self._step, first :: self._step]])
        self._classes = np.stack(thinned)

    @property
    def shares(self) -> tuple[float, float]:
        """Of the image's height and width that a crop has."""
        return self.size[0] / self._image[0], self.size[1] / self._image[1]

    def centres(self, zoom: NDArray[np.float64], random: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        """(N,) x and (N,) y of the crops of all images, -1..1 across the image, at whole pixels. `zoom`: (N,), above 1
        a crop sees less than its size of the packed image."""
        sides = np.array(self.size) / zoom[:, None]  # (N, 2) pixels of the image that a crop sees
        drawn = random.random((len(zoom), TRIES, 2))
        free = np.array(self._image) - sides[:, None]
        # A crop lies anywhere inside the image; one that sees more than the image has it anywhere inside.
        starts = np.where(free < 0, -np.floor(drawn * (np.floor(-free) + 1)), np.floor(drawn * (np.floor(free) + 1)))
        best = [self._best(*each) for each in zip(self._classes, starts, sides, strict=True)]
        y, x = (2 * (starts[np.arange(len(zoom)), best] + sides / 2) / self._image - 1).T
        return x, y

    def _best(self, classes: NDArray[np.uint8], starts: NDArray[Any], sides: NDArray[Any]) -> int:
        """The first of the (TRIES, 2) starts where no class has too large a share, else the one with the smallest."""
        best, least = 0, math.inf
        for number, start in enumerate(starts):
            top, left = np.maximum(np.round(start / self._step), 0).astype(int)
            bottom, right = np.maximum(np.round((start + sides) / self._step), 1).astype(int)
            share = largest_share(classes[top:bottom, left:right])
            if share <= LARGEST_SHARE:
                return number
            if share < least:
                best, least = number, share
        return best


def largest_share(classes: NDArray[np.uint8]) -> float:
    """Of the pixels that have a class, the share of the most frequent one; 1 where none has."""
    counts = np.bincount(classes.reshape(-1), minlength=IGNORED + 1)[:IGNORED]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


class Cut(NamedTuple):
    """The crops of a batch."""

    images: Tensor  # (B, h, w, 3) float32 RGB, 0..255
    planes: list[Tensor]  # each (B, h, w) uint8
    outside: Tensor | None  # (B, h, w) bool, what lies beside the image in the view; None if nothing does


def cut(images: Tensor, planes: Sequence[Tensor], fills: Sequence[int], frame: Tensor, size: Size, border: str) -> Cut:
    """Shows each image and its planes, such as labels, in its frame: images are sampled bilinearly, planes from the
    nearest pixel.

    images: (B, H, W, 3) uint8; planes: each (B, H, W) uint8; fills: each plane's value beside the image; frame: (B, 2,
    3) float32 on the CPU, see `geometry`; size: of the crops; border: as in [augment].
    """
    device, number = images.device, len(images)
    corners = _corners(frame)
    leaves = bool((corners.abs() > 1 + 1e-6).any())
    boxes = _boxes(corners, (images.shape[1], images.shape[2]), whole=leaves and border == "reflect")
    shown = torch.empty((number, *size, 3), device=device)
    made = [torch.empty((number, *size), dtype=torch.uint8, device=device) for _ in planes]
    grids = geometry.sampling_grid(
        _local(frame, boxes, (images.shape[1], images.shape[2])).to(device, non_blocking=True), size
    )
    for index, (top, bottom, left, right) in enumerate(boxes.tolist()):
        grid = grids[index : index + 1]
        seen = images[index, top:bottom, left:right].permute(2, 0, 1)[None].float()
        _sample(seen, grid, "bilinear", border, shown[index])
        for plane, target in zip(planes, made, strict=True):
            above = plane[index, top:bottom, left:right][None, None].float()
            _sample(above, grid, "nearest", border, target[index, ..., None])
    outside = None
    if leaves and border == "void":
        outside = (geometry.sampling_grid(frame.to(device, non_blocking=True), size).abs() > 1).any(-1)
        made = [plane.masked_fill_(outside, fill) for plane, fill in zip(made, fills, strict=True)]
    return Cut(shown, made, outside)


def _sample(image: Tensor, grid: Tensor, mode: str, border: str, target: Tensor) -> None:
    """(1, C, H, W) at the positions of a (1, h, w, 2) grid, into (h, w, C). The grid's rows go as a batch of the same
    image: a CPU's threads share out no less than the images of a batch."""
    parts = math.gcd(grid.shape[1], _PARTS)
    rows, into = (each.reshape(parts, -1, *each.shape[-2:]) for each in (grid, target))
    sampled = F.grid_sample(image.expand(parts, -1, -1, -1), rows, mode, _SAMPLING[border], align_corners=False)
    into.copy_(sampled.permute(0, 2, 3, 1))


def _corners(frame: Tensor) -> Tensor:
    """(B, 4, 2) x and y in the image of the corners of each view."""
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    return corners @ frame.transpose(1, 2)


def _boxes(corners: Tensor, image: Size, whole: bool) -> Tensor:
    """(B, 4) int64: top, bottom, left and right of what each view can see of an image of this size, with a pixel around
    it for interpolation. `whole`: views see all of the image."""
    height, width = image
    if whole:
        return torch.tensor([0, height, 0, width]).expand(len(corners), 4)
    sides = torch.tensor([width, height])
    pixels = (corners.double() + 1) / 2 * sides
    low = (pixels.amin(1).floor() - 1).clamp(min=0).minimum(sides - 1)
    high = (pixels.amax(1).ceil() + 1).minimum(sides).clamp(min=1)
    return torch.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], 1).long()


def _local(frame: Tensor, boxes: Tensor, image: Size) -> Tensor:
    """(B, 2, 3) float32: the frames as maps into the boxes instead of into the image."""
    (height, width), (top, bottom, left, right) = image, boxes.double().unbind(1)
    local = frame.double().clone()
    for axis, (side, low, high) in enumerate(((width, left, right), (height, top, bottom))):
        stretch = side / (high - low)
        local[:, axis] *= stretch[:, None]
        local[:, axis, 2] += stretch - 1 - 2 * low / (high - low)
    return local.float()
