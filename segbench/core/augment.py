"""The table [augment]."""

from __future__ import annotations

from dataclasses import dataclass

from segbench.core.tables import require

SCALES = (0.1, 10.0)  # how far an augmented image may be zoomed


@dataclass(frozen=True)
class Augment:
    """The table [augment]: how training images vary from epoch to epoch, for every architecture alike."""

    flip: float = 0.0  # share of images mirrored left to right
    scale: tuple[float, float] = (1.0, 1.0)  # log-uniform; above 1 a random crop, below 1 a border of void around it
    colour: float = 0.0  # brightness, contrast and saturation each times 1 - colour … 1 + colour

    def __post_init__(self) -> None:
        require(0 <= self.flip <= 1, f"flip is a share, 0..1, not {self.flip:g}")
        low, high = self.scale
        fits = SCALES[0] <= low <= high <= SCALES[1]
        require(fits, f"scale must be [low, high] with {SCALES[0]} <= low <= high <= {SCALES[1]}, not {[low, high]}")
        require(0 <= self.colour < 1, f"colour must be 0 or more and below 1, not {self.colour:g}")
