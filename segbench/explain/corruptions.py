"""Five seeded corruptions of photographs at three severities, as tensor code on the device (JPEG goes through Pillow).

Noise, motion blur, fog and JPEG follow D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, ICLR 2019 (arXiv 1903.12261), at their severities 1, 3 and 5; the constants are those of
ImageNet-C, `imagenet_c/corruptions.py` of their repository. Theirs draw from global generators, depend on ImageMagick,
and are made for 224 pixels; here lengths scale with the shorter side, and the numbers follow from the scene's name.
Night is our own: ImageNet-C has none.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from segbench.core import explained
from segbench.data.batches import normalise
from segbench.explain.probe import Probe, Scene, confusion

_REFERENCE = 224  # pixels, the side of ImageNet-C's images
_NOISE = {1: 0.08, 3: 0.18, 5: 0.38}  # standard deviation, of 0..1
_MOTION = {1: (10, 3.0), 3: (15, 8.0), 5: (20, 15.0)}  # radius and standard deviation, in pixels
_FOG = {1: (1.5, 2.0), 3: (2.5, 1.7), 5: (3.0, 1.4)}  # thickness, and how fast its small structure fades
_JPEG = {1: 25, 3: 15, 5: 7}  # quality
_NIGHT = {1: (1.5, 0.6, 0.02), 3: (2.0, 0.35, 0.04), 5: (2.5, 0.2, 0.08)}  # gamma, exposure, noise; our own

Generator = np.random.Generator
Corruption = Callable[[Tensor, int, Generator], Tensor]  # (3, H, W) float 0..1, severity → the same, unclamped


def corrupted(probe: Probe, scene: Scene) -> dict[str, list[list[list[int]]]]:
    """The confusion, (C, C), of each corruption (CORRUPTIONS) at each severity (SEVERITIES)."""
    pairs = [(name, severity) for name in explained.CORRUPTIONS for severity in explained.SEVERITIES]
    images = torch.stack([corrupt(scene, name, severity) for name, severity in pairs])
    answers = probe.predicted(list(normalise(images, probe.model.normalisation)))
    counts = [confusion(scene.truth, answer, probe.classes) for answer in answers]
    steps = len(explained.SEVERITIES)
    return {name: counts[i * steps : (i + 1) * steps] for i, name in enumerate(explained.CORRUPTIONS)}


def corrupt(scene: Scene, name: str, severity: int) -> Tensor:
    """The corrupted photograph, (H, W, 3) uint8, always the same for a scene."""
    image = scene.pixels.permute(2, 0, 1).float() / 255
    made = _CORRUPTIONS[name](image, severity, scene.draws(f"{name} {severity}"))
    return made.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)


def _noise(image: Tensor, severity: int, generator: Generator) -> Tensor:
    """Gaussian noise, as of a sensor with little light."""
    return image + _NOISE[severity] * _normal(image, generator)


def _motion(image: Tensor, severity: int, generator: Generator) -> Tensor:
    """A shaken camera: the mean of images moved along a line, with half a Gaussian's weights; between -45° and 45°, as
    theirs."""
    radius, sigma = (value * min(image.shape[-2:]) / _REFERENCE for value in _MOTION[severity])
    angle = math.radians(float(generator.uniform(-45, 45)))
    steps = torch.arange(2 * max(math.ceil(radius), 1) + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (steps / max(sigma, 0.5)) ** 2)
    height, width = image.shape[-2:]
    rows = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=image.device)
    columns = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=image.device)
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    step = torch.tensor([2 * math.cos(angle) / width, 2 * math.sin(angle) / height], device=image.device)
    moved = places + steps.view(-1, 1, 1, 1) * step
    shifted = F.grid_sample(image.expand(len(steps), -1, -1, -1), moved, padding_mode="border", align_corners=False)
    return (shifted * (weights / weights.sum()).view(-1, 1, 1, 1)).sum(0)


def _fog(image: Tensor, severity: int, generator: Generator) -> Tensor:
    """Haze of uneven thickness. Theirs is a plasma fractal by diamond-square; ours sums smooth noise over octaves that
    fade alike, which has the same spectrum."""
    thickness, fading = _FOG[severity]
    height, width = image.shape[-2:]
    plasma = torch.zeros(1, 1, height, width, device=image.device)
    for octave in range(1, 1 + int(math.log2(min(height, width)))):
        cells = (min(1 << octave, height), min((1 << octave) * max(width // height, 1), width))
        drawn = torch.from_numpy(generator.uniform(-1, 1, (1, 1, *cells)).astype(np.float32)).to(image.device)
        plasma += F.interpolate(drawn, (height, width), mode="bilinear", align_corners=False) / fading**octave
    plasma -= plasma.min()
    plasma /= plasma.max().clamp(min=1e-6)
    brightest = image.max()
    return (image + thickness * plasma[0]) * brightest / (brightest + thickness)


def _night(image: Tensor, severity: int, generator: Generator) -> Tensor:
    """Little light: darker midtones, less exposure, and noise that grows as light fades."""
    gamma, exposure, noise = _NIGHT[severity]
    return exposure * image**gamma + noise * _normal(image, generator)


def _jpeg(image: Tensor, severity: int, generator: Generator) -> Tensor:
    """Strong compression."""
    pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG[severity])
    with Image.open(buffer) as decoded:
        restored = np.array(decoded)
    return torch.from_numpy(restored).to(image.device).permute(2, 0, 1).float() / 255


def _normal(image: Tensor, generator: Generator) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(image.shape), np.float32)).to(image.device)


_CORRUPTIONS: dict[str, Corruption] = {
    "noise": _noise,
    "motion": _motion,
    "fog": _fog,
    "night": _night,
    "jpeg": _jpeg,
}
