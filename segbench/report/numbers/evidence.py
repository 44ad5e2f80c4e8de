"""The widest honest interval of a difference: over images, whole recordings, whole cities, or other seeds, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench import stats
from segbench.stats import Interval, Sampled

FEWEST = 10  # images; the bootstrap of fewer is too narrow for a verdict

Times = NDArray[np.int64]


class Evidence(NamedTuple):
    """An interval and what was drawn again for it: "images", "sequences", "cities" or "seeds" (with the images)."""

    interval: Interval
    over: str


def draws(names: Sequence[str]) -> dict[str, Times]:
    """The resamples of N scenes by single images and, where there are enough of them, by sequences and by cities:
    (R, N) each."""
    return {level: stats.cluster_draws(groups) for level, groups in stats.clusters(names).items()}


def widest(
    times: Mapping[str, Times],
    sampled: Callable[[Times], Sampled],
    of_seeds: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Evidence:
    """Of the intervals over each kind of draws, the widest; with two seeds of either side, also that over seeds.

    sampled: draws to the difference in them. of_seeds: one score per seed of the first and of the second side.
    """
    drawn = {level: sampled(own) for level, own in times.items()}
    found = [Evidence(each.interval(), level) for level, each in drawn.items()]
    first, second = of_seeds
    over_seeds = [stats.over_seeds(each, first, second) for each in drawn.values()]
    found += [Evidence(interval, "seeds") for interval in over_seeds if interval]
    return max(found, key=lambda evidence: _width(evidence.interval))


def _width(interval: Interval) -> float:
    width = interval.high - interval.low
    return width if np.isfinite(width) else -1.0
