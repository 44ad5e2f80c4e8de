"""Augmentation of whole batches on their device: mirroring, scaling and cropping, colour changes.

The view of an image in an epoch depends on (seed, epoch, image) alone, not on its batch, the architecture or the number
of processes, and a resumed epoch uses the same views.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.core.augment import Augment

_GREY = (0.2989, 0.587, 0.114)  # of R, G and B: ITU-R BT.601 luma, as torchvision weighs them


class Views(NamedTuple):
    """The views of N images."""

    frame: Tensor  # (N, 2, 3) float32: maps positions in the view to positions in the image, as in F.affine_grid
    light: Tensor  # (N, 3) float32: factors of brightness, contrast and saturation


def draw(augment: Augment, images: int, seed: int, epoch: int) -> Views:
    """The views of `images` images in one epoch, on the CPU."""
    random = np.random.default_rng([seed, epoch, 1])  # Batches draws their order from (seed, epoch)
    mirror = np.where(random.random(images) < augment.flip, -1.0, 1.0)
    low, high = augment.scale
    step = 1 / np.exp(random.uniform(math.log(low), math.log(high), images))
    # A view smaller than the image lies anywhere inside it; a larger view has the image anywhere inside.
    x, y = random.uniform(-1, 1, (2, images)) * np.abs(1 - step)
    light = random.uniform(1 - augment.colour, 1 + augment.colour, (images, 3))
    zero = np.zeros(images)
    frame = np.stack([np.stack([mirror * step, zero, x], -1), np.stack([zero, step, y], -1)], 1)
    return Views(torch.from_numpy(frame).float(), torch.from_numpy(light).float())


def relit(images: Tensor, views: Views) -> Tensor:
    """images: (B, H, W, 3) float32 RGB, 0..255. Returns them with changed brightness, contrast and saturation, in this
    order, as torchvision's adjust_brightness, adjust_contrast and adjust_saturation compute them."""
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in views.light.unbind(1))
    images = (images * brightness).clamp_(0, 255)
    mean = _grey(images).mean((1, 2, 3), keepdim=True)
    images = mean.lerp(images, contrast).clamp_(0, 255)
    return _grey(images).lerp(images, saturation).clamp_(0, 255)


def reframed(images: Tensor, raw: Tensor, views: Views, border: int) -> tuple[Tensor, Tensor]:
    """images: (B, 3, H, W) float32, normalised; raw: (B, H, W) uint8 label ids. Returns both in their views, of the
    same shapes: images are sampled bilinearly, labels from the nearest pixel. Outside the image, views have the mean
    colour and the raw id `border`, which is void."""
    grid = F.affine_grid(views.frame, [len(images), 1, *raw.shape[1:]], align_corners=False)
    reframed_images = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    above = raw[:, None].float() - border  # grid_sample puts zeros outside
    labels = F.grid_sample(above, grid, mode="nearest", align_corners=False)[:, 0] + border
    return reframed_images.contiguous(memory_format=torch.channels_last), labels.to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(B, H, W, 3) to (B, H, W, 1)."""
    return (images @ torch.tensor(_GREY, device=images.device))[..., None]
