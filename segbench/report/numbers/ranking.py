"""Three or more promoted architectures: who has which rank how surely, and which pairs can be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segbench import stats
from segbench.report.numbers import evidence, tables
from segbench.report.numbers.tables import SEED_NOISE, Summary
from segbench.stats import Interval, Sampled
from segbench.stats.bootstrap import LEVEL, Values

FEWEST = 3  # architectures: two are a pair, which `tables.pairs` compares


Test = tuple[Interval, float]  # of a difference of values, and p, not corrected


class Pair(NamedTuple):
    """Two of them; `first` has the higher value."""

    first: Summary
    second: Summary
    difference: Interval  # of values, first minus second
    p: float  # corrected for the number of pairs

    @property
    def told_apart(self) -> bool:
        """Whether the choice of images (and of seeds, where there are several) does not explain the difference."""
        return self.p <= 1 - LEVEL

    @property
    def decided(self) -> bool:
        """Whether, with one seed, the difference also is more than another seed may change."""
        seeds = min(len(self.first.seeds), len(self.second.seeds))
        return self.told_apart and (seeds > 1 or self.difference.estimate >= SEED_NOISE)


@dataclass(frozen=True)
class Ranking:
    """All that have per-image confusions, highest value first."""

    rows: tuple[Summary, ...]
    images: int
    over: str  # what was drawn: "images", or whole "sequences" or "cities" where that makes the intervals wider
    chances: Values  # (M, M): of each row to have each rank, 0..1
    ranks: tuple[tuple[int, int], ...]  # the lowest and the highest rank of each row, 95 %
    pairs: tuple[Pair, ...]  # all M(M - 1) / 2

    @property
    def best(self) -> Summary:
        return self.rows[0]

    @property
    def seeds(self) -> int:
        """How many trainings stand behind the one that has fewest."""
        return min(len(row.seeds) for row in self.rows)

    @property
    def of_best(self) -> tuple[Pair, ...]:
        """The pairs of the best with every other one, in order of rank."""
        return self.pairs[: len(self.rows) - 1]

    @property
    def undecided(self) -> tuple[Summary, ...]:
        """Those that cannot be called worse than the best."""
        return tuple(pair.second for pair in self.of_best if not pair.decided)


def ranking(rows: Sequence[Summary]) -> Ranking | None:
    """None below FEWEST, and where the per-image confusions are not of the same images and classes."""
    order = tables.ranked(row for row in rows if row.candidate.value_runs)
    names = {model.names for row in order for model in row.candidate.scored}
    labels = [row.candidate.labels for row in order]
    if len(order) < FEWEST or len(names) != 1 or any(other != labels[0] for other in labels):
        return None
    scenes, statistic, runs = names.pop(), order[0].candidate.value, [row.candidate.value_runs for row in order]
    drawn = {
        level: stats.resampled_scores(runs, statistic, groups=groups)
        for level, groups in stats.clusters(scenes).items()
    }
    tested = {level: _tests(order, scores) for level, scores in drawn.items()}
    over = max(tested, key=lambda level: sum(map(_width, tested[level])))
    times = evidence.draws(scenes)[over]
    tests = _seeds_too(order, [stats.sampled(own, statistic, times) for own in runs], tested[over])
    corrected = stats.holm([p for _, p in tests])
    pairs = tuple(
        Pair(*couple, interval, float(p))
        for couple, (interval, _), p in zip(itertools.combinations(order, 2), tests, corrected, strict=True)
    )
    chances = stats.rank_probabilities(drawn[over])
    ranks = tuple(stats.rank_range(row) for row in chances)
    return Ranking(tuple(order), len(scenes), over, chances, ranks, pairs)


def _tests(order: Sequence[Summary], scores: Values) -> list[Test]:
    """All pairs, in order of rank."""
    couples = itertools.combinations(range(len(order)), 2)
    gaps = {(a, b): order[a].value.estimate - order[b].value.estimate for a, b in couples}
    return [stats.paired(scores[a], scores[b], gap) for (a, b), gap in gaps.items()]


def _seeds_too(order: Sequence[Summary], images: Sequence[Sampled], tests: Sequence[Test]) -> list[Test]:
    """With several seeds, Student's t for them in place of the resamples where it is wider: resamples of few seeds have
    thin tails. `images`: each one's mean over seeds, in resamples of the images."""
    made = []
    couples = itertools.combinations(zip(order, images, strict=True), 2)
    for ((first, a), (second, b)), test in zip(couples, tests, strict=True):
        difference, seeds = a.minus(b), (first.value_of_seed, second.value_of_seed)
        interval = stats.over_seeds(difference, *seeds)
        found = (interval, stats.p_over_seeds(difference, *seeds)) if interval else test
        made.append(max(test, found, key=_width))
    return made


def _width(test: Test) -> float:
    return float(np.nan_to_num(test[0].high - test[0].low))
