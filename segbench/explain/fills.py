"""What takes the place of hidden pixels. Each fill has a bias of its own, so that claims need two that agree."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.explain.probe import Scene

_SIGMA = 1 / 8  # of the blur, as a share of the shorter side: colours of regions remain, shapes do not


def fills(scene: Scene) -> dict[str, Tensor]:
    """The images, (3, H, W), whose pixels stand for hidden ones, by name of `core.explained.FILLS`."""
    return {"other": scene.others[0], "blur": blurred(scene.image)}


def blurred(image: Tensor) -> Tensor:
    """(3, H, W) smoothed by a Gaussian whose standard deviation is an eighth of the shorter side, edges repeated."""
    sigma = _SIGMA * min(image.shape[-2:])
    radius = round(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    planes = image[:, None]
    for _ in range(2):  # along the rows, then along the columns, which are rows of the transposed image
        planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), "replicate"), kernel).transpose(2, 3)
    return planes[:, 0].contiguous()


def inpainted(image: Tensor, hole: Tensor) -> Tensor:
    """image: (3, H, W); hole: (H, W) bool. Returns the image with the hole filled smoothly from around it, by the
    push-pull of Gortler et al. (The Lumigraph, SIGGRAPH 1996, 3.4): averages of what is known, coarser and coarser,
    until every gap is filled. A hole over the whole image becomes 0, the mean colour."""
    known = (~hole)[None, None].to(image.dtype)
    filled = _push_pull(image[None] * known, known)
    return torch.where(hole, filled[0], image)


def _push_pull(weighted: Tensor, weight: Tensor) -> Tensor:
    """weighted: (1, 3, h, w) colours times their (1, 1, h, w) weight, 0..1. Returns (1, 3, h, w) colours."""
    height, width = weight.shape[-2:]
    colour = weighted / weight.clamp(min=1e-6)
    if max(height, width) == 1 or bool((weight >= 1).all()):
        return colour
    coarse = _push_pull(*(F.avg_pool2d(plane, 2, ceil_mode=True) for plane in (weighted, weight)))
    around = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return colour * weight + around * (1 - weight)
