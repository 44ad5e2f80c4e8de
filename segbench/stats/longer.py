"""Longer training: whether a learning curve still rose at its end, and what more epochs would add to it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.stats.bootstrap import LEVEL, Interval, Values

FEWEST_FOR_A_RISE = 4  # epochs of the last third: a line through three leaves one degree of freedom
FEWEST_FOR_A_FIT = 6  # epochs, of which the fit takes three parameters and the noise
_NONE = Interval(np.nan, np.nan, np.nan)
_EXPONENTS = np.linspace(-0.5, 3, 400)  # of the power laws; 0 is a logarithm, below the curve bends still less
_RATES = np.geomspace(0.25, 16, 400)  # of the exponentials, per length of the curve
_DRAWS, _FEWEST_DRAWS, _SEED = 20_000, 500, 0


class Rise(NamedTuple):
    """How much a curve rose over its last epochs, in its own unit."""

    epochs: int
    rise: Interval


class Longer(NamedTuple):
    """A fitted curve, continued. All NaN where it cannot be fitted."""

    gain: Interval  # from the last epoch to the last continued one
    epochs: NDArray[np.int64]  # 1 … the last continued one
    curve: Values  # (3, epochs): median, low and high; NaN in the epochs that the fit leaves out


def last_rise(scores: Sequence[float], level: float = LEVEL) -> Rise:
    """The rise over the last third of the epochs, at least 4 of them, by least squares: slope · (epochs - 1), with the
    t interval of the slope (n - 2 degrees of freedom), for independent normal noise.

    scores: one per epoch, such as mIoU. The interval is NaN below 4 epochs.
    """
    from scipy import special  # takes a tenth of a second, so not when the statistics are imported

    n = max(FEWEST_FOR_A_RISE, -(-len(scores) // 3))
    if len(scores) < n:
        return Rise(len(scores), _NONE)
    values = np.asarray(scores[-n:], np.float64)
    x = np.arange(n) - (n - 1) / 2
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    error = float(np.sqrt(rest @ rest / (n - 2) / (x @ x)))
    reach = float(special.stdtrit(n - 2, (1 + level) / 2)) * error
    return Rise(n, Interval(*(end * (n - 1) for end in (slope, slope - reach, slope + reach))))


def continued(scores: Sequence[float], epochs: int, level: float = LEVEL) -> Longer:
    """The curve continued to `epochs`, and its gain from the last score's epoch on, with their intervals.

    scores: one per epoch, 0..1. epochs: more than there are scores, else ValueError. The expected score is f(t) =
    a - b · g(t), where g is one of the power laws t^-c or exponentials exp(-c t) that learning curves are fitted with
    (T. Viering, M. Loog, The shape of learning curves: a review, IEEE TPAMI 2023), and the noise is normal and
    independent. No curve is chosen: each of the 800 counts by its likelihood, integrated over a, b and the noise, with
    the usual flat priors (A. Gelman et al., Bayesian Data Analysis, 3rd ed., sec. 14.2) on scaled g, so that curves of
    different steepness are comparable. 20,000 curves are drawn from that posterior; those that leave 0..1 are dropped.
    So a curve that does not bend yet gets the wide interval it deserves.

    The first tenth of the epochs is left out, because the start of a training follows no such law. The scores are those
    of each epoch, not the best so far: that one also rises by luck, and its errors are not independent. All NaN below 6
    epochs, and where almost no drawn curve stays within 0..1. Simulated on both kinds of curves, on a logarithm and on
    a flat line, with 8 to 50 epochs, the 95 % interval of the gain covers, to a tenth of a point, in 92 % of cases.
    """
    if epochs <= len(scores):
        raise ValueError(f"epochs must be more than the {len(scores)} there are, not {epochs}")
    first = len(scores) // 10
    y = np.asarray(scores, np.float64)[first:]
    every = np.arange(1, epochs + 1)
    seen = slice(first, len(scores))
    if len(y) < FEWEST_FOR_A_FIT or not np.isfinite(y).all():
        return Longer(_NONE, every, np.full((3, epochs), np.nan))
    drawn = _drawn(y, _shapes(epochs, len(scores)), seen)
    fitted = drawn[:, first:]
    drawn = drawn[((fitted >= 0) & (fitted <= 1)).all(1)]
    drawn[:, :first] = np.nan
    if len(drawn) < _FEWEST_DRAWS:
        return Longer(_NONE, every, np.full((3, epochs), np.nan))
    ends = [0.5, (1 - level) / 2, (1 + level) / 2]
    gains = drawn[:, -1] - drawn[:, len(scores) - 1]
    return Longer(Interval(*map(float, np.quantile(gains, ends))), every, np.quantile(drawn, ends, axis=0))


@functools.lru_cache(maxsize=8)
def _shapes(epochs: int, length: int) -> Values:
    """(800, epochs): the power laws and the exponentials."""
    every = np.arange(1, epochs + 1)
    powers = np.exp(-_EXPONENTS[:, None] * np.log(every)[None])
    powers = np.where(np.abs(_EXPONENTS[:, None]) < 1e-3, np.log(every)[None], powers)
    shapes = np.concatenate([powers, np.exp(-_RATES[:, None] * every[None] / length)])
    shapes.setflags(write=False)  # the cache shares it between calls
    return shapes


def _drawn(y: Values, shapes: Values, seen: slice) -> Values:
    """(draws, epochs) curves from the posterior. Of each shape, the regression of y on it has two parameters."""
    n = len(y)
    observed = shapes[:, seen]
    centre, scale = observed.mean(1, keepdims=True), observed.std(1, keepdims=True)
    scaled = (shapes - centre) / scale  # orthogonal to the constant where observed
    slopes = scaled[:, seen] @ y / n
    rest = y - y.mean() - slopes[:, None] * scaled[:, seen]
    squares = np.maximum((rest**2).sum(1), 1e-12)
    likelihood = -(n - 2) / 2 * np.log(squares)
    weights = np.exp(likelihood - likelihood.max())
    generator = np.random.default_rng(_SEED)
    which = generator.choice(len(shapes), _DRAWS, p=weights / weights.sum())
    noise = np.sqrt(squares[which] / generator.chisquare(n - 2, _DRAWS) / n)
    heights = y.mean() + noise * generator.standard_normal(_DRAWS)
    slopes_drawn = slopes[which] + noise * generator.standard_normal(_DRAWS)
    return np.asarray(heights[:, None] + slopes_drawn[:, None] * scaled[which])
