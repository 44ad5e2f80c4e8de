"""Would a longer training help? A part of the section of quality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segbench.report.figures import longer as figures
from segbench.report.figures.theme import MANY, colour
from segbench.report.numbers import longer
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.longer import Crossing, Outlook
from segbench.report.page.blocks import Block, Figure, Fold, Key, Points, plot
from segbench.report.text.i18n import points, text
from segbench.stats import Interval

_UNKNOWN = 0.1  # an interval of the gain that is wider than so much mIoU is said to tell nothing
_TOLD = 1e-3  # what is less is not told from nothing, as points have one decimal
_LITTLE = 0.01  # a gain below so much mIoU is said to be little


def blocks(candidates: Sequence[Candidate]) -> list[Block]:
    """A sentence per architecture and per change of the leader, then the continued curves."""
    found = longer.outlooks(candidates)
    if not found:
        return []
    sentences = [f"{_rise(outlook)} {_gain(outlook)}" for outlook in found]
    sentences += [_crossing(crossing) for crossing in longer.crossings(found)]
    axis = figures.span(found)
    plots = []
    for outlook in found:
        candidate, tint = outlook.candidate, colour(outlook.candidate.index)
        keys = (Key(text("figures.measured"), tint), Key(text("figures.fit"), tint, "dash"))
        drawn = figures.continued(outlook, axis)
        plots.append(
            plot(f"longer-{candidate.index}", drawn, candidate.title, keys=keys if outlook.longer else keys[:1])
        )
    figure = Figure(text("longer.curves"), tuple(plots), text("longer.caption"), small=len(found) >= MANY)
    return [Points(tuple(sentences), text("longer.title")), Fold(text("longer.fold"), (figure,))]


def _rise(outlook: Outlook) -> str:
    rise, title = outlook.rise.rise, outlook.candidate.title
    if math.isnan(rise.low):
        return text("longer.rise_few", title=title, epochs=len(outlook.scores))
    key = "longer.rose" if rise.low > 0 else "longer.fell" if rise.high < 0 else "longer.flat"
    return text(key, title=title, epochs=outlook.rise.epochs, **_ends(rise))


def _gain(outlook: Outlook) -> str:
    if outlook.longer is None:
        return text("longer.schedule", schedule=outlook.schedule)
    gain = outlook.longer.gain
    if math.isnan(gain.low):
        return text("longer.gain_few", epochs=len(outlook.scores))
    if gain.high - gain.low > _UNKNOWN:
        key = "longer.gain_unknown"
    elif gain.high < _LITTLE:
        key = "longer.gain_little"
    else:
        key = "longer.gain" if gain.low > _TOLD else "longer.gain_open"
    return text(key, more=outlook.more, **_ends(gain))


def _crossing(crossing: Crossing) -> str:
    values = {"first": crossing.first.title, "second": crossing.second.title}
    if crossing.epoch is None:
        return text("longer.no_crossing", **values)
    return text("longer.crossing", epoch=crossing.epoch, **values)


def _ends(value: Interval) -> dict[str, str]:
    return {"points": points(value.estimate), "low": points(value.low), "high": points(value.high)}
