"""Augmentations of whole batches on their device: mirrored, zoomed into another frame, in another light.

How an image is seen in an epoch depends on (seed, epoch, image) alone: not on the batch it falls into, nor on the
architecture, nor on the number of processes, and a resumed epoch sees it as it would have been seen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.core.protocol import Augment

_GREY = (0.2989, 0.587, 0.114)  # of R, G and B: ITU-R BT.601 luma, as torchvision weighs them


class Views(NamedTuple):
    """How each of N images is seen."""

    frame: Tensor  # (N, 2, 3) float32: from places in the view to places in the image, as F.affine_grid takes them
    light: Tensor  # (N, 3) float32: factors of brightness, contrast and saturation


def draw(asked: Augment, images: int, seed: int, epoch: int) -> Views:
    """The views of so many images in one epoch, on the CPU."""
    random = np.random.default_rng([seed, epoch, 1])  # Batches draws their order from (seed, epoch)
    mirror = np.where(random.random(images) < asked.flip, -1.0, 1.0)
    low, high = asked.scale
    step = 1 / np.exp(random.uniform(math.log(low), math.log(high), images))
    # Where the view is smaller than the image it lies anywhere within; where it is larger the image lies so in it.
    x, y = random.uniform(-1, 1, (2, images)) * np.abs(1 - step)
    light = random.uniform(1 - asked.colour, 1 + asked.colour, (images, 3))
    zero = np.zeros(images)
    frame = np.stack([np.stack([mirror * step, zero, x], -1), np.stack([zero, step, y], -1)], 1)
    return Views(torch.from_numpy(frame).float(), torch.from_numpy(light).float())


def relit(images: Tensor, views: Views) -> Tensor:
    """images: (B, H, W, 3) float32 RGB, 0..255. Brightness, contrast and saturation, in this order and by these factors
    as torchvision's adjust_brightness, adjust_contrast and adjust_saturation."""
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in views.light.unbind(1))
    images = (images * brightness).clamp_(0, 255)
    mean = _grey(images).mean((1, 2, 3), keepdim=True)
    images = mean.lerp(images, contrast).clamp_(0, 255)
    return _grey(images).lerp(images, saturation).clamp_(0, 255)


def reframed(images: Tensor, raw: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """images: (B, 3, H, W) float32, normalised; raw: (B, H, W) uint8 label ids. Both as the views show them: images
    bilinearly, labels from the nearest pixel; outside of the image the mean colour and raw id 0, which is void."""
    grid = F.affine_grid(views.frame, [len(images), 1, *raw.shape[1:]], align_corners=False)
    seen = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(raw[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0]
    return seen.contiguous(memory_format=torch.channels_last), labels.to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(B, H, W, 3) to (B, H, W, 1)."""
    return (images @ torch.tensor(_GREY, device=images.device))[..., None]
