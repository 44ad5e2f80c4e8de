"""What the networks saw of an image, and what the packed size costs. A part of the section of quality."""

from __future__ import annotations

from segbench.report.numbers import seen
from segbench.report.numbers.comparison import Comparison
from segbench.report.page.blocks import Block, Cell, Prose, Table
from segbench.report.sections.heads import candidate_cell
from segbench.report.sections.summary import interval_cell
from segbench.report.text.i18n import clauses, points_range, signed, text


def blocks(comparison: Comparison) -> list[Block]:
    """Nothing for whole images that were seen once, at the packed size."""
    cards = [model.card for candidate in comparison.promoted for model in candidate.models]
    how = dict.fromkeys(said for card in cards if (said := seen.said(card.crop, card.passes)))
    sentence = [Prose((text("seen.how", how=clauses(how)),), tone="note")] if how else []
    rows = seen.squeezes(comparison)
    return [*sentence, *([_table(rows)] if rows else [])]


def _table(rows: list[seen.Squeeze]) -> Table:
    height, width = rows[0].candidate.models[0].card.size
    heads = (text("seen.packed", height=height, width=width), text("seen.original"), text("seen.difference"))
    columns = (Cell(text("many.architecture")), *(Cell(head, number=True) for head in heads))
    made = tuple(
        (candidate_cell(row.candidate), interval_cell(row.packed), interval_cell(row.original), _difference(row))
        for row in rows
    )
    return Table("own-size", text("seen.title"), columns, made, text("seen.caption", images=rows[0].images))


def _difference(row: seen.Squeeze) -> Cell:
    written = f"{signed(row.difference.estimate)} {text('common.points')}"
    values = tuple(value * 100 for value in row.difference)
    return Cell(written, f"({points_range(row.difference)})", number=True, values=values)
