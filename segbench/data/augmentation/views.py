"""The views of an epoch's images, drawn on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.core.augment import Augment
from segbench.data.augmentation import geometry, policies
from segbench.data.augmentation.crops import Crops


class Views(NamedTuple):
    """The views of N images; a policy applies S operations to each."""

    frame: Tensor  # (N, 2, 3) float32: maps positions in the view to positions in the image, as in F.affine_grid
    light: Tensor  # (N, 3) float32: factors of brightness, contrast and saturation
    blur: Tensor  # (N,) float32: standard deviation of the Gaussian, in pixels
    noise: Tensor  # (N,) float32: standard deviation, of 0..255
    key: Tensor  # (N,) int32: what an image's noise follows from
    operation: Tensor  # (N, S) int64 into policies.OPERATIONS, always on the CPU
    strength: Tensor  # (N, S) float32, signed, always on the CPU

    def of(self, chosen: Tensor, to_device: Callable[[Tensor], Tensor]) -> Views:
        """The views of some of the images; `chosen`: (n,) int64 on the CPU."""
        *views, operation, strength = (part[chosen] for part in self)
        return Views._make((*map(to_device, views), operation, strength))


def draw(augment: Augment, aspects: NDArray[np.float64], seed: int, epoch: int, crops: Crops | None = None) -> Views:
    """The views of N images in one epoch, on the CPU. `aspects`: (N,) width / height of the photographs. With `crops` a
    view of an image that is not zoomed is a crop."""
    images = len(aspects)
    random = np.random.default_rng([seed, epoch, 1])  # Batches draws their order from (seed, epoch)
    mirror = np.where(random.random(images) < augment.flip, -1.0, 1.0)
    low, high = augment.scale
    step = 1 / np.exp(random.uniform(math.log(low), math.log(high), images))
    # A view smaller than the image lies anywhere inside it; a larger view has the image anywhere inside.
    x, y = random.uniform(-1, 1, (2, images)) * np.abs(1 - step)
    light = random.uniform(1 - augment.colour, 1 + augment.colour, (images, 3))
    random = np.random.default_rng([seed, epoch, 2])  # what was added later does not change the draws above
    angle = random.uniform(-augment.rotate, augment.rotate, images)
    light[:, 1] *= random.uniform(1 - augment.contrast, 1 + augment.contrast, images)
    blur, noise = random.random((2, images)) * [[augment.blur], [255 * augment.noise]]
    key = random.integers(-(2**31), 2**31, images, dtype=np.int32)
    drawn = policies.draw(augment.policy, images, random)
    x_step, y_step = step, step
    if crops:
        x, y = crops.centres(1 / step, np.random.default_rng([seed, epoch, 3]))
        tall, wide = crops.shares
        x_step, y_step, aspects = step * wide, step * tall, aspects * wide / tall  # from here on of the crops
    frame = geometry.zoomed(mirror * x_step, y_step, x, y) @ geometry.turned(angle, aspects)
    for operations in drawn.frames(aspects):
        frame = frame @ operations
    *views, strength = (torch.from_numpy(part).float() for part in (frame[:, :2], light, blur, noise, drawn.strength))
    return Views._make((*views, torch.from_numpy(key), torch.from_numpy(drawn.operation), strength))
