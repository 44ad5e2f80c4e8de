"""mIoU by number of training images, from the trainings of `promote --fractions` and the promotions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segbench import stats
from segbench.core import artefacts
from segbench.ledger import fractions, models
from segbench.ledger.fractions import Fraction
from segbench.report.numbers.comparison import Candidate, Comparison, Counts, Model
from segbench.stats import Interval, Sampled, Statistic
from segbench.stats.scaling import FEWEST, PowerLaw, gain_of_doubling, power_law

NOTICEABLE = 0.005  # half a point of mIoU


class Scaling(NamedTuple):
    """One architecture trained on K numbers of images, at least two."""

    candidate: Candidate
    images: tuple[int, ...]  # ascending; the last is the promotion's
    miou: tuple[Sampled, ...]  # mean over seeds
    seeds: int  # of the number of images with the fewest

    @property
    def law(self) -> PowerLaw | None:
        """Of the estimates; None for too few numbers of images."""
        if len(self.images) < FEWEST:
            return None
        return power_law(np.array(self.images), np.array([1 - score.estimate for score in self.miou]))

    @property
    def doubling(self) -> Interval | None:
        """What twice the images would add; None for too few numbers of images."""
        if len(self.images) < FEWEST:
            return None
        return gain_of_doubling(np.array(self.images), list(self.miou)).interval()

    @property
    def verdict(self) -> str:
        """Whether more images would help: "yes", "hardly", "undecided", or "few" numbers of images."""
        gain = self.doubling
        if gain is None:
            return "few"
        if gain.low > 0 and gain.estimate >= NOTICEABLE:
            return "yes"
        return "hardly" if gain.high < NOTICEABLE else "undecided"


def scalings(comparison: Comparison) -> list[Scaling]:
    """Of each promoted architecture that was also trained on fractions of the promotion's images."""
    return [made for candidate in comparison.promoted if (made := _scaling(candidate))]


def _scaling(candidate: Candidate) -> Scaling | None:
    if not candidate.scored:
        return None
    whole = candidate.scored[0]
    runs: dict[int, list[Counts]] = defaultdict(list)
    for folder, fraction in fractions.of_study(whole.card.study):
        confusions, names = models.confusions(folder / artefacts.CONFUSIONS, candidate.labels)
        if confusions is not None and names == whole.names and _belongs(fraction, whole):
            runs[fraction.train_images].append(confusions)
    if not runs:
        return None
    runs[whole.card.train_images] = candidate.runs
    images = tuple(sorted(runs))
    return Scaling(
        candidate,
        images,
        tuple(_miou(runs[n], stats.miou(candidate.labels)) for n in images),
        min(map(len, runs.values())),
    )


def _belongs(fraction: Fraction, whole: Model) -> bool:
    """Whether it is the promotion's training, but for the number of images and the seed."""
    card = whole.card
    same = (card.fingerprint, card.data_fingerprint, card.hyperparameters, card.epochs)
    own = (fraction.fingerprint, fraction.data_fingerprint, fraction.hyperparameters, fraction.epochs)
    return own == same and fraction.train_images < card.train_images


def _miou(runs: Sequence[Counts], miou: Statistic) -> Sampled:
    """The mean over seeds."""
    times = stats.draws(len(runs[0]))
    estimate = float(np.mean([miou(run.sum(0)) for run in runs]))
    return Sampled(estimate, np.mean([miou(stats.resample(run, times)) for run in runs], axis=0))
