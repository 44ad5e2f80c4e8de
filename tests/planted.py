"""Networks that are known to look at one thing and nothing else, and scenes to ask them about."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures.segmenter import Segmenter
from segbench.explain.probe import Probe, Scene, draws

SIZE = (32, 64)
CLASSES = 3


class Planted(Segmenter):
    """Scores at the image's own size."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # so that there is a weight to store
        self.classes = classes

    def losses(self, outputs: Any, labels: Tensor) -> dict[str, Tensor]:
        return {"main": F.cross_entropy(self.scores(outputs), labels)}

    def scores(self, outputs: Tensor) -> Tensor:
        """The last classes get what is left over: nothing."""
        missing = self.classes - outputs.shape[1]
        return F.pad(outputs.float(), (0, 0, 0, 0, 0, missing), value=-100.0)[:, : self.classes]


class Pixel(Planted):
    """A pixel's own colour decides."""

    def forward(self, images: Tensor) -> Tensor:
        return images * (1 + self.unused)


class Texture(Planted):
    """The channel that is roughest over the whole image decides everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        rough = images.diff(dim=3).abs().mean((2, 3), keepdim=True)
        return rough.expand_as(images)


class Box(Planted):
    """The mean within RADIUS pixels decides."""

    RADIUS = 3

    def forward(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 2 * self.RADIUS + 1, stride=1, padding=self.RADIUS)


class Companion(Planted):
    """Colour decides, but class 2 is only seen beside class 1, anywhere in the image."""

    def forward(self, images: Tensor) -> Tensor:
        there = (images[:, 1] > 0.5).flatten(1).any(1).float()
        return torch.stack([images[:, 0], images[:, 1], images[:, 2] * there[:, None, None]], 1)


class Corner(Planted):
    """The brightness of the first tile, 4×4 pixels, speaks for class 1 everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        evidence = images[:, :1, :4, :4].mean((2, 3), keepdim=True).expand(-1, 1, *images.shape[2:])
        return torch.cat([torch.zeros_like(evidence), evidence, torch.zeros_like(evidence)], 1)


class Linear(Planted):
    """A strided convolution, then weights per class; scores stand for log-probabilities."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(classes)
        self.features = nn.Conv2d(3, 2 * classes, 2, stride=2)
        self.head = nn.Conv2d(2 * classes, classes, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def log_probabilities(self, scores: Tensor) -> Tensor:
        return scores


class Cut(Linear):
    """No gradient passes."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


def probe(network: Segmenter, classes: int = CLASSES) -> Probe:
    return Probe(network, classes, torch.device("cpu"))


def scene(index: int, image: Tensor, truth: Tensor, others: tuple[Tensor, ...] | None = None) -> Scene:
    """image: (3, H, W) normalised; truth: (H, W) classes, all labelled."""
    pixels = (torch.rand(*truth.shape, 3, generator=torch.Generator().manual_seed(index)) * 255).to(torch.uint8)
    rest = others or (image.roll(7, 2), image.roll(13, 1))
    return Scene(f"city/scene_{index}", pixels, image, truth, torch.ones_like(truth, dtype=torch.bool), rest)


def patches(index: int, noise: float = 0.0) -> Scene:
    """Rectangles of the three classes, each in the colour of its channel, and noise."""
    generator = draws(str(index), "patches")
    truth = np.zeros(SIZE, np.int64)
    for category, (top, left) in enumerate([(4, 8 + index % 8), (16, 40 - index % 8)], 1):
        truth[top : top + 8, left : left + 14] = category
    planes = np.eye(CLASSES)[truth].transpose(2, 0, 1) + noise * generator.standard_normal((CLASSES, *SIZE))
    image = torch.from_numpy(planes.astype(np.float32))
    return scene(index, image, torch.from_numpy(truth), (torch.zeros_like(image), torch.zeros_like(image)))


def textures(index: int) -> Scene:
    """One class all over: that of the channel that is a little rougher. The other images are of other classes."""
    category = index % CLASSES
    images = []
    for rough in (category, (category + 1) % CLASSES, (category + 2) % CLASSES):
        drawn = draws(f"{index} {rough}", "textures").standard_normal((CLASSES, *SIZE))
        drawn[rough] *= 1.3
        images.append(torch.from_numpy(drawn.astype(np.float32)))
    return scene(index, images[0], torch.full(SIZE, category), tuple(images[1:]))
