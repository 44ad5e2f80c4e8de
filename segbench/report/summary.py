"""The one table that says it all: a row per measure, a column per architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from segbench.report import searches
from segbench.report.blocks import Cell, Table
from segbench.report.tables import Duel, Summary
from segbench.report.texts import MISSING, number, points, points_interval, score, score_interval, text
from segbench.report.theme import colour
from segbench.statistics import Interval
from segbench.terminal import duration

_HIGHER, _LOWER = 1, -1  # which is better


def summary_table(rows: Sequence[Summary], duels: Sequence[Duel]) -> Table:
    """With two architectures a last column says how they differ: in points, or as the ratio of first to second."""
    pair = (rows[0], rows[1]) if len(rows) == 2 else None
    duel = duels[0] if pair and duels else None
    memory = "memory_gpu" if all(row.on_gpu for row in rows) else "memory_cpu"
    made = [
        _scores("miou", rows, lambda row: row.miou, _signed(duel, lambda d: d.miou, rows)),
        _scores("miou_official", rows, lambda row: row.miou_official, _signed(duel, lambda d: d.miou_official, rows)),
        _scores(
            "pixel_accuracy", rows, lambda row: row.pixel_accuracy, _signed(duel, lambda d: d.pixel_accuracy, rows)
        ),
        _line("val_nll", rows, lambda row: row.val_nll, _LOWER),
        _line("last_miou", rows, lambda row: row.last_miou, _HIGHER, score, ratio=False),
        _line("majority", rows, lambda row: row.majority_miou, 0, score, ratio=False),
        _line("ips", rows, lambda row: row.inference_images_per_second, _HIGHER),
        _line("latency", rows, lambda row: row.latency_ms, _LOWER),
        _line("epoch", rows, lambda row: row.seconds_per_epoch, _LOWER),
        _line("training_ips", rows, lambda row: row.training_images_per_second, _HIGHER),
        _line("parameters", rows, lambda row: row.parameters / 1e6, _LOWER),
        _memory(memory, rows),
        _line("wall", rows, lambda row: row.seconds, _LOWER, duration),
        [Cell(text("summary.search")), *(_search(row) for row in rows), Cell("")],
    ]
    if any(len(row.seeds) > 1 for row in rows):
        cells = [Cell(", ".join(score(v) for v in row.miou_of_seed), number=True) for row in rows]
        made.insert(1, [Cell(text("summary.seeds")), *cells, Cell("")])
    heads = [Cell(row.side.title, swatch=colour(row.side.index), number=True) for row in rows]
    columns = [Cell(text("summary.measure")), *heads, Cell(text("summary.difference"), number=True)]
    width = len(columns) if pair else len(columns) - 1
    cut = tuple(tuple(cells[:width]) for cells in made)
    return Table(text("summary.title"), tuple(columns[:width]), cut, text("summary.caption"))


def _scores(
    key: str, rows: Sequence[Summary], value: Callable[[Summary], Interval], difference: Interval | None
) -> list[Cell]:
    best = _best([value(row).estimate for row in rows], _HIGHER)
    cells = []
    for index, row in enumerate(rows):
        whole = score_interval(value(row))
        cells.append(Cell(whole.partition(" ")[0], whole.partition(" ")[2], best=index == best, number=True))
    last = Cell("")
    if difference:
        unit = text("words.points")
        last = Cell(f"{_plus(difference.estimate)} {unit}", f"({points_interval(difference)})", number=True)
    return [Cell(text(f"summary.{key}")), *cells, last]


def _line(
    key: str,
    rows: Sequence[Summary],
    value: Callable[[Summary], float],
    better: int,
    written: Callable[[float], str] = number,
    ratio: bool = True,
) -> list[Cell]:
    values = [value(row) for row in rows]
    best = _best(values, better)
    cells = [Cell(written(v), best=i == best, number=True) for i, v in enumerate(values)]
    last = ""
    if len(values) == 2 and better:
        quotient = values[0] / values[1] if values[1] else math.nan
        last = (
            text("summary.ratio", ratio=number(quotient))
            if ratio
            else f"{_plus(values[0] - values[1])} {text('words.points')}"
        )
    return [Cell(text(f"summary.{key}")), *cells, Cell(last, number=True)]


def _memory(key: str, rows: Sequence[Summary]) -> list[Cell]:
    cells = []
    for row in rows:
        both = {"training": number(row.training_memory_gb, 2), "inference": number(row.inference_memory_gb, 2)}
        cells.append(Cell(text("summary.memory_note", **both), number=True))
    return [Cell(text(f"summary.{key}")), *cells, Cell("")]


def _search(row: Summary) -> Cell:
    if row.side.study is None:
        return Cell(text("summary.not_searched"), number=True)
    used = searches.budget(row.side.study)
    words = text("summary.search_cell", ended=used.ended, asked=used.asked, epochs=used.epochs)
    return Cell(words, f"({duration(used.seconds)})", number=True)


def _best(values: Sequence[float], better: int) -> int | None:
    """Which is the best; none where all are equal, undefined or alone."""
    known = [v * better for v in values if not math.isnan(v)]
    if not better or len(known) < 2 or max(known) == min(known):
        return None
    return [v * better for v in values].index(max(known))


def _signed(duel: Duel | None, which: Callable[[Duel], Interval], rows: Sequence[Summary]) -> Interval | None:
    """The duel's difference as first column minus second."""
    if duel is None:
        return None
    difference = which(duel)
    if duel.first is rows[0]:
        return difference
    return Interval(-difference.estimate, -difference.high, -difference.low)


def _plus(value: float) -> str:
    if math.isnan(value):
        return MISSING
    words = points(value)
    return words if words.startswith("−") or words == "0.0" else f"+{words}"
