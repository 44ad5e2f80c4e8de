"""The claims of the note, each with a measure and a verdict that follows from its interval.

A claim is a sentence about one of the note's two architectures. It *holds* if the interval of the paired difference to
the other one lies on the side the sentence says and, where the sentence is also about the architecture by itself, its
own value does, too. It does *not* hold if either lies on the other side. All else is undecided. Where a coarser output
grid may explain it, the shares that models reach of their own grid's ceiling must say the same, or it is undecided.

The claims about context and robustness are tested in modules of these names, on what `explain` measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from segbench.report.numbers import evidence
from segbench.report.numbers.evidence import FEWEST, Evidence, Times
from segbench.report.numbers.measures import Measured, Side, Statistic
from segbench.stats import Interval, Sampled, behaviour
from segbench.stats.taxonomy import PARTS
from segbench.stats.texture import excess_similarity

SUBJECTS = {"deeplab": ("deeplab", "deeplabv3plus"), "mask2former": ("mask2former",)}  # the note's, by our names
SMALL, TINY = 1, 0  # sizes: up to 64 pixels, below 16

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
MISSING, UNMEASURED, FEW = "missing", "unmeasured", "few"  # why there is no verdict: models, measures or images lack

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """`key` names its texts under [claims]."""

    key: str
    subject: str  # of SUBJECTS: whom the sentence is about
    sense: int  # +1: it says that the subject's measure is the higher one; -1: the lower one
    by_grid: bool = False  # shares of the grids' ceilings must say the same
    by_itself: bool = False  # it also says that the subject's value is beyond the ceiling, or 0 where there is none


CLAIMS = (
    Claim("coherence", "deeplab", +1),
    Claim("regular", "mask2former", -1),
    Claim("textures", "deeplab", +1, by_itself=True),
    Claim("details_kept", "deeplab", +1, by_grid=True),
    Claim("details_lost", "deeplab", -1, by_grid=True, by_itself=True),
    Claim("details_smoothed", "mask2former", -1, by_grid=True, by_itself=True),
    Claim("smooth", "mask2former", -1, by_grid=True, by_itself=True),
    Claim("tiny", "mask2former", -1, by_grid=True, by_itself=True),
    Claim("borders", "mask2former", +1, by_grid=True),
)


class Quantity(NamedTuple):
    """What `evidence.widest` takes: draws to the value in them, and one score per seed of either side."""

    sampled: Callable[[Times], Sampled]
    of_seeds: tuple[Sequence[float], Sequence[float]]

    @classmethod
    def alone(cls, sampled: Callable[[Times], Sampled], of_seeds: Sequence[float]) -> Quantity:
        """Of one architecture: a difference to what has no seeds."""
        return cls(sampled, (of_seeds, [0.0] * len(of_seeds)))


class Reading(NamedTuple):
    """One way to test a claim."""

    found: Evidence  # the difference
    verdict: str
    here: str  # likewise, on these trainings alone


class Row(NamedTuple):
    """One claim, tested."""

    claim: Claim
    values: Mapping[str, Interval]  # by architecture's name, over images
    ceilings: Mapping[str, float]  # of each one's grid; empty where a grid sets none
    difference: Evidence | None  # subject minus the other
    shares: Evidence | None  # likewise, of the shares of their grid's ceiling
    verdict: str
    contrary: tuple[str, ...] = ()  # the verdicts of two readings that disagree, which leaves the claim undecided
    here: str = ""  # the verdict on these trainings alone, as if there were no other seeds


def rows(measured: Measured) -> list[Row]:
    """All claims on the errors of what was measured."""
    return [_row(claim, _statistic(claim.key, measured), measured) for claim in CLAIMS] if measured.sides else []


def untested(claim: Claim, why: str, values: Mapping[str, Interval] | None = None) -> Row:
    """A row without a verdict."""
    return Row(claim, values or {}, {}, None, None, why)


def pair(claim: Claim, known: Mapping[str, T]) -> tuple[T, T] | None:
    """The claim's subject, and the architecture that the note compares it with; None unless both are `known`."""
    own = [known[name] for name in SUBJECTS[claim.subject] if name in known]
    others = [known[name] for key, names in SUBJECTS.items() if key != claim.subject for name in names if name in known]
    return (own[0], others[0]) if own and others else None


def judged(sense: int, difference: Interval, own: Interval | None) -> str:
    """The verdict: `difference` is the subject's minus the other's, `own` how far the subject is beyond its reference.
    Both count in the direction that `sense` says. An interval that touches zero decides nothing."""
    intervals = [difference, *([own] if own else [])]
    ends = [sorted((sense * interval.low, sense * interval.high)) for interval in intervals]
    if any(high < 0 for _, high in ends):
        return FAILS
    return HOLDS if all(low > 0 for low, _ in ends) else UNDECIDED


