"""From images to class maps: one forward, scores resized, argmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.compute import Compute
from segbench.data.batches import normalise


def predict(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, H, W, 3) uint8 RGB. Returns (B, H, W) uint8 categories 0..7 on the compute device."""
    with torch.inference_mode():
        scores = full_scores(model, normalise(images.to(compute.device)), compute)
        return scores.argmax(1).to(torch.uint8)


def full_scores(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, 3, H, W) normalised. Returns (B, C, H, W) float32 scores."""
    with compute.autocast():
        outputs = model(images)
    return resize(model.scores(outputs), images.shape[-2:])


def resize(scores: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """(B, C, h, w) scores to (B, C, *size), bilinearly."""
    return F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)
