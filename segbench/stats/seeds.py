"""Several trainings that differ only in their seed: their mean and spread, and a difference over seeds and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segbench.stats.bootstrap import LEVEL, Interval, Sampled

_MOST_SEEDS = 100  # nobody trains more


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
    from scipy import special  # takes a tenth of a second, so not when the statistics are imported

    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    n, nan = len(known), float("nan")
    if n < 2:
        return SeedSummary(float(known[0]) if n else nan, nan, nan, nan, n)
    mean, spread = float(known.mean()), float(known.std(ddof=1))
    reach = float(special.stdtrit(n - 1, (1 + level) / 2)) * spread / n**0.5
    return SeedSummary(mean, spread, mean - reach, mean + reach, n)


def over_seeds(
    difference: Sampled, first: Sequence[float], second: Sequence[float], level: float = LEVEL
) -> Interval | None:
    """The interval of a difference of two architectures over other images *and* other seeds; None below two seeds each.

    difference: of the means over seeds, in resamples of the images. first, second: one score per seed of either. The
    two sources of chance are added as variances: that of the resamples, and the spread over seeds over their number;
    Student's t takes F. E. Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946). Drawing the seeds
    themselves with replacement, as a hierarchical bootstrap does, has (n - 1) / n of the variance of n seeds: half of
    it for two. The tests simulate the coverage.
    """
    if min(len(first), len(second)) < 2:
        return None
    reach = _reach(_image_variance(difference), _of_means(first, second), [len(first), len(second)], level)
    return Interval(difference.estimate, difference.estimate - reach, difference.estimate + reach)


def p_over_seeds(difference: Sampled, first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of no difference: the largest level at which the interval of `over_seeds` includes 0. NaN below two
    seeds each."""
    from scipy import special  # takes a tenth of a second, so not when the statistics are imported

    if min(len(first), len(second)) < 2:
        return float("nan")
    total, freedom = _variance(_image_variance(difference), _of_means(first, second), [len(first), len(second)])
    if not total:
        return 1.0 if difference.estimate == 0 else 0.0
    t = -abs(difference.estimate) / total**0.5
    return float(2 * (special.stdtr(freedom, t) if np.isfinite(freedom) else special.ndtr(t)))


def seeds_to_settle(
    difference: Sampled, first: Sequence[float], second: Sequence[float], level: float = LEVEL
) -> int | None:
    """How many seeds of each architecture would make the interval of `over_seeds` exclude zero, if difference and
    spreads stay as they are; None where no number up to 100 would, because the images alone leave too much to chance,
    and below two seeds each, where no spread is known."""
    if min(len(first), len(second)) < 2:
        return None
    spreads = [float(np.var(scores, ddof=1)) for scores in (first, second)]
    images = _image_variance(difference)
    for seeds in range(2, _MOST_SEEDS + 1):
        if _reach(images, [spread / seeds for spread in spreads], [seeds, seeds], level) < abs(difference.estimate):
            return seeds
    return None


def _image_variance(difference: Sampled) -> float:
    defined = difference.values[np.isfinite(difference.values)]
    return float(np.var(defined, ddof=1)) if len(defined) > 1 else float("nan")


def _of_means(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The variance that either mean over seeds has."""
    return [float(np.var(scores, ddof=1)) / len(scores) for scores in (first, second)]


def _variance(images: float, seeds: Sequence[float], numbers: Sequence[int]) -> tuple[float, float]:
    """Of the difference, and its degrees of freedom. `seeds`: as `_of_means`."""
    total = images + sum(seeds)
    uncertain = sum(part**2 / (number - 1) for part, number in zip(seeds, numbers, strict=True))
    return total, total**2 / uncertain if uncertain else np.inf


def _reach(images: float, seeds: Sequence[float], numbers: Sequence[int], level: float) -> float:
    """Half the interval's width."""
    from scipy import special  # takes a tenth of a second, so not when the statistics are imported

    total, freedom = _variance(images, seeds, numbers)
    quantile = special.stdtrit(freedom, (1 + level) / 2) if np.isfinite(freedom) else special.ndtri((1 + level) / 2)
    return float(quantile * total**0.5)
