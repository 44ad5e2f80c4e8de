"""RandAugment and TrivialAugment for streets: which operations an image gets, and how strong.

RandAugment (Cubuk et al., arXiv 1909.13719): two operations per image, each at 9 of 30 steps of its full strength.
TrivialAugment (Müller and Hutter, arXiv 2103.10158): one operation per image, at a number of steps drawn evenly.

Operations and full strengths are those of torchvision.transforms.v2.RandAugment, with these differences for streets:
- No posterize and no solarize: no camera makes such photographs.
- TrivialAugment does not go to the full strengths, nor to the wide ones of its paper (which turn by 135 degrees). It
  moves an image no further than RandAugment does, since a camera on a car stays upright. It changes colours by factors
  of 0.49 … 1.51, about the 0.5 … 1.5 of the photometric distortion in published recipes for Cityscapes
  (mmsegmentation's, EoMT's).
- Shears are about the middle of the image, which moves less of it away than shears about its corner.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.data.augmentation import geometry

STEPS = 30  # at full strength
RANDAUGMENT = 9  # steps, the paper's choice
COLOURS = 17  # steps, TrivialAugment's strongest colours


class Policy(NamedTuple):
    operations: int  # per image
    moving: tuple[int, int]  # the fewest and the most steps of an operation that moves pixels
    colouring: tuple[int, int]  # and of one that changes colours


POLICIES = {
    "randaugment": Policy(2, (RANDAUGMENT, RANDAUGMENT), (RANDAUGMENT, RANDAUGMENT)),
    "trivialaugment": Policy(1, (0, RANDAUGMENT), (0, COLOURS)),
}
MOVING = {  # full strength
    "shear_x": 0.3,  # pixels sideways per pixel down, both of the photograph
    "shear_y": 0.3,
    "shift_x": 150 / 331,  # share of the width
    "shift_y": 150 / 331,  # share of the height
    "rotate": 30.0,  # degrees
}
COLOURING = {  # full strength: the factor is 1 - strength … 1 + strength
    "brightness": 0.9,
    "saturation": 0.9,
    "contrast": 0.9,
    "sharpness": 0.9,
    "autocontrast": 0.0,  # these two have one strength
    "equalize": 0.0,
}
OPERATIONS = ("identity", *MOVING, *COLOURING)  # each as likely


class Drawn(NamedTuple):
    """The operations of N images in the order of application; S per image."""

    operation: NDArray[np.int64]  # (N, S) into OPERATIONS
    strength: NDArray[np.float64]  # (N, S) signed

    def frames(self, aspects: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """(N, 3, 3) of each of the S operations, the unit matrix where it moves nothing. `aspects`: (N,) width / height
        of the photographs."""
        return [_frame(*drawn, aspects) for drawn in zip(self.operation.T, self.strength.T, strict=True)]


def draw(name: str, images: int, random: np.random.Generator) -> Drawn:
    """The operations of the policy `name`, a key of POLICIES, or none for "none"."""
    policy = POLICIES.get(name, Policy(0, (0, 0), (0, 0)))
    shape = (images, policy.operations)
    operation = random.integers(len(OPERATIONS), size=shape)
    ranges = [policy.moving if name in MOVING else policy.colouring for name in OPERATIONS]
    fewest, most = np.array(ranges)[operation].transpose(2, 0, 1)
    steps = random.integers(fewest, most, endpoint=True)
    full = np.array([{**MOVING, **COLOURING}.get(name, 0.0) for name in OPERATIONS])[operation]
    sign = np.where(random.random(shape) < 0.5, -1.0, 1.0)
    return Drawn(operation, sign * full * steps / STEPS)


def _frame(
    operation: NDArray[np.int64], strength: NDArray[np.float64], aspects: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, 3, 3): at most one of the three factors is not the unit matrix."""
    by = {name: np.where(operation == OPERATIONS.index(name), strength, 0.0) for name in MOVING}
    turned = geometry.turned(by["rotate"], aspects)
    sheared = geometry.sheared(by["shear_x"], by["shear_y"], aspects)
    return turned @ sheared @ geometry.shifted(by["shift_x"], by["shift_y"])
