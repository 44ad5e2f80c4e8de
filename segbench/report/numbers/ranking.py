"""Three or more promoted architectures: who has which rank how surely, and which pairs can be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segbench import stats
from segbench.report.numbers import tables
from segbench.report.numbers.tables import SEED_NOISE, Summary
from segbench.stats import Interval
from segbench.stats.bootstrap import LEVEL, Values

FEWEST = 3  # architectures: two are a pair, which `tables.pairs` compares


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
    scores = stats.resampled_scores([row.candidate.value_runs for row in order], order[0].candidate.value)
    chances = stats.rank_probabilities(scores)
    couples = list(itertools.combinations(range(len(order)), 2))
    tests = [stats.paired(scores[a], scores[b], _gap(order[a], order[b])) for a, b in couples]
    corrected = stats.holm([p for _, p in tests])
    pairs = [
        Pair(order[a], order[b], interval, float(p))
        for (a, b), (interval, _), p in zip(couples, tests, corrected, strict=True)
    ]
    ranks = tuple(stats.rank_range(row) for row in chances)
    return Ranking(tuple(order), len(names.pop()), chances, ranks, tuple(pairs))


def _gap(first: Summary, second: Summary) -> float:
    return first.value.estimate - second.value.estimate
