"""The scores of images: of one forward pass, or the mean of several, over windows, mirrors and scales.

Windows lie and overlap as in mmsegmentation's slide_inference: every `stride` pixels, the last ones at the image's far
edges. Where they overlap, and over mirrors and scales, `Segmenter.scores` are averaged, resized to the image's size.
Images with several passes are computed one after the other, in the same batches of windows whoever asks: scoring and
use give the same bits, in the memory of one image.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.core.crops import WHOLE, Passes, Size
from segbench.runtime.compute import Compute

_TOGETHER = 1 << 21  # pixels of the windows of one forward pass: those of one photograph of Cityscapes
_MULTIPLE = 32  # of what the sides of a scaled image are: the coarsest feature map is a 32nd of the image


class Pass(NamedTuple):
    """A forward pass over n windows of an image, or over n whole images."""

    outputs: Any  # the network's
    scores: Tensor  # (n, C, h, w) at its own resolution
    size: Size  # of the image, maybe scaled, that the windows are of
    frame: Callable[[Tensor], Tensor]  # puts a plane of the image, (1, H, W), or of n images, into the frames of these


See = Callable[[Pass], None]


class _Place(NamedTuple):
    """Of windows that are computed together: their corners, in an image of some size, mirrored or not."""

    corners: list[tuple[int, int]]
    window: Size
    size: Size
    mirrored: bool


def scores(model: Segmenter, images: Tensor, compute: Compute, see: See | None = None) -> Tensor:
    """images: (B, 3, H, W) normalised. Returns (B, C, h, w) float32 scores: at the network's own resolution of one
    whole pass, else at H×W."""
    if model.passes == WHOLE:
        with compute.autocast():
            outputs = model(images)
        coarse = model.scores(outputs)
        if see:
            see(Pass(outputs, coarse, (images.shape[2], images.shape[3]), lambda plane: plane))
        return coarse
    return torch.cat([_mean(model, image, compute, see) for image in torch.split(images, 1)])


def windows(passes: Passes, size: Size) -> int:
    """How many windows an image of this size is seen by, at one scale and not mirrored."""
    rows, columns = _starts(passes, size)
    return len(rows) * len(columns)


def resize(scores: Tensor, size: torch.Size | Size) -> Tensor:
    """Resizes (B, C, h, w) scores to (B, C, *size), bilinearly. Scores of that size are returned as they are."""
    if scores.shape[2:] == tuple(size):
        return scores
    return F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)


def _mean(model: Segmenter, image: Tensor, compute: Compute, see: See | None) -> Tensor:
    """Of one image, (1, 3, H, W)."""
    passes, own = model.passes, (image.shape[2], image.shape[3])
    total: Tensor | None = None
    for scale, mirrored in itertools.product(passes.scales, (False, True)[: 1 + passes.flip]):
        size = own if scale == 1 else (_scaled(own[0], scale), _scaled(own[1], scale))
        seen = resize(image, size) if size != own else image
        canvas = _windowed(model, seen.flip(-1) if mirrored else seen, mirrored, compute, see)
        part = canvas.flip(-1) if mirrored else canvas
        part = resize(part, own) if size != own else part
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.div_(len(passes.scales) * (1 + passes.flip))


def _windowed(model: Segmenter, image: Tensor, mirrored: bool, compute: Compute, see: See | None) -> Tensor:
    """(1, C, H, W) scores of an image as it is seen, (1, 3, H, W): the mean of the windows over each pixel."""
    size = (image.shape[2], image.shape[3])
    canvas: Tensor | None = None
    for place in _places(model.passes, size, mirrored):
        with compute.autocast():
            outputs = model(_cut(image, place).contiguous(memory_format=torch.channels_last))
        coarse = model.scores(outputs)
        if see:
            see(Pass(outputs, coarse, size, functools.partial(_framed, place)))
        fine = resize(coarse, place.window)
        if canvas is None:
            canvas = fine.new_zeros((1, fine.shape[1], *size))
        for part, (top, left) in zip(fine, place.corners, strict=True):
            canvas[0, :, top : top + place.window[0], left : left + place.window[1]] += part
    assert canvas is not None
    rows, columns = (weight.to(canvas.device) for weight in _weights(model.passes, size))
    return canvas.mul_(rows[:, None]).mul_(columns)


def _places(passes: Passes, size: Size, mirrored: bool) -> Iterator[_Place]:
    window = _window(passes, size)
    corners = list(itertools.product(*_starts(passes, size)))
    number = math.ceil(len(corners) / max(_TOGETHER // (window[0] * window[1]), 1))
    for part in range(number):  # of about equal length
        first, last = (len(corners) * n // number for n in (part, part + 1))
        yield _Place(corners[first:last], window, size, mirrored)


def _window(passes: Passes, size: Size) -> Size:
    """A scaled image may be smaller than the window."""
    return size if passes.window is None else (min(passes.window[0], size[0]), min(passes.window[1], size[1]))


def _starts(passes: Passes, size: Size) -> tuple[list[int], list[int]]:
    """The first rows and the first columns of the windows."""
    window = _window(passes, size)
    steps = passes.stride or window
    found = []
    for side, length, step in zip(size, window, steps, strict=True):
        number = math.ceil((side - length) / step) + 1
        found.append([min(n * step, side - length) for n in range(number)])
    return found[0], found[1]


def _weights(passes: Passes, size: Size) -> list[Tensor]:
    """(H,) and (W,): one over the number of windows over a row, and over a column."""
    weights = []
    for starts, length, side in zip(_starts(passes, size), _window(passes, size), size, strict=True):
        count = torch.zeros(side)
        for start in starts:
            count[start : start + length] += 1
        weights.append(1 / count)
    return weights


def _cut(image: Tensor, place: _Place) -> Tensor:
    """(1, …, H, W) to (n, …, h, w)."""
    height, width = place.window
    parts = [image[..., top : top + height, left : left + width] for top, left in place.corners]
    return torch.cat(parts)


def _framed(place: _Place, plane: Tensor) -> Tensor:
    """A plane of the image, (1, H, W), as the network saw it: (n, h, w), from the nearest pixels."""
    rows, columns = (
        ((torch.arange(new, device=plane.device) + 0.5) * (old / new)).long()
        for new, old in zip(place.size, plane.shape[1:], strict=True)
    )
    seen = plane[:, rows[:, None], columns] if place.size != tuple(plane.shape[1:]) else plane
    return _cut(seen.flip(-1) if place.mirrored else seen, place)


def _scaled(side: int, scale: float) -> int:
    return max(round(side * scale / _MULTIPLE), 1) * _MULTIPLE
