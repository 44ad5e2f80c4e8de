"""Dice: what a scene leaves to chance, from its seed."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from segbench.data.synthetic.colour import Colour

_T = TypeVar("_T")


class Dice:
    """Chance, from a seed: the few draws a scene needs, each from one uniform number."""

    def __init__(self, *seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def between(self, low: float, high: float) -> float:
        """A number in low..high."""
        return low + (high - low) * float(self.generator.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + int(self.generator.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True as often as `probability`, 0..1, says."""
        return float(self.generator.random()) < probability

    def pick(self, things: Sequence[_T]) -> _T:
        """One of some things, each as likely."""
        return things[int(self.generator.random() * len(things))]

    def near(self, colour: Colour, spread: float) -> Colour:
        """A colour like `colour`: its brightness and each channel moved by up to `spread`."""
        shift = self.between(-spread, spread)
        r, g, b = (self.generator.random(3) * spread - spread / 2).tolist()
        return (max(0.0, colour[0] + shift + r), max(0.0, colour[1] + shift + g), max(0.0, colour[2] + shift + b))
