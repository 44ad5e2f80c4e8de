"""The benchmark's rows as cells and as an HTML page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

COLUMNS = ["row", "peer", "unit", "ours", "peer's", "ratio", "range", "target", "our peak GB", "peer's"]
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #8886; white-space: nowrap; }
td:nth-child(n+4) { text-align: right; }
"""


@dataclass(frozen=True)
class Row:
    name: str
    peer: str
    unit: str
    ours: float  # units per second, median
    theirs: float
    ratio: float  # median of the paired ratios
    least: float
    most: float
    target: float
    pairs: int
    our_peak_gb: float  # the peak memory that a call adds, GB
    peer_peak_gb: float
    limit: str = ""  # where segbench's time goes, for a row that misses its target


@dataclass(frozen=True)
class Result:
    device: str
    torch: str
    date: str
    rows: tuple[Row, ...]


def cells(row: Row) -> list[str]:
    target = f"≥ {row.target:g} {'✓' if row.ratio >= row.target else '✗'}" if row.target else ""
    numbers = [f"{row.ours:.2f}", f"{row.theirs:.2f}", f"{row.ratio:.2f}", f"{row.least:.2f}–{row.most:.2f}", target]
    return [row.name, row.peer, row.unit, *numbers, f"{row.our_peak_gb:.2f}", f"{row.peer_peak_gb:.2f}"]


def limits(rows: Iterable[Row]) -> list[str]:
    """A line for each row that misses its target: where segbench's time goes."""
    return [f"{row.name} misses its target; our time by operation: {row.limit}" for row in rows if row.limit]


def write(path: Path, result: Result) -> None:
    """One self-contained page."""
    gpu = (
        "" if "cpu" not in result.device else "<p>No GPU took part: the CUDA path is not measured by these figures.</p>"
    )
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells(row)) + "</tr>" for row in result.rows)
    missed = "".join(f"<li>{escape(line)}</li>" for line in limits(result.rows))
    pairs = max((row.pairs for row in result.rows), default=0)
    path.write_text(
        f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>segbench against what one would write instead</title><style>{_STYLE}</style>
<h1>Ours against what one would write instead</h1>
<p>{escape(result.device)}, torch {escape(result.torch)}, {escape(result.date)}. Each row runs both sides in turn,
{pairs} times, in one process; the ratio is the median of the paired ratios, ours : peer's, with its range. Peak memory
is what one call adds to what was resident before it. The peers stand in <code>benchmarks/peers.py</code>.</p>{gpu}
<div tabindex=0 role=region aria-label="Ratios"><table><tr>{head}</tr>{body}</table></div>
<ul>{missed}</ul>
<p>Repeat it: <code>make bench</code>. The results kept, with the reasons of those missed: benchmarks/RESULTS.md.</p>
""",
        encoding="utf-8",
    )
