"""What `explain` measured, as numbers with intervals: shuffled tiles and removed categories.

`context` has what it measured with hidden context, `robustness` that under corruptions, `maps` that of single scenes.

Every number is a mean over seeds on the images that all compared models were measured on, and is resampled over these
images, paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import explained
from segbench.ledger import explanations
from segbench.ledger.models import Promoted
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.evidence import FEWEST
from segbench.stats import Sampled, per_image

Values = NDArray[np.float64]


class Measured(NamedTuple):
    """What was measured of one architecture: of every seed that was explained, by scene and measure."""

    candidate: Candidate
    seeds: tuple[Mapping[str, Mapping[str, Any]], ...]  # at least one

    @property
    def first(self) -> Mapping[str, Mapping[str, Any]]:
        """The first seed's scenes, which alone have maps."""
        return self.seeds[0]

    def of_seeds(self, measure: str, scenes: Sequence[str]) -> list[list[Any]]:
        """The values of a measure: S seeds of N scenes."""
        return [[seed[name][measure] for name in scenes] for seed in self.seeds]


class Removal(NamedTuple):
    """(C, C) changes of recall, 0..1: of the column's category if the row's is removed; NaN where undefined."""

    candidate: Candidate
    change: Mapping[str, Values]  # by fill
    certain: NDArray[np.bool_]  # where the intervals of both fills exclude 0, on the same side
    shapley: Values | None  # (C, C), what the row's category adds to the column's recall; None if not measured
    with_shapley: int  # of how many images
    images: int


class Shuffled(NamedTuple):
    """mIoU of shuffled tiles over the mIoU of the images as they are, for each tile size."""

    candidate: Candidate
    kept: tuple[Sampled, ...]
    sides: tuple[int, ...]  # pixels
    images: int


def read(comparison: Comparison) -> list[Measured]:
    """Of every promoted architecture that was explained."""
    made = []
    for candidate in comparison.promoted:
        seeds = [explanations.read(Promoted(model.folder, model.card)) for model in candidate.models]
        if explained_seeds := tuple(seed for seed in seeds if seed):
            made.append(Measured(candidate, explained_seeds))
    return made


def common(measured: Sequence[Measured], *measures: str) -> list[str]:
    """The scenes of which every seed of all has the measures, in order of name."""
    seeds = [seed for each in measured for seed in each.seeds]
    having = [{name for name, known in seed.items() if set(measures) <= set(known)} for seed in seeds]
    return sorted(set.intersection(*having)) if having else []


def shuffled(measured: Sequence[Measured]) -> list[Shuffled]:
    """Empty where there is no scene."""
    scenes = common(measured, "tiles", "intact")
    if not scenes:
        return []
    rows = []
    for each in measured:
        intact, tiles = (np.array(each.of_seeds(measure, scenes)) for measure in ("intact", "tiles"))
        whole = per_image.averaged([per_image.mean_iou(seed) for seed in intact])
        kept = tuple(
            per_image.averaged([per_image.mean_iou(seed[:, i]) for seed in tiles]).over(whole)
            for i in range(tiles.shape[2])
        )
        size = each.candidate.models[0].card.size
        sides = tuple(explained.pixels(share, size) for share in explained.TILES)
        rows.append(Shuffled(each.candidate, kept, sides, len(scenes)))
    return rows


def removals(measured: Sequence[Measured]) -> list[Removal]:
    """Empty where there is no scene."""
    scenes = common(measured, "removal")
    return [_removal(each, scenes) for each in measured] if scenes else []


def _removal(measured: Measured, scenes: Sequence[str]) -> Removal:
    seeds = measured.of_seeds("removal", scenes)
    values = seeds[0]
    truth = np.array([value["truth"] for value in values], np.float64)
    intact = np.mean([[value["intact"] for value in seed] for seed in seeds], axis=0)
    classes = truth.shape[1]
    change = {fill: np.full((classes, classes), np.nan) for fill in explained.REMOVALS}
    sides = {fill: np.zeros((classes, classes), np.int64) for fill in explained.REMOVALS}
    for fill in explained.REMOVALS:
        for gone in range(classes):
            present = [i for i, value in enumerate(values) if value[fill][gone] is not None]
            if not present:
                continue
            hits = np.mean([[seed[i][fill][gone] for i in present] for seed in seeds], axis=0)
            for other in set(range(classes)) - {gone}:
                delta = per_image.ratio(hits[:, other] - intact[present, other], truth[present, other])
                change[fill][gone, other] = delta.estimate
                interval = delta.interval()
                sides[fill][gone, other] = (interval.low > 0) - (interval.high < 0) if len(present) >= FEWEST else 0
    certain = np.abs(sum(sides.values())) == len(sides)
    with_values = sorted(set(scenes) & set(common([measured], "coalitions")))
    return Removal(measured.candidate, change, certain, _shapley(measured, with_values), len(with_values), len(scenes))


def _shapley(measured: Measured, with_values: Sequence[str]) -> Values | None:
    if not with_values:
        return None
    seeds = measured.of_seeds("coalitions", with_values)
    added = np.mean([[value["shapley"] for value in seed] for seed in seeds], axis=0).sum(0)
    truth = np.array([measured.first[name]["removal"]["truth"] for name in with_values], np.float64).sum(0)
    return np.asarray(np.divide(added, truth, out=np.full_like(added, np.nan), where=truth > 0))
