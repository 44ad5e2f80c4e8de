"""Whether a model uses what lies around a place: what `explain` measured with hidden context, and the claims about it.

A claim holds only if it holds under both fills, since what takes the place of hidden pixels can reverse the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
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

NEGLIGIBLE = 0.01  # a gain whose interval lies within one point of 0 is none

CLAIMS = (Claim("global", "mask2former", +1, by_itself=True), Claim("local", "deeplab", -1))


class Context(NamedTuple):
    """How one architecture's accuracy inside of windows depends on what is kept around them. S seeds, N images, D
    distances."""

    candidate: Candidate
    counted: NDArray[np.int64]  # (N,) labelled pixels in the windows
    whole: NDArray[np.int64]  # (S, N) correct ones, if all of the image is kept
    kept: Mapping[str, NDArray[np.int64]]  # by fill: (S, N, D) correct ones, by distance

    def accuracy(self, fill: str) -> list[Interval]:
        """At each distance, then with the whole image."""
        columns = [*self.kept[fill].mean(0).T, self.whole.mean(0)]
        return [per_image.ratio(column, self.counted).interval() for column in columns]

    def gain(self, fill: str, times: Times) -> Sampled:
        """What the whole image adds to the window alone."""
        return per_image.ratio(self._added(fill).mean(0), self.counted, times)

    def quantity(self, fill: str) -> Quantity:
        """The gain, and that of each seed."""
        return Quantity.alone(partial(self.gain, fill), self._of_seeds(fill))

    def minus(self, other: Context, fill: str) -> Quantity:
        """How much more it gains than the other."""

        def sampled(times: Times) -> Sampled:
            return self.gain(fill, times).minus(other.gain(fill, times))

        return Quantity(sampled, (self._of_seeds(fill), other._of_seeds(fill)))

    def _of_seeds(self, fill: str) -> list[float]:
        return [per_image.ratio(added, self.counted).estimate for added in self._added(fill)]

    def _added(self, fill: str) -> NDArray[np.int64]:
        return self.whole - self.kept[fill][:, :, 0]


class Contexts(NamedTuple):
    rows: tuple[Context, ...]
    distances: tuple[int, ...]  # pixels
    window: int  # side, pixels
    names: tuple[str, ...]  # of the images, those of all rows

    def gains(self, row: Context) -> dict[str, Interval]:
        """By fill, the widest interval of the gain."""
        times = evidence.draws(self.names)
        return {fill: evidence.widest(times, *row.quantity(fill)).interval for fill in explained.FILLS}

    def differences(self, first: Context, second: Context) -> dict[str, Evidence]:
        """By fill, how much more the first gains than the second."""
        times = evidence.draws(self.names)
        return {fill: evidence.widest(times, *first.minus(second, fill)) for fill in explained.FILLS}


def contexts(measured: Sequence[Measured]) -> Contexts | None:
    """None where there is no scene."""
    names = common(measured, "context")
    if not names:
        return None
    size = measured[0].candidate.models[0].card.size
    distances = tuple(explained.pixels(share, size) for share in explained.DISTANCES)
    rows = tuple(_context(each, names) for each in measured)
    return Contexts(rows, distances, explained.pixels(explained.WINDOW, size), tuple(names))


def _context(measured: Measured, names: Sequence[str]) -> Context:
    seeds = measured.of_seeds("context", names)

    def values(key: str) -> NDArray[np.int64]:
        return np.array([[value[key] for value in seed] for seed in seeds], np.int64)

    kept = {fill: values(fill) for fill in explained.FILLS}
    return Context(measured.candidate, values("counted")[0], values("whole"), kept)


def verdict(gains: Sequence[Interval], images: int) -> str:
    """From the gain under each fill: "uses" if all are above 0; "none" if all are negligible; "disagree" if they
    contradict each other, which shows that the fill decides; else "undecided"; "few" if there are too few images."""
    if images < FEWEST:
        return "few"
    if all(gain.low > 0 for gain in gains):
        return "uses"
    if all(-NEGLIGIBLE <= gain.low <= gain.high <= NEGLIGIBLE for gain in gains):
        return "none"
    signs = {gain.low > 0 for gain in gains if gain.excludes_zero}
    return "disagree" if len(signs) > 1 else "undecided"


def more(differences: Sequence[Interval], images: int) -> str:
    """From the difference under each fill, whether the "first" or the "second" gains more: if both fills say so beyond
    chance; "disagree" if both do and contradict each other, else "undecided"; "few" if there are too few images."""
    if images < FEWEST:
        return "few"
    if not all(difference.excludes_zero for difference in differences):
        return "undecided"
    signs = {difference.low > 0 for difference in differences}
    return "disagree" if len(signs) > 1 else "first" if signs.pop() else "second"


def rows(measured: Sequence[Measured]) -> list[Row]:
    """The note's claims about context, tested."""
    found = contexts(measured)
    return [_row(claim, found) if found else claims.untested(claim, UNMEASURED) for claim in CLAIMS]


def _row(claim: Claim, found: Contexts) -> Row:
    """Shows the values of the first fill. Its `contrary` verdicts are those under either fill, if they differ."""
    gains = {row.candidate.name: found.gains(row) for row in found.rows}
    values = {name: own[explained.FILLS[0]] for name, own in gains.items()}
    pair = claims.pair(claim, {row.candidate.name: row for row in found.rows})
    if pair is None or len(found.names) < FEWEST:
        return claims.untested(claim, FEW if pair else MISSING, values)
    subject, other = pair
    times = evidence.draws(found.names)
    readings = []
    for fill in explained.FILLS:
        own = subject.quantity(fill) if claim.by_itself else None
        readings.append(claims.reading(claim, times, subject.minus(other, fill), own))
    return claims.row(claim, values, {}, *readings)
