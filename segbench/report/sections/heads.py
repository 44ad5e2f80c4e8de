"""How an architecture is named wherever it stands: its title, colour and marker, in legends and tables."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.report.figures.theme import colour, symbol
from segbench.report.numbers.comparison import Candidate
from segbench.report.page.blocks import Cell, Key, Table


def candidate_keys(candidates: Sequence[Candidate], shape: str = "line", ranks: bool = False) -> tuple[Key, ...]:
    """The legend that says which colour is which architecture. `shape`: of Key, or "symbol" for its own marker;
    `ranks`: with its number in this order."""
    return tuple(
        Key(
            f"{i} {candidate.title}" if ranks else candidate.title,
            colour(candidate.index),
            symbol(candidate.index) if shape == "symbol" else shape,
        )
        for i, candidate in enumerate(candidates, 1)
    )


def candidate_cell(candidate: Candidate, rank: int | None = None, note: str = "", number: bool = False) -> Cell:
    """The head of its row or column."""
    title = candidate.title if rank is None else f"{rank} {candidate.title}"
    return Cell(title, note, swatch=colour(candidate.index), symbol=symbol(candidate.index), number=number)


def mark(candidate: Candidate) -> tuple[str, str]:
    """Its colour and the marker in it."""
    return colour(candidate.index), symbol(candidate.index)


def transposed(table: Table, corner: str) -> Table:
    """With a row per column: of many architectures, each gets a row. `corner`: the head of the first column."""
    heads = (Cell(corner), *(Cell(row[0].text, number=row[1].number) for row in table.rows))
    rows = tuple((head, *(row[i] for row in table.rows)) for i, head in enumerate(table.columns) if i)
    return Table(table.id, table.title, heads, rows, table.caption, dense=True)
