"""The claims of the note, each with a measure and a verdict that follows from its interval.

A claim is a sentence about one of the note's two architectures. It *holds* if the interval of the paired difference to
the other one lies on the side the sentence says and, where the sentence is also about the architecture by itself, its
own value does, too. It does *not* hold if either lies on the other side. All else is undecided. Where a coarser output
grid may explain it, the shares that models reach of their own grid's ceiling must say the same, or it is undecided.

The claims about context and robustness are tested in modules of these names, on what `explain` measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


class Row(NamedTuple):
    """One claim, tested."""

    claim: Claim
    values: Mapping[str, Interval]  # by architecture's name, over images
    ceilings: Mapping[str, float]  # of each one's grid; empty where a grid sets none
    difference: Evidence | None  # subject minus the other
    shares: Evidence | None  # likewise, of the shares of their grid's ceiling
    verdict: str
    contrary: tuple[str, ...] = ()  # the verdicts of two readings that disagree, which leaves the claim undecided


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
    subject, other = sides
    found, verdict = _tested(claim, subject, other, statistic, times, by_grid=False)
    if not claim.by_grid:
        return Row(claim, values, ceilings, found, None, verdict)
    shares, of_shares = _tested(claim, subject, other, statistic, times, by_grid=True)
    if verdict == of_shares:
        return Row(claim, values, ceilings, found, shares, verdict)
    return Row(claim, values, ceilings, found, shares, UNDECIDED, (verdict, of_shares))


def _tested(
    claim: Claim, subject: Side, other: Side, statistic: Statistic, times: Mapping[str, Times], by_grid: bool
) -> tuple[Evidence, str]:
    found = _difference(subject, other, statistic, times, by_grid)
    return found, judged(claim.sense, found.interval, _own(claim, subject, statistic, times))


def _difference(
    subject: Side, other: Side, statistic: Statistic, times: Mapping[str, Times], by_grid: bool
) -> Evidence:
    def sampled(drawn: Times) -> Sampled:
        return _value(subject, statistic, drawn, by_grid).minus(_value(other, statistic, drawn, by_grid))

    of_seeds = [_of_seeds(side, statistic, by_grid) for side in (subject, other)]
    return evidence.widest(times, sampled, (of_seeds[0], of_seeds[1]))


def _own(claim: Claim, subject: Side, statistic: Statistic, times: Mapping[str, Times]) -> Interval | None:
    """How far the subject is beyond its ceiling, or beyond 0; None where the claim is only about a difference."""
    if not claim.by_itself:
        return None

    def sampled(drawn: Times) -> Sampled:
        value = _value(subject, statistic, drawn, claim.by_grid)
        return Sampled(value.estimate - 1, value.values - 1) if claim.by_grid else value

    seeds = [v - 1 if claim.by_grid else v for v in _of_seeds(subject, statistic, claim.by_grid)]
    return evidence.own(times, sampled, seeds).interval


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