def reading(
    claim: Claim,
    times: Mapping[str, Times],
    difference: Quantity,
    own: Quantity | None = None,
) -> Reading:
    """`difference`: the subject minus the other, one score per seed of either; `own`: how far the subject is beyond its
    reference, if the claim also says that."""
    found = evidence.widest(times, *difference)
    here = evidence.widest(times, difference.sampled)
    beyond = evidence.widest(times, *own).interval if own else None
    beyond_here = evidence.widest(times, own.sampled).interval if own else None
    verdict = judged(claim.sense, found.interval, beyond)
    return Reading(found, verdict, judged(claim.sense, here.interval, beyond_here))


def row(claim: Claim, values: Mapping[str, Interval], ceilings: Mapping[str, float], *readings: Reading) -> Row:
    """A claim that all its readings must agree on; shown is the difference of the first."""
    verdicts, here = tuple(r.verdict for r in readings), {r.here for r in readings}
    agreed = len(set(verdicts)) == 1
    return Row(
        claim,
        values,
        ceilings,
        readings[0].found,
        readings[1].found if claim.by_grid else None,
        verdicts[0] if agreed else UNDECIDED,
        () if agreed else verdicts,
        here.pop() if len(here) == 1 else UNDECIDED,
    )


def _row(claim: Claim, statistic: Statistic, measured: Measured) -> Row:
    times = measured.draws
    values = {side.candidate.name: side.interval(statistic, times["images"]) for side in measured.sides}
    ceilings = {
        side.candidate.name: float(np.mean(side.of_seeds(statistic, ceiling=True)))
        for side in measured.sides
        if claim.by_grid
    }
    sides = pair(claim, {side.candidate.name: side for side in measured.sides})
    if sides is None or len(measured.names) < FEWEST:
        return Row(claim, values, ceilings, None, None, FEW if sides else MISSING)
    by_grid = (False, True) if claim.by_grid else (False,)
    return row(claim, values, ceilings, *(_reading(claim, *sides, statistic, times, shares) for shares in by_grid))


def _reading(
    claim: Claim, subject: Side, other: Side, statistic: Statistic, times: Mapping[str, Times], by_grid: bool
) -> Reading:
    def difference(drawn: Times) -> Sampled:
        return _value(subject, statistic, drawn, by_grid).minus(_value(other, statistic, drawn, by_grid))

    of_seeds = (_of_seeds(subject, statistic, by_grid), _of_seeds(other, statistic, by_grid))
    own = _beyond(subject, statistic, claim.by_grid) if claim.by_itself else None
    return reading(claim, times, Quantity(difference, of_seeds), own)


def _beyond(subject: Side, statistic: Statistic, by_grid: bool) -> Quantity:
    """How far the subject is beyond its ceiling, or beyond 0."""
    reference = 1.0 if by_grid else 0.0

    def sampled(drawn: Times) -> Sampled:
        value = _value(subject, statistic, drawn, by_grid)
        return Sampled(value.estimate - reference, value.values - reference)

    return Quantity.alone(sampled, _of_seeds(subject, statistic, by_grid))


def _value(side: Side, statistic: Statistic, times: Times, by_grid: bool) -> Sampled:
    value = side.sampled(statistic, times)
    return value.over(side.sampled(statistic, times, ceiling=True)) if by_grid else value


def _of_seeds(side: Side, statistic: Statistic, by_grid: bool) -> list[float]:
    values = side.of_seeds(statistic)
    if not by_grid:
        return values
    return [v / c if c else np.nan for v, c in zip(values, side.of_seeds(statistic, ceiling=True), strict=True)]


def _statistic(key: str, measured: Measured) -> Statistic:
    alike = measured.alike
    statistics: dict[str, Callable[[behaviour.Behaviour], behaviour.Values]] = {
        "coherence": partial(behaviour.error_share, part=1 + PARTS.index("segment_fp")),
        "regular": behaviour.fragments,
        "textures": lambda counts: excess_similarity(counts.confusions, alike),
        "details_kept": partial(behaviour.found_share, largest=SMALL),
        "details_lost": partial(behaviour.found_share, largest=SMALL),
        "details_smoothed": partial(behaviour.found_share, smallest=SMALL, largest=SMALL),
        "smooth": behaviour.perimeter_ratio,
        "tiny": partial(behaviour.found_share, largest=TINY),
        "borders": behaviour.outline_f,
    }
    return statistics[key]
