"""What `explain` measured, as numbers with intervals: shuffled tiles, removed categories, corruptions.

`context` has what it measured with hidden context, `maps` that of single scenes.

Every number is of the images that all compared models were measured on, and is resampled over these images, paired.
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
from segbench.stats import Interval, Sampled, per_image

FEWEST = 10  # images; the bootstrap of fewer is too narrow for a verdict

Values = NDArray[np.float64]


class Measured(NamedTuple):
    """What was measured of one architecture's first seed, by scene and measure."""

    candidate: Candidate
    scenes: Mapping[str, Mapping[str, Any]]


class Removal(NamedTuple):
    """(C, C) changes of recall, 0..1: of the column's category if the row's is removed; NaN where undefined."""

    candidate: Candidate
    change: Mapping[str, Values]  # by fill
    certain: NDArray[np.bool_]  # where the intervals of both fills exclude 0, on the same side
    shapley: Values | None  # (C, C), what the row's category adds to the column's recall; None if not measured
    images: int


class Robustness(NamedTuple):
    """mIoU under corruptions over the mIoU of the images as they are."""

    candidate: Candidate
    kept: Mapping[str, tuple[Interval, ...]]  # by corruption, for each severity
    overall: Sampled  # the mean over all corruptions and severities
    images: int


class Shuffled(NamedTuple):
    """mIoU of shuffled tiles over the mIoU of the images as they are, for each tile size."""

    candidate: Candidate
    kept: tuple[Sampled, ...]
    sides: tuple[int, ...]  # pixels
    images: int


def read(comparison: Comparison) -> list[Measured]:
    """Of every promoted architecture that was explained."""
    firsts = [(candidate, candidate.models[0]) for candidate in comparison.promoted]
    stored = [(candidate, explanations.read(Promoted(model.folder, model.card))) for candidate, model in firsts]
    return [Measured(candidate, scenes) for candidate, scenes in stored if scenes]


def common(measured: Sequence[Measured], measure: str) -> list[str]:
    """The scenes of which all have the measure, in order of name."""
    if not measured:
        return []
    return sorted(set.intersection(*({n for n, m in each.scenes.items() if measure in m} for each in measured)))


def shuffled(measured: Sequence[Measured]) -> list[Shuffled]:
    """Empty where there is no scene."""
    scenes = [name for name in common(measured, "tiles") if all("intact" in each.scenes[name] for each in measured)]
    if not scenes:
        return []
    rows = []
    for each in measured:
        intact = per_image.mean_iou([each.scenes[name]["intact"] for name in scenes])
        tiles = np.array([each.scenes[name]["tiles"] for name in scenes])
        kept = tuple(per_image.mean_iou(tiles[:, i]).over(intact) for i in range(tiles.shape[1]))
        size = each.candidate.models[0].card.size
        sides = tuple(explained.pixels(share, size) for share in explained.TILES)
        rows.append(Shuffled(each.candidate, kept, sides, len(scenes)))
    return rows


def removals(measured: Sequence[Measured]) -> list[Removal]:
    """Empty where there is no scene."""
    scenes = common(measured, "removal")
    return [_removal(each, scenes) for each in measured] if scenes else []


def _removal(measured: Measured, scenes: Sequence[str]) -> Removal:
    values = [measured.scenes[name]["removal"] for name in scenes]
    truth, intact = (np.array([value[key] for value in values], np.float64) for key in ("truth", "intact"))
    classes = truth.shape[1]
    change = {fill: np.full((classes, classes), np.nan) for fill in explained.REMOVALS}
    sides = {fill: np.zeros((classes, classes), np.int64) for fill in explained.REMOVALS}
    for fill in explained.REMOVALS:
        for gone in range(classes):
            present = [i for i, value in enumerate(values) if value[fill][gone] is not None]
            if not present:
                continue
            hits = np.array([values[i][fill][gone] for i in present])
            for other in set(range(classes)) - {gone}:
                delta = per_image.ratio(hits[:, other] - intact[present, other], truth[present, other])
                change[fill][gone, other] = delta.estimate
                interval = delta.interval()
                sides[fill][gone, other] = (interval.low > 0) - (interval.high < 0) if len(present) >= FEWEST else 0
    certain = np.abs(sum(sides.values())) == len(sides)
    return Removal(measured.candidate, change, certain, _shapley(measured, scenes), len(scenes))


def _shapley(measured: Measured, scenes: Sequence[str]) -> Values | None:
    with_values = [name for name in scenes if "coalitions" in measured.scenes[name]]
    if not with_values:
        return None
    added = np.array([measured.scenes[name]["coalitions"]["shapley"] for name in with_values]).sum(0)
    truth = np.array([measured.scenes[name]["removal"]["truth"] for name in with_values], np.float64).sum(0)
    return np.asarray(np.divide(added, truth, out=np.full_like(added, np.nan), where=truth > 0))


def robustness(measured: Sequence[Measured]) -> list[Robustness]:
    """Of those whose corruptions were measured, on their common scenes; empty where there are none."""
    tested = [each for each in measured if any("corruptions" in m for m in each.scenes.values())]
    scenes = [n for n in common(tested, "corruptions") if all("intact" in each.scenes[n] for each in tested)]
    return [_robustness(each, scenes) for each in tested] if scenes else []


def _robustness(measured: Measured, scenes: Sequence[str]) -> Robustness:
    intact = per_image.mean_iou([measured.scenes[name]["intact"] for name in scenes])
    kept = {}
    for corruption in explained.CORRUPTIONS:
        counts = np.array([measured.scenes[name]["corruptions"][corruption] for name in scenes])
        kept[corruption] = [per_image.mean_iou(counts[:, i]).over(intact) for i in range(counts.shape[1])]
    every = [sampled for severities in kept.values() for sampled in severities]
    overall = Sampled(float(np.mean([s.estimate for s in every])), np.mean([s.values for s in every], axis=0))
    intervals = {name: tuple(s.interval() for s in severities) for name, severities in kept.items()}
    return Robustness(measured.candidate, intervals, overall, len(scenes))
