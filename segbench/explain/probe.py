"""A network that is asked many questions, and a scene to ask about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.engine.inference import resize

_PIXELS = {"cpu": 1 << 19, "cuda": 1 << 23}  # of all images of one forward pass


class Probe:
    """A trained network in float32 and evaluation mode; unlike `inference.ready` it keeps what gradients need.

    The images of a question are always cut into the same batches, so that its answer is the same bit by bit whenever it
    is asked.
    """

    def __init__(self, model: Segmenter, classes: int, device: torch.device) -> None:
        self.model = model.eval().to(device)
        self.classes = classes
        self.device = device

    @torch.no_grad()
    def predicted(self, images: Sequence[Tensor]) -> Tensor:
        """images: B of (3, H, W), normalised. Returns (B, H, W) int64 classes."""
        return torch.cat([scores.argmax(1) for scores in self._scores(images)])

    @torch.no_grad()
    def evidence(self, images: Sequence[Tensor], region: Tensor, category: int) -> Tensor:
        """The mean log-probability, in nats, of `category` over the `region`, (H, W) bool, of each of the B images."""
        parts = [self.model.log_probabilities(scores)[:, category] for scores in self._scores(images)]
        return torch.cat([part[:, region].mean(1) for part in parts])

    def _scores(self, images: Sequence[Tensor]) -> list[Tensor]:
        height, width = images[0].shape[-2:]
        step = max(_PIXELS.get(self.device.type, _PIXELS["cpu"]) // (height * width), 1)
        batches = [torch.stack(list(images[start : start + step])) for start in range(0, len(images), step)]
        return [resize(self.model.scores(self.model(batch)), (height, width)) for batch in batches]


@dataclass(frozen=True)
class Scene:
    """One final validation image, on the device."""

    name: str
    pixels: Tensor  # (H, W, 3) uint8 RGB
    image: Tensor  # (3, H, W) float32, the same normalised
    truth: Tensor  # (H, W) int64 classes; a number that is no class where a pixel has none
    labelled: Tensor  # (H, W) bool, which pixels have a class that means something: not void
    others: tuple[Tensor, ...]  # two other images of that size, normalised, chosen by the name

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.truth.shape[0], self.truth.shape[1]

    def draws(self, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the scene's name and their purpose alone."""
        return draws(self.name, purpose)


def draws(name: str, purpose: str) -> np.random.Generator:
    """Random numbers that depend on the name and the purpose alone."""
    digest = hashlib.sha256(f"{purpose}\n{name}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> list[list[int]]:
    """(H, W) true and predicted classes as (C, C) pixel counts, rows are the truth; pixels without a class left out."""
    cells = (truth * classes + predicted)[truth < classes]
    counts: list[list[int]] = torch.bincount(cells, minlength=classes * classes).view(classes, classes).tolist()
    return counts
