"""Would more images help, and whom?"""

from __future__ import annotations

from segbench.report.figures import scaling as figures
from segbench.report.figures.theme import GREY, colour
from segbench.report.numbers import scaling
from segbench.report.numbers.comparison import Comparison
from segbench.report.numbers.scaling import Scaling
from segbench.report.page.blocks import Block, Key, Prose, single
from segbench.report.text.i18n import clauses, points_range, signed, text


def blocks(comparison: Comparison) -> tuple[Block, ...]:
    """The answer and its figure; nothing where no architecture was trained on fractions of the images."""
    rows = scaling.scalings(comparison)
    if not rows:
        return ()
    keys = tuple(Key(row.candidate.title, colour(row.candidate.index), "line") for row in rows)
    keys += (Key(text("scaling.law"), GREY, "dash"),)
    caption = text("scaling.caption")
    if min(row.seeds for row in rows) == 1:
        caption += " " + text("scaling.one_seed")
    figure = single("scaling", figures.scaling(rows), text("scaling.title"), caption, keys)
    return Prose((answer(rows),), tone="lead"), figure


def answer(rows: list[Scaling]) -> str:
    """One sentence."""
    return text("scaling.answer", list=clauses(map(_part, rows)))


def _part(row: Scaling) -> str:
    gain = row.doubling
    if gain is None:
        return text("scaling.few", title=row.candidate.title)
    values = {"gain": signed(gain.estimate), "range": points_range(gain)}
    return text(f"scaling.{row.verdict}", title=row.candidate.title, **values)
