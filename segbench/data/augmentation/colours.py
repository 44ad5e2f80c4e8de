"""Operations on colours. images: (B, H, W, 3) float32 RGB, 0..255; a factor: (B, 1, 1, 1), 1 changes nothing.

Each image is changed as torchvision.transforms.v2.functional would change it alone; only rounding to whole levels, as
for uint8 images, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.core.augment import Augment
from segbench.data.augmentation import policies
from segbench.data.augmentation.views import Views

_GREY = (0.2989, 0.587, 0.114)  # of R, G and B: ITU-R BT.601 luma, as torchvision weighs them
_SMALLEST_BLUR = 1e-3  # pixels: a kernel of 1 in its middle


def recoloured(augment: Augment, images: Tensor, views: Views, to_device: Callable[[Tensor], Tensor]) -> Tensor:
    """Light, blur and noise, as far as `augment` has them, then the policy's operations."""
    if augment.colour or augment.contrast:
        images = relit(images, views.light)
    if augment.blur:
        images = blurred(images, views.blur, math.ceil(3 * augment.blur))
    if augment.noise:
        images = noisy(images, views.noise, views.key)
    for operation, strength in zip(views.operation.T, views.strength.T, strict=True):
        for name, change in COLOURING.items():
            chosen = torch.nonzero(operation == policies.OPERATIONS.index(name))[:, 0]
            if len(chosen):
                rows, factor = to_device(chosen), to_device(1 + strength[chosen])
                changed = change(images.index_select(0, rows), factor.view(-1, 1, 1, 1))
                images = images.index_copy(0, rows, changed)
    return images


def relit(images: Tensor, light: Tensor) -> Tensor:
    """light: (B, 3), factors of brightness, contrast and saturation, applied in this order."""
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in light.unbind(1))
    return saturated(contrasted(brightened(images, brightness), contrast), saturation)


def brightened(images: Tensor, factor: Tensor) -> Tensor:
    """As adjust_brightness."""
    return (images * factor).clamp_(0, 255)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """As adjust_contrast: away from the mean grey of each image."""
    return _grey(images).mean((1, 2, 3), keepdim=True).lerp(images, factor).clamp_(0, 255)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """As adjust_saturation."""
    return _grey(images).lerp(images, factor).clamp_(0, 255)


def sharpened(images: Tensor, factor: Tensor) -> Tensor:
    """As adjust_sharpness: away from a smoothed copy. The outermost pixels stay as they are."""
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = F.conv2d(images.permute(0, 3, 1, 2), kernel / 13, groups=3).permute(0, 2, 3, 1)
    result = images.clone()
    result[:, 1:-1, 1:-1] = smooth.lerp(images[:, 1:-1, 1:-1], factor).clamp_(0, 255)
    return result


def autocontrasted(images: Tensor, factor: Tensor) -> Tensor:
    """As autocontrast: each channel of each image is stretched to 0..255, unless it is of one level."""
    low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    flat = low == high
    stretched = (images - low.masked_fill(flat, 0)) * (255 / (high - low).masked_fill(flat, 255))
    return stretched.clamp_(0, 255)


def equalized(images: Tensor, factor: Tensor) -> Tensor:
    """As equalize, which follows Pillow's ImageOps: each channel's levels, of 256, become about equally frequent."""
    levels = images.round().long().flatten(1, 2).transpose(1, 2).contiguous()  # (B, 3, pixels)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    below = counts.cumsum(2) - counts
    highest = torch.where(counts > 0, torch.arange(256, device=images.device), 0).amax(2, keepdim=True)
    step = (levels.shape[2] - counts.gather(2, highest)) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.gather(2, levels).transpose(1, 2).reshape(images.shape).to(images.dtype)


def blurred(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """As gaussian_blur with kernels of 2 · radius + 1 pixels. sigma: (B,), pixels."""
    number, height, width = images.shape[:3]
    radius = min(radius, height - 1, width - 1)  # reflection cannot reach farther
    taps = torch.arange(-radius, radius + 1, device=images.device)
    weights = torch.softmax(-((taps / sigma.clamp(min=_SMALLEST_BLUR)[:, None]) ** 2) / 2, 1)
    weights = weights.repeat_interleave(3, 0)  # each plane of each image has its own
    planes = F.pad(images.permute(0, 3, 1, 2), [radius] * 4, "reflect").reshape(1, 3 * number, -1, width + 2 * radius)
    planes = F.conv2d(planes, weights[:, None, :, None], groups=3 * number)
    planes = F.conv2d(planes, weights[:, None, None, :], groups=3 * number)
    return planes.view(number, 3, height, width).permute(0, 2, 3, 1).clamp(0, 255)


def noisy(images: Tensor, deviation: Tensor, key: Tensor) -> Tensor:
    """Gaussian noise, independent for every pixel and channel. deviation: (B,), of 0..255; key: (B,) int32.

    Counter-based: a value follows from its image's key and its place, so that neither a batch nor a device's generator
    decides it. The bits are the same on every device; the normal numbers made of them are so but for rounding.
    """
    place = torch.arange(images[0].numel(), dtype=torch.int32, device=images.device).view(images.shape[1:])
    bits = _mixed(_mixed(place) ^ key.view(-1, 1, 1, 1))
    uniform = _shifted(bits, 9).float().add_(0.5).mul_(2.0**-22).sub_(1)  # -1..1 without its ends, exactly
    normal = uniform.erfinv_().mul_(math.sqrt(2) * deviation.view(-1, 1, 1, 1))
    return normal.add_(images).clamp_(0, 255)


def _mixed(bits: Tensor) -> Tensor:
    """A 32-bit hash, lowbias32 of https://nullprogram.com/blog/2018/07/31/. int32 stands for uint32: products wrap."""
    bits = _shifted(bits, 16).bitwise_xor_(bits).mul_(0x7FEB352D)
    bits = _shifted(bits, 15).bitwise_xor_(bits).mul_(0x846CA68B - 2**32)
    return _shifted(bits, 16).bitwise_xor_(bits)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, filled with zeros; torch repeats the sign."""
    return (bits >> by).bitwise_and_(2 ** (32 - by) - 1)


def _grey(images: Tensor) -> Tensor:
    """(B, H, W, 3) to (B, H, W, 1)."""
    return (images @ torch.tensor(_GREY, device=images.device))[..., None]


COLOURING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightened,
    "saturation": saturated,
    "contrast": contrasted,
    "sharpness": sharpened,
    "autocontrast": autocontrasted,
    "equalize": equalized,
}
