"""How errors fall with the number of training images.

error(n) = a · n^-b, a straight line in logarithms, fitted by least squares (J. Hestness et al., Deep Learning Scaling
is Predictable, Empirically, arXiv 1712.00409: power laws over orders of magnitude, until an irreducible error is near).
Few points leave such a floor undetected, so an extrapolation beyond the next doubling is not offered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.stats.bootstrap import Sampled

FEWEST = 3  # numbers of images: a line through two always fits

Values = NDArray[np.float64]


class PowerLaw(NamedTuple):
    """One curve, or (R,) of them, one per resample."""

    factor: Values  # a
    exponent: Values  # b, above 0 if errors fall

    def error(self, images: float) -> Values:
        """(R,) errors at a number of images."""
        return np.asarray(self.factor * images**-self.exponent)


def power_law(images: NDArray[np.int64], errors: Values) -> PowerLaw:
    """images: (K,) distinct numbers; errors: (K,) or (K, R), above 0."""
    x = np.log(images.astype(np.float64))
    y = np.log(np.maximum(errors, 1e-9))
    centred = (x - x.mean()).reshape(-1, *(1,) * (y.ndim - 1))
    slope = (centred * (y - y.mean(0))).sum(0) / (centred**2).sum()
    return PowerLaw(np.exp(y.mean(0) - slope * x.mean()), np.asarray(-slope))


def gain_of_doubling(images: NDArray[np.int64], scores: list[Sampled]) -> Sampled:
    """What twice the largest number of images would add to a score (0..1), if its error 1 - score goes on along its
    power law. scores: one for each of the K numbers of images, on the same resamples."""
    estimates = np.array([score.estimate for score in scores])
    values = np.stack([score.values for score in scores])
    most = float(images.max())
    gains = []
    for errors in (1 - estimates, 1 - values):
        law = power_law(images, errors)
        gains.append(law.error(most) - law.error(2 * most))
    return Sampled(float(gains[0]), gains[1])
