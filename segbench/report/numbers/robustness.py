"""What is left of the mIoU under corruptions, and the note's claim about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import explained
from segbench.report.numbers import claims, evidence
from segbench.report.numbers.claims import FEW, MISSING, UNMEASURED, Claim, Quantity, Row
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.evidence import FEWEST, Evidence, Times
from segbench.report.numbers.explained import Measured, common
from segbench.stats import Interval, Sampled, per_image

CLAIM = Claim("robust", "mask2former", +1)

Counts = NDArray[np.int64]


class Robustness(NamedTuple):
    """Confusions of one architecture: S seeds, N images, K corruptions and severities, C classes."""

    candidate: Candidate
    intact: Counts  # (S, N, C, C) of the images as they are
    corrupted: Counts  # (S, N, K, C, C), one corruption after the other, each at all severities
    names: tuple[str, ...]  # of the images

    @property
    def kept(self) -> Mapping[str, tuple[Interval, ...]]:
        """mIoU under each corruption over that of the images as they are, for each severity."""
        whole, steps = self._mean(self.intact), len(explained.SEVERITIES)
        each = [self._mean(self.corrupted[:, :, k]).over(whole).interval() for k in range(self.corrupted.shape[2])]
        return {name: tuple(each[i * steps : (i + 1) * steps]) for i, name in enumerate(explained.CORRUPTIONS)}

    def overall(self, times: Times) -> Sampled:
        """The mean over all corruptions and severities, and over the seeds."""
        return per_image.averaged([self._overall(seed, times) for seed in range(len(self.intact))])

    def of_seeds(self, times: Times) -> list[float]:
        return [self._overall(seed, times).estimate for seed in range(len(self.intact))]

    def interval(self) -> Interval:
        return self.overall(evidence.draws(self.names)["images"]).interval()

    def _overall(self, seed: int, times: Times) -> Sampled:
        every = [per_image.mean_iou(counts, times) for counts in np.moveaxis(self.corrupted[seed], 1, 0)]
        return per_image.averaged(every).over(per_image.mean_iou(self.intact[seed], times))

    def _mean(self, seeds: Counts) -> Sampled:
        return per_image.averaged([per_image.mean_iou(counts) for counts in seeds])


def robustness(measured: Sequence[Measured]) -> list[Robustness]:
    """Of those whose corruptions were measured, on their common scenes; empty where there are none."""
    tested = [each for each in measured if common([each], "corruptions", "intact")]
    names = common(tested, "corruptions", "intact")
    return [_robustness(each, names) for each in tested] if names else []


def _robustness(measured: Measured, names: Sequence[str]) -> Robustness:
    seeds = measured.of_seeds("corruptions", names)
    corrupted = [[[value[name] for name in explained.CORRUPTIONS] for value in seed] for seed in seeds]
    counts = np.array(corrupted, np.int64)  # (S, N, corruptions, severities, C, C)
    intact = np.array(measured.of_seeds("intact", names), np.int64)
    return Robustness(
        measured.candidate, intact, counts.reshape(*counts.shape[:2], -1, *counts.shape[4:]), tuple(names)
    )


def difference(first: Robustness, second: Robustness) -> Evidence:
    """How much more of its mIoU the first keeps."""
    return evidence.widest(evidence.draws(first.names), *_difference(first, second))


def row(found: Sequence[Robustness]) -> Row:
    """The claim, tested."""
    if not found:
        return claims.untested(CLAIM, UNMEASURED)
    values = {each.candidate.name: each.interval() for each in found}
    pair = claims.pair(CLAIM, {each.candidate.name: each for each in found})
    if pair is None or len(found[0].names) < FEWEST:
        return claims.untested(CLAIM, FEW if pair else MISSING, values)
    return claims.row(CLAIM, values, {}, claims.reading(CLAIM, evidence.draws(found[0].names), _difference(*pair)))


def _difference(first: Robustness, second: Robustness) -> Quantity:
    images = evidence.draws(first.names)["images"]
    of_seeds = (first.of_seeds(images), second.of_seeds(images))
    return Quantity(lambda drawn: first.overall(drawn).minus(second.overall(drawn)), of_seeds)
