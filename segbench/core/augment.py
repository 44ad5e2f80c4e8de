"""The table [augment], of a protocol for all architectures alike, or of one architecture instead."""

from __future__ import annotations

from dataclasses import dataclass

from segbench.core.tables import added, require, require_one_of

SCALES = (0.1, 10.0)  # how far an augmented image may be zoomed
STEEPEST = 45.0  # degrees
WIDEST_BLUR = 10.0  # pixels: its kernel has 61
BORDERS = ("void", "reflect")
POLICIES = ("none", "randaugment", "trivialaugment")


@dataclass(frozen=True)
class Augment:
    """How training images vary from epoch to epoch. Every field at its default changes nothing."""

    flip: float = 0.0  # share of images mirrored left to right
    scale: tuple[float, float] = (1.0, 1.0)  # log-uniform; above 1 a random crop, below 1 a border around it
    colour: float = 0.0  # brightness, contrast and saturation each times 1 - colour … 1 + colour
    rotate: float = added(0.0)  # turned by up to so many degrees either way, in the frame of the photograph
    contrast: float = added(0.0)  # contrast alone, times 1 - contrast … 1 + contrast, after `colour`
    blur: float = added(0.0)  # Gaussian, with a standard deviation of 0 … blur pixels of the packed size
    noise: float = added(0.0)  # Gaussian, with a standard deviation of 0 … noise, as a share of white
    policy: str = added("none")  # operations drawn per image: data/augmentation/policies.py
    border: str = added("void")  # what lies beside the image in a view: void in the mean colour, or its reflection

    def __post_init__(self) -> None:
        require(0 <= self.flip <= 1, f"flip is a share, 0..1, not {self.flip:g}")
        low, high = self.scale
        fits = SCALES[0] <= low <= high <= SCALES[1]
        require(fits, f"scale must be [low, high] with {SCALES[0]} <= low <= high <= {SCALES[1]}, not {[low, high]}")
        for name in ("colour", "contrast"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must be 0 or more and below 1, not {value:g}")
        require(0 <= self.rotate <= STEEPEST, f"rotate is in degrees, 0..{STEEPEST:g}, not {self.rotate:g}")
        require(0 <= self.blur <= WIDEST_BLUR, f"blur is in pixels, 0..{WIDEST_BLUR:g}, not {self.blur:g}")
        require(0 <= self.noise <= 1, f"noise is a share of white, 0..1, not {self.noise:g}")
        require_one_of("policy", self.policy, POLICIES)
        require_one_of("border", self.border, BORDERS)
