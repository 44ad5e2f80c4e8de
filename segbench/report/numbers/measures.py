"""What was measured of each promoted model's errors and confidence, ready to be resampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segbench.core import artefacts
from segbench.ledger import measured
from segbench.ledger.measured import Errors, Reliability
from segbench.report.numbers import evidence
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.evidence import Times
from segbench.stats import Interval, Sampled, texture
from segbench.stats.behaviour import Behaviour

Values = NDArray[np.float64]
Statistic = Callable[[Behaviour], Values]


@dataclass(frozen=True)
class Side:
    """One architecture: a file of either kind per seed, of the same images."""

    candidate: Candidate
    errors: tuple[Errors, ...]
    reliability: tuple[Reliability, ...]

    def of_seeds(self, statistic: Statistic, ceiling: bool = False) -> list[float]:
        """The statistic of each seed's model; or of the best map on its grid."""
        return [float(statistic(_counts(errors, ceiling).total)) for errors in self.errors]

    def sampled(self, statistic: Statistic, times: Times, ceiling: bool = False) -> Sampled:
        """Its mean over the seeds, in resamples of the images."""
        values = [statistic(_counts(errors, ceiling).over(times)) for errors in self.errors]
        return Sampled(float(np.mean(self.of_seeds(statistic, ceiling))), np.mean(values, axis=0))

    def interval(self, statistic: Statistic, times: Times) -> Interval:
        return self.sampled(statistic, times).interval()

    @property
    def total(self) -> Behaviour:
        """The counts of all images and seeds."""
        totals = [errors.model.total for errors in self.errors]
        return Behaviour(*(np.sum(parts, axis=0) for parts in zip(*totals, strict=True)))

    def confidence(self, statistic: Callable[[Values], Values], which: str, times: Times) -> Sampled:
        """A statistic of `which` counts of Reliability, mean over seeds; times: draws of all its images."""
        runs = [np.asarray(getattr(found, which), np.float64) for found in self.reliability]
        sums = [(times @ run.reshape(len(run), -1)).reshape(len(times), *run.shape[1:]) for run in runs]
        estimate = float(np.mean([statistic(run.sum(0)) for run in runs]))
        return Sampled(estimate, np.mean([statistic(each) for each in sums], axis=0))


@dataclass(frozen=True)
class Measured:
    """Those architectures whose every seed was measured on the same images."""

    sides: tuple[Side, ...]
    names: tuple[str, ...]  # of the images whose errors were told apart
    all_names: tuple[str, ...]  # of the images of Reliability
    missing: tuple[Candidate, ...]  # promoted, but not measured, or on other images

    def side(self, *names: str) -> Side | None:
        """The first of these architectures that was measured."""
        known = {side.candidate.name: side for side in self.sides}
        return next((known[name] for name in names if name in known), None)

    @property
    def draws(self) -> Mapping[str, Times]:
        """Of the images whose errors were told apart."""
        return evidence.draws(self.names)

    @property
    def alike(self) -> Values:
        """(C, C): how alike the classes look in these images."""
        return texture.similarity(self.sides[0].errors[0].looks.sum(0))


def read(comparison: Comparison) -> Measured:
    """From the files beside the promoted models' cards."""
    sides: list[Side] = []
    missing: list[Candidate] = []
    for candidate in comparison.promoted:
        errors = [measured.read_errors(model.folder / artefacts.ERRORS) for model in candidate.models]
        reliability = [measured.read_reliability(model.folder / artefacts.RELIABILITY) for model in candidate.models]
        found = Side(candidate, tuple(e for e in errors if e), tuple(r for r in reliability if r))
        whole = len(found.errors) == len(found.reliability) == len(candidate.models)
        same = {e.names for e in found.errors} | {side.errors[0].names for side in sides}
        if whole and len(same) == 1:
            sides.append(found)
        else:
            missing.append(candidate)
    names = sides[0].errors[0].names if sides else ()
    return Measured(tuple(sides), names, sides[0].reliability[0].names if sides else (), tuple(missing))


def _counts(errors: Errors, ceiling: bool) -> Behaviour:
    return errors.ceiling if ceiling else errors.model
