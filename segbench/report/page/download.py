"""Tables as CSV, for the links beside them."""

from __future__ import annotations

import csv
import io
import math
from urllib.parse import quote

from segbench.report.page.blocks import Cell, Table
from segbench.report.text.i18n import MISSING, text

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute a cell that begins so


def link(table: Table) -> str:
    """A data URI of the table. The byte order mark tells spreadsheets that it is UTF-8."""
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + content(table))


def content(table: Table) -> str:
    """RFC 4180. Numbers have ten digits and a decimal point whatever the language; an interval takes three columns."""
    rows, columns = table.csv_rows or table.rows, table.csv_columns or table.columns
    widths = [max((len(row[i].values) for row in rows), default=0) for i in range(len(columns))]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    head: list[str] = []
    for column, width in zip(columns, widths, strict=True):
        name = " ".join(part for part in (column.text, column.note) if part)
        head += [_safe(name), _safe(f"{name} low"), _safe(f"{name} high")][: max(width, 1)]
    writer.writerow(head)
    for row in rows:
        cells: list[str] = []
        for cell, width in zip(row, widths, strict=True):
            cells += _cells(cell, max(width, 1))
        writer.writerow(cells)
    return buffer.getvalue()


def filename(table: Table, protocol: str) -> str:
    """What the browser saves it as."""
    return f"{protocol}-{table.id}.csv"


def label(table: Table) -> str:
    """For those who cannot see which table the link stands at."""
    return text("page.csv_label", title=table.title)


def _cells(cell: Cell, width: int) -> list[str]:
    if cell.values:
        written = ["" if math.isnan(v) else f"{v:.10g}" for v in cell.values]
    else:
        content = " ".join(part for part in (cell.text, cell.note) if part)
        written = ["" if content == MISSING else _safe(content)]
    return (written + [""] * width)[:width]


def _safe(content: str) -> str:
    return f"'{content}" if content.startswith(_FORMULA) else content
