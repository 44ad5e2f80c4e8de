"""Whether a model uses what lies around a place: what `explain` measured with hidden context, and the claims about it.

A claim holds only if it holds under both fills, since what takes the place of hidden pixels can reverse the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import explained
from segbench.report.numbers import claims, evidence
from segbench.report.numbers.claims import MISSING, SUBJECTS, UNDECIDED, Claim, Row
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.evidence import Evidence, Times
from segbench.report.numbers.explained import FEWEST, Measured, common
from segbench.stats import Interval, Sampled, per_image

NEGLIGIBLE = 0.01  # a gain whose interval lies within one point of 0 is none

CLAIMS = (Claim("global", "mask2former", +1, by_itself=True), Claim("local", "deeplab", -1))


class Context(NamedTuple):
    """How one architecture's accuracy inside of windows depends on what is kept around them. N images, D distances."""

    candidate: Candidate
    counted: NDArray[np.int64]  # (N,) labelled pixels in the windows
    whole: NDArray[np.int64]  # (N,) correct ones, if all of the image is kept
    kept: Mapping[str, NDArray[np.int64]]  # by fill: (N, D) correct ones, by distance

    def accuracy(self, fill: str) -> list[Interval]:
        """At each distance, then with the whole image."""
        columns = [*self.kept[fill].T, self.whole]
        return [per_image.ratio(column, self.counted).interval() for column in columns]

    def gain(self, fill: str, times: Times) -> Sampled:
        """What the whole image adds to the window alone."""
        return per_image.ratio(self.whole - self.kept[fill][:, 0], self.counted, times)


class Contexts(NamedTuple):
    rows: tuple[Context, ...]
    distances: tuple[int, ...]  # pixels
    window: int  # side, pixels
    names: tuple[str, ...]  # of the images, those of all rows

    def gains(self, row: Context) -> dict[str, Interval]:
        """By fill, the widest interval of the gain."""
        return {fill: self._widest(partial(row.gain, fill)).interval for fill in explained.FILLS}

    def differences(self, first: Context, second: Context) -> dict[str, Evidence]:
        """By fill, how much more the first gains than the second."""

        def difference(fill: str, times: Times) -> Sampled:
            return first.gain(fill, times).minus(second.gain(fill, times))

        return {fill: self._widest(partial(difference, fill)) for fill in explained.FILLS}

    def _widest(self, sampled: Callable[[Times], Sampled]) -> Evidence:
        return evidence.widest(evidence.draws(self.names), sampled)


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
    values = [measured.scenes[name]["context"] for name in names]
    counted, whole = (np.array([value[key] for value in values], np.int64) for key in ("counted", "whole"))
    kept = {fill: np.array([value[fill] for value in values], np.int64) for fill in explained.FILLS}
    return Context(measured.candidate, counted, whole, kept)


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
    """The note's claims about context, tested; none if nothing was measured, or on too few images."""
    found = contexts(measured)
    if found is None or len(found.names) < FEWEST:
        return []
    return [_row(claim, found) for claim in CLAIMS]


def _row(claim: Claim, found: Contexts) -> Row:
    """Shows the values of the first fill. Its `contrary` verdicts are those under either fill, if they differ."""
    gains = {row.candidate.name: found.gains(row) for row in found.rows}
    values = {name: own[explained.FILLS[0]] for name, own in gains.items()}
    subject = _of(found, SUBJECTS[claim.subject])
    other = _of(found, [name for key, names in SUBJECTS.items() if key != claim.subject for name in names])
    if subject is None or other is None:
        return Row(claim, values, {}, None, None, MISSING)
    differences = found.differences(subject, other)
    verdicts = []
    for fill, difference in differences.items():
        own = gains[subject.candidate.name][fill] if claim.by_itself else None
        verdicts.append(claims.judged(claim.sense, difference.interval, own))
    shown = differences[explained.FILLS[0]]
    if len(set(verdicts)) > 1:
        return Row(claim, values, {}, shown, None, UNDECIDED, tuple(verdicts))
    return Row(claim, values, {}, shown, None, verdicts[0])


def _of(found: Contexts, names: Sequence[str]) -> Context | None:
    known = {row.candidate.name: row for row in found.rows}
    return next((known[name] for name in names if name in known), None)
