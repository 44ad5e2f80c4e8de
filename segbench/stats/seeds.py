"""Several trainings that differ only in their seed: mean, spread and the interval of the mean over all seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from segbench.stats.bootstrap import LEVEL


class SeedSummary(NamedTuple):
    """In the unit of the values; NaN where undefined."""

    mean: float
    spread: float  # sample standard deviation, n - 1 in the denominator; NaN for n < 2
    low: float  # the interval of the mean over all seeds; NaN for n < 2
    high: float
    n: int  # seeds with a value


def seed_summary(values: Sequence[float], level: float = LEVEL) -> SeedSummary:
    """Mean, spread and Student's t interval: mean ± t(n-1, (1+level)/2) · spread / √n.

    values: one score per seed; values that are not finite are left out and not counted in n. level: 0..1. The interval
    assumes that scores are normally distributed over seeds (Student, The probable error of a mean, Biometrika 6, 1908).
    With two seeds it is 12.7 standard errors on either side. With one seed spread and interval are NaN, with none also
    the mean.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    n, nan = len(known), float("nan")
    if n < 2:
        return SeedSummary(float(known[0]) if n else nan, nan, nan, nan, n)
    mean, spread = float(known.mean()), float(known.std(ddof=1))
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * spread / n**0.5
    return SeedSummary(mean, spread, mean - reach, mean + reach, n)
