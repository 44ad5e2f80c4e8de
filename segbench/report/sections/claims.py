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
from segbench.report.text.i18n import listed, points, points_range, signed, text
from segbench.stats import Interval


def table(rows: Sequence[Row], candidates: Sequence[Candidate]) -> Table:
    """A row per claim: the verdict, a column per architecture, and the difference."""
    heads = [Cell(c.title, swatch=colour(c.index), number=True) for c in candidates]
    columns = (
        Cell(text("claims.claim")),
        Cell(text("claims.verdict")),
        *heads,
        Cell(text("claims.difference"), number=True),
    )
    made = tuple(_row(row, candidates) for row in rows)
    return Table("claims", text("claims.title"), columns, made, _caption(rows), cards=True)


def grids(rows: Sequence[Row], candidates: Sequence[Candidate]) -> Table | None:
    """Of the claims that a coarser grid may explain: the difference as shares of each one's own ceiling."""
    compared = [row for row in rows if row.shares and row.difference]
    if not compared:
        return None
    heads = [Cell(c.title, text("claims.ceiling"), swatch=colour(c.index), number=True) for c in candidates]
    columns = (
        Cell(text("claims.claim")),
        *heads,
        Cell(text("claims.difference"), number=True),
        Cell(text("claims.shares"), number=True),
    )
    made = []
    for row in compared:
        ceilings = [row.ceilings.get(candidate.name, float("nan")) for candidate in candidates]
        made.append(
            (
                Cell(text(f"claims.{row.claim.key}"), text(f"claims.{row.claim.key}_measure")),
                *(Cell(points(ceiling), number=True, values=(ceiling,)) for ceiling in ceilings),
                _difference(row.difference),
                _difference(row.shares),
            )
        )
    return Table("grids", text("claims.grids"), columns, tuple(made), text("claims.grids_caption"), cards=True)


def lead(rows: Sequence[Row]) -> str:
    """How many claims hold, do not, and are undecided."""
    counts = Counter(row.verdict for row in rows)
    kinds = [(HOLDS, "claims.some_hold"), (FAILS, "claims.some_fail"), (UNDECIDED, "claims.some_undecided")]
    said = [text(key, number=counts[kind]) for kind, key in kinds if counts[kind]]
    if untested := len(rows) - sum(counts[kind] for kind, _ in kinds):
        said.append(text("claims.some_missing", number=untested))
    return text("claims.lead", number=len(rows), list=listed(said))


def explained(rows: Sequence[Row], seeds: int) -> str:
    """How to read the verdicts, and whether they are about these trained networks or about other seeds, too."""
    key = "one_seed" if seeds == 1 else "several_seeds"
    decided = sum(row.here in (HOLDS, FAILS) and row.verdict == UNDECIDED for row in rows)
    return f"{text('claims.how')} {text(f'claims.{key}', seeds=seeds, number=decided)}"


def _row(row: Row, candidates: Sequence[Candidate]) -> tuple[Cell, ...]:
    return (
        Cell(text(f"claims.{row.claim.key}"), text(f"claims.{row.claim.key}_measure")),
        Cell(text(f"claims.{row.verdict}"), _why(row), best=row.verdict in (HOLDS, FAILS)),
        *(_value(row.values.get(c.name), row.ceilings.get(c.name)) for c in candidates),
        _difference(row.difference),
    )


def _value(value: Interval | None, ceiling: float | None) -> Cell:
    if value is None:
        return Cell(NOTHING, number=True)
    limit = "" if ceiling is None else f", {text('claims.at_most', ceiling=points(ceiling))}"
    return Cell(points(value.estimate), f"({points_range(value)}{limit})", number=True, values=tuple(value))


def _difference(found: Evidence | None) -> Cell:
    if found is None:
        return Cell(NOTHING, number=True)
    over = "" if found.over == "images" else f", {text(f'claims.over_{found.over}')}"
    note = f"({points_range(found.interval)}{over})"
    return Cell(signed(found.interval.estimate), note, number=True, values=tuple(v * 100 for v in found.interval))


def _why(row: Row) -> str:
    """What leaves a claim undecided."""
    if row.verdict != UNDECIDED:
        return ""
    if row.here in (HOLDS, FAILS):
        return text("claims.here", verdict=text(f"claims.{row.here}"))
    if not row.contrary:
        return text("claims.chance_or_grid" if row.claim.by_grid else "claims.chance")
    first, second = (text(f"claims.{verdict}") for verdict in row.contrary)
    return text("claims.contrary" if row.claim.by_grid else "claims.contrary_fills", first=first, second=second)


def _caption(rows: Sequence[Row]) -> str:
    parts = [text("claims.caption")]
    if any(row.ceilings for row in rows):
        parts.append(text("claims.caption_ceiling"))
    parts.append(text("claims.caption_many", number=len(rows)))
    return " ".join(parts)
