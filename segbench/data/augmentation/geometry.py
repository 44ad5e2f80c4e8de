"""Mirroring, zooming, turning, shearing and shifting: matrices that are multiplied into one frame per view, and the one
sampling that shows an image in it.

A frame maps positions in the view to positions in the image; both go from -1 to 1 across width and height, as in
F.affine_grid. Turns and shears happen in the frame of the photograph: packed images may be squeezed, and a turn of
squeezed pixels would be a shear of the street.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segbench.core.augment import Augment

Numbers = NDArray[np.float64]  # (N,): one per image
_PADDING = {"void": "zeros", "reflect": "reflection"}


def zoomed(x_step: Numbers, y_step: Numbers, x: Numbers, y: Numbers) -> Numbers:
    """(N, 3, 3): the view is `step` times as wide and high as the image, mirrored where it is below 0, and has its
    middle at (x, y) of the image."""
    zero = np.zeros_like(x)
    return _matrices((x_step, zero, x), (zero, y_step, y))


def turned(degrees: Numbers, aspects: Numbers) -> Numbers:
    """(N, 3, 3): what is seen turns counter-clockwise, as in torchvision's rotate. `aspects`: width / height of the
    photographs."""
    cos, sin, zero = np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), np.zeros_like(degrees)
    return _matrices((cos, -sin / aspects, zero), (sin * aspects, cos, zero))


def sheared(x: Numbers, y: Numbers, aspects: Numbers) -> Numbers:
    """(N, 3, 3): x: pixels sideways per pixel down; y: pixels down per pixel sideways, all of the photograph."""
    one, zero = np.ones_like(x), np.zeros_like(x)
    return _matrices((one, x / aspects, zero), (y * aspects, one, zero))


def shifted(x: Numbers, y: Numbers) -> Numbers:
    """(N, 3, 3): what is seen moves right and down by these shares of the width and height."""
    one, zero = np.ones_like(x), np.zeros_like(x)
    return _matrices((one, zero, -2 * x), (zero, one, -2 * y))


def reframed(augment: Augment, images: Tensor, raw: Tensor, frame: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """images: (B, 3, H, W) float32, normalised; raw: (B, H, W) uint8 label ids; frame: (B, 2, 3) float32. Returns both
    in their views, of the same shapes: images are sampled bilinearly, labels from the nearest pixel. Outside the image,
    views have the mean colour and the raw id `border`, or with border = "reflect" the image's reflection."""
    padding, grid = _PADDING[augment.border], sampling_grid(frame, raw.shape[1:])
    sampled = F.grid_sample(images, grid, "bilinear", padding, align_corners=False)
    # channels_last again, in a tenth of the time of `contiguous`
    reframed_images = torch.stack(sampled.unbind(1), -1).permute(0, 3, 1, 2)
    return reframed_images, _nearest(raw, grid, padding, border)


def reframed_instances(augment: Augment, instances: Tensor, frame: Tensor) -> Tensor:
    """The plane of instances, (B, H, W) uint8, from the pixels that `reframed` takes the labels from; none outside."""
    return _nearest(instances, sampling_grid(frame, instances.shape[1:]), _PADDING[augment.border], 0)


def sampling_grid(frame: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w, 2): where in the image each pixel of a view of this height and width is. As F.affine_grid without
    align_corners but for rounding, in a twentieth of its time on a CPU. frame: (B, 2, 3) float32."""
    y, x = ((2 * torch.arange(side, device=frame.device) + 1) / side - 1 for side in size)
    of_x, of_y, shift = frame[:, None, None].unbind(-1)  # each (B, 1, 1, 2)
    # A position as one complex number: then both of its coordinates are added at once.
    columns, rows = (torch.view_as_complex(each) for each in (x[:, None] * of_x, y[:, None, None] * of_y + shift))
    return torch.view_as_real(columns + rows)


def _nearest(plane: Tensor, grid: Tensor, padding: str, border: int) -> Tensor:
    above = plane[:, None].float() - border  # grid_sample puts zeros outside
    return (F.grid_sample(above, grid, "nearest", padding, align_corners=False)[:, 0] + border).to(torch.uint8)


def _matrices(*rows: tuple[Numbers, Numbers, Numbers]) -> Numbers:
    """(N, 3, 3) of their first two rows."""
    upper = np.stack([np.stack(row, -1) for row in rows], 1)
    lower = np.broadcast_to([0.0, 0.0, 1.0], (len(upper), 1, 3))
    return np.concatenate([upper, lower], 1)
