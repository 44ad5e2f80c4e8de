"""What more epochs would add to a learning curve: intervals that cover as often as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from segbench.stats import continued, last_rise, longer

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CURVES: dict[str, Curve] = {
    "power": lambda t: 0.6 - 0.4 * t**-0.5,
    "hyperbola": lambda t: 0.6 - 0.4 / t,
    "exponential": lambda t: 0.6 - 0.4 * np.exp(-t / 3),
    "slow exponential": lambda t: 0.7 - 0.5 * np.exp(-t / 12),
    "logarithm": lambda t: 0.3 + 0.06 * np.log(t),
    "flat": lambda t: 0.5 + 0 * t,
}


def noisy(curve: Curve, epochs: int, noise: float, generator: np.random.Generator) -> list[float]:
    t = np.arange(1, epochs + 1, dtype=np.float64)
    return (curve(t) + generator.normal(0, noise, epochs)).tolist()


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("epochs", "noise"), [(8, 0.01), (15, 0.02), (40, 0.01)])
def test_the_interval_of_the_gain_covers(name: str, epochs: int, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 simulated trainings each; the seed is fixed. Gains are told to a tenth of a point."""
    monkeypatch.setattr(longer, "_DRAWS", 2000)
    curve, generator, trainings = CURVES[name], np.random.default_rng(0), 100
    true = float(np.diff(curve(np.array([epochs, 2.0 * epochs])))[0])
    gains = [continued(noisy(curve, epochs, noise, generator), 2 * epochs).gain for _ in range(trainings)]
    known = [gain for gain in gains if not np.isnan(gain.low)]
    assert len(known) > 0.9 * trainings
    assert sum(gain.low - 5e-4 <= true <= gain.high + 5e-4 for gain in known) >= 0.9 * len(known)


def test_more_epochs_make_the_interval_narrower_and_a_straight_curve_makes_it_wide() -> None:
    generator = np.random.default_rng(1)
    widths = []
    for epochs in (8, 16, 40):
        scores = noisy(lambda t: 0.6 - 0.4 * np.exp(-t / 3), epochs, 0.005, generator)
        gain = continued(scores, epochs + 10).gain
        widths.append(gain.high - gain.low)
    assert widths == sorted(widths, reverse=True)
    straight = continued(noisy(lambda t: 0.2 + 0.02 * t, 8, 0.01, generator), 16).gain
    assert straight.high - straight.low > 0.1  # it may bend tomorrow, or never


def test_a_curve_without_noise_is_continued_exactly() -> None:
    t = np.arange(1, 31, dtype=np.float64)
    found = continued((0.7 - 0.3 * t[:20] ** -0.7).tolist(), 30)
    assert np.isnan(found.curve[:, :2]).all()  # the first tenth is left out
    median, low, high = found.curve[:, 2:]
    assert median == pytest.approx(0.7 - 0.3 * t[2:] ** -0.7, abs=1e-3)
    assert (low <= median).all()
    assert (median <= high).all()
    assert found.epochs.tolist() == list(range(1, 31))


@pytest.mark.parametrize("scores", [[], [0.5] * 5, [0.1, 0.2, float("nan"), 0.3, 0.4, 0.5, 0.6]])
def test_too_little_is_not_fitted(scores: list[float]) -> None:
    assert np.isnan(continued(scores, 20).gain).all()


def test_only_a_longer_training_is_a_continuation() -> None:
    with pytest.raises(ValueError, match="more than the 6"):
        continued([0.5] * 6, 6)


def test_the_rise_at_the_end() -> None:
    """By hand: the last third of twelve epochs is four, which rise by 0.1 each."""
    found = last_rise([0.0] * 8 + [0.1, 0.2, 0.3, 0.4])
    assert (found.epochs, *found.rise) == pytest.approx((4, 0.3, 0.3, 0.3))
    assert np.isnan(last_rise([0.1, 0.2, 0.3]).rise).all()


def test_the_interval_of_the_rise_covers() -> None:
    generator, covered = np.random.default_rng(2), 0
    for _ in range(2000):
        rise = last_rise((0.3 + 0.01 * np.arange(12) + generator.normal(0, 0.02, 12)).tolist()).rise
        covered += rise.low <= 0.03 <= rise.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
