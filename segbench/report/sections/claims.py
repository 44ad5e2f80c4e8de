"""The claims of the note as a table: sentence, measure, every architecture, difference, verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from segbench.report.figures.theme import colour
from segbench.report.numbers.claims import FAILS, HOLDS, UNDECIDED, Row
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.evidence import Evidence
from segbench.report.page.blocks import Cell, Table
from segbench.report.text.i18n import MISSING as NOTHING
from segbench.report.text.i18n import clauses, listed, points, points_range, signed, text
from segbench.stats import Interval


def table(rows: Sequence[Row], candidates: Sequence[Candidate]) -> Table:
    """A row per claim, a column per architecture."""
    heads = [Cell(c.title, swatch=colour(c.index), number=True) for c in candidates]
    columns = (
        Cell(text("claims.claim")),
        Cell(text("claims.measure")),
        *heads,
        Cell(text("claims.ceiling"), number=True),
        Cell(text("claims.difference"), number=True),
        Cell(text("claims.shares"), number=True),
        Cell(text("claims.verdict")),
    )
    made = tuple(_row(row, candidates) for row in rows)
    return Table("claims", text("claims.title"), columns, made, _caption(rows))


def lead(rows: Sequence[Row]) -> str:
    """How many claims hold, do not, and are undecided."""
    counts = Counter(row.verdict for row in rows)
    kinds = [(HOLDS, "claims.some_hold"), (FAILS, "claims.some_fail"), (UNDECIDED, "claims.some_undecided")]
    said = [text(key, number=counts[kind]) for kind, key in kinds if counts[kind]]
    if untested := len(rows) - sum(counts[kind] for kind, _ in kinds):
        said.append(text("claims.some_missing", number=untested))
    return text("claims.lead", number=len(rows), list=listed(said))


def _row(row: Row, candidates: Sequence[Candidate]) -> tuple[Cell, ...]:
    values = [_value(row.values.get(candidate.name)) for candidate in candidates]
    ceilings = [row.ceilings[c.name] for c in candidates if c.name in row.ceilings]
    return (
        Cell(text(f"claims.{row.claim.key}")),
        Cell(text(f"claims.{row.claim.key}_measure")),
        *values,
        Cell(clauses(points(ceiling) for ceiling in ceilings) or NOTHING, number=True, values=tuple(ceilings[:1])),
        _difference(row.difference),
        _difference(row.shares),
        Cell(_verdict(row), best=row.verdict in (HOLDS, FAILS)),
    )


def _value(value: Interval | None) -> Cell:
    if value is None:
        return Cell(NOTHING, number=True)
    return Cell(points(value.estimate), f"({points_range(value)})", number=True, values=tuple(value))


def _difference(found: Evidence | None) -> Cell:
    if found is None:
        return Cell(NOTHING, number=True)
    over = "" if found.over == "images" else f", {text(f'claims.over_{found.over}')}"
    note = f"({points_range(found.interval)}{over})"
    return Cell(signed(found.interval.estimate), note, number=True, values=tuple(v * 100 for v in found.interval))


def _verdict(row: Row) -> str:
    said = text(f"claims.{row.verdict}")
    if not row.contrary:
        return said
    first, second = (text(f"claims.{verdict}") for verdict in row.contrary)
    key = "contrary" if row.claim.by_grid else "contrary_fills"
    return f"{said} {text(f'claims.{key}', first=first, second=second)}"


def _caption(rows: Sequence[Row]) -> str:
    parts = [text("claims.caption")]
    if any(row.ceilings for row in rows):
        parts.append(text("claims.caption_ceiling"))
    parts.append(text("claims.caption_many", number=len(rows)))
    return " ".join(parts)
