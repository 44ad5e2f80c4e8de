"""Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391) for a region (Seg-Grad-CAM, Vinogradova et al., AAAI 2020,
arXiv 2002.11434), on any network: the layer is found by rule, not by name."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.engine.inference import resize
from segbench.explain.regions import Region

_FEWEST_CELLS = 32  # of a feature map: a coarser one cannot tell places apart
_STRIDES = (2, 4, 8, 16, 32, 64)


class Cam(NamedTuple):
    signed: Tensor  # (H, W) float32; the map itself is its positive part
    layer: str  # the module whose feature maps were weighted

    @property
    def map(self) -> Tensor:
        """(H, W) float32, 0 or more: what speaks for the category."""
        return self.signed.relu()


class _Seen(NamedTuple):
    layer: str
    features: Tensor  # (1, K, h, w)


def grad_cam(model: Segmenter, image: Tensor, asked: Region) -> Cam | str:
    """The map of the region's mean log-probability, of an image (3, H, W), or why there is none: "gradients" if none
    reaches a feature map, "layer" if the network has no feature map (1, K, h, w) on a grid of the image.

    Of the feature maps with more channels than classes, those on the coarsest grid of at least 32 cells count, as far
    as gradients reach them; the last of these in the forward pass is taken. It summarises a wide surrounding, and still
    has places.
    """
    size = (image.shape[-2], image.shape[-1])
    seen: list[_Seen] = []
    hooks = [
        module.register_forward_hook(lambda m, i, output, name=name: _note(seen, name, output, size))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.enable_grad():
            scores = model.scores(model(image[None].clone().requires_grad_(True)))
    finally:
        for hook in hooks:
            hook.remove()
    with torch.enable_grad():
        target = model.log_probabilities(resize(scores, size))[0, asked.category][asked.mask].mean()
    wide = [each for each in seen if each.features.shape[1] > scores.shape[1]]
    if not wide:
        return "layer"
    wide = [each for each in wide if each.features.requires_grad]
    if not wide or not target.requires_grad:
        return "gradients"
    gradients = torch.autograd.grad(target, [each.features for each in wide], allow_unused=True)
    reached = [(each, g) for each, g in zip(wide, gradients, strict=True) if g is not None and bool(g.any())]
    if not reached:
        return "gradients"
    coarsest = min(each.features[0, 0].numel() for each, _ in reached)
    last, gradient = [pair for pair in reached if pair[0].features[0, 0].numel() == coarsest][-1]
    weights = gradient.float().mean((2, 3), keepdim=True)
    cam = (weights * last.features.detach().float()).sum(1, keepdim=True)
    return Cam(resize(cam, size)[0, 0], last.layer)


def _note(seen: list[_Seen], layer: str, output: object, size: tuple[int, int]) -> None:
    """Notes a module's output if it is a feature map on a grid of the image."""
    if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != 1:
        return
    grid = (output.shape[2], output.shape[3])
    fits = any(grid == (-(-size[0] // stride), -(-size[1] // stride)) for stride in _STRIDES)
    if fits and grid[0] * grid[1] >= _FEWEST_CELLS:
        seen.append(_Seen(layer, output))
