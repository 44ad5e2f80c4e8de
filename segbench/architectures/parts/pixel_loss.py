"""The loss of a pixel: cross-entropy, with label smoothing, class weights and hard example mining if a recipe asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.core.recipe import Recipe
from segbench.data.batches import NO_CLASS
from segbench.runtime import global_batch

_FEWEST = 16  # of an image's pixels at least one in so many counts, the least likely, however sure the network is
_SAMPLED = 0.05  # a class with much more than this share of all pixels counts as fully sampled


@dataclass(frozen=True)
class PixelLoss:
    """Logits (B, C, h, w) and labels (B, H, W), 0..C-1 or NO_CLASS, to a scalar: the mean over all pixels that have a
    class; under `ohem` over each image's hard ones, then over images."""

    label_smoothing: float = 0.0
    ohem: float = 0.0
    weights: Tensor | None = None  # (C,) float32, of the classes; their mean over the training pixels is 1

    @classmethod
    def of(cls, recipe: Recipe, counts: Tensor | None) -> Self:
        """As a recipe describes. counts: (C,) training pixels of each class, where it weighs classes."""
        weights = None if counts is None else effective_weights(counts)
        return cls(recipe.label_smoothing, recipe.ohem, weights)

    def __call__(self, logits: Tensor, labels: Tensor, is_sharded: bool = False) -> Tensor:
        """`is_sharded`: whether other processes have the rest of the batch."""
        full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
        plain = not self.ohem and self.weights is None
        if plain and not is_sharded:
            return F.cross_entropy(full, labels, ignore_index=NO_CLASS, label_smoothing=self.label_smoothing)
        weights = None if self.weights is None else self.weights.to(full.device, non_blocking=True)
        losses = F.cross_entropy(
            full, labels, weights, ignore_index=NO_CLASS, reduction="none", label_smoothing=self.label_smoothing
        )
        if not self.ohem:
            labelled = (labels != NO_CLASS).sum()
            return losses.sum() / global_batch.spread(labelled, len(labels), labels.device, is_sharded)
        hard = _hard(full.detach(), labels, self.ohem).float()
        return ((losses * hard).sum((1, 2)) / hard.sum((1, 2)).clamp(min=1)).mean()


def effective_weights(counts: Tensor) -> Tensor:
    """counts: (C,) pixels of each class. Returns (C,) float32 weights in inverse proportion to each class's effective
    number of samples, (1 - β^n) / (1 - β) with β = (N - 1) / N (Cui et al., arXiv 1901.05555, equation 2).

    A pixel tells little beyond its neighbours, so N, the volume that samples can cover, is a share of all pixels: then
    the weights do not depend on the number of images. A class that no image shows has the weight 0.
    """
    n = counts.double()
    volume = (_SAMPLED * n.sum()).clamp(min=1)
    beyond = torch.exp(n * torch.log1p(-1 / volume.clamp(min=2)))  # β^n
    weights = torch.where(n > 0, 1 / (1 - beyond).clamp(min=1e-12), 0.0)
    return (weights / ((weights * n).sum() / n.sum())).float()


def _hard(logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """logits: (B, C, H, W), labels: (B, H, W). Returns (B, H, W) bool: the pixels whose class has a probability below
    `threshold`, and the least likely _FEWEST-th of each image in any case (Wu et al., arXiv 1604.04339, section 3.3, as
    in mmsegmentation's OHEMPixelSampler, but of each image)."""
    known = labels != NO_CLASS
    chance = logits.softmax(1).gather(1, labels.clamp(min=0)[:, None]).squeeze(1).masked_fill(~known, 2.0)
    pixels = chance[0].numel()
    fewest = chance.flatten(1).kthvalue(max(pixels // _FEWEST, 1)).values
    return known & ((chance < threshold) | (chance <= fewest[:, None, None]))
