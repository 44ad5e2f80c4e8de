"""The one table that says it all: a row per measure, a column per architecture; of many, two tables with a row each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from segbench import stats
from segbench.report.numbers import searches
from segbench.report.numbers.tables import PairwiseComparison, Summary, ranked
from segbench.report.page.blocks import Cell, Table
from segbench.report.sections.heads import candidate_cell, transposed
from segbench.report.text.i18n import (
    MISSING,
    clauses,
    duration,
    number,
    points_range,
    score,
    score_range,
    signed,
    text,
)
from segbench.stats import Interval

_HIGHER, _LOWER = 1, -1  # which is better


def summary_table(rows: Sequence[Summary], pairs: Sequence[PairwiseComparison]) -> Table:
    """With two architectures a last column sets the better one against the other: in points, or as a ratio."""
    both = tuple(ranked(rows)) if len(rows) == 2 else None
    made = [*_quality(rows, both, pairs[0] if both and pairs else None), *_costs(rows, both)]
    caption = text("summary.caption_many")
    if both:
        caption = text("summary.caption", first=both[0].candidate.title, second=both[1].candidate.title)
    return _table("summary", rows, made, caption + _sources(rows), bool(both))


def quality_table(rows: Sequence[Summary]) -> Table:
    """Of many architectures, the scores: a row each."""
    made = _table("scores", rows, _quality(rows, None, None), text("summary.caption_scores") + _sources(rows))
    return transposed(made, text("many.architecture"))


def cost_table(rows: Sequence[Summary]) -> Table:
    """Of many architectures, speed, size, memory and time: a row each."""
    made = _table("costs", rows, _costs(rows, None), text("summary.caption_costs"))
    return transposed(made, text("many.architecture"))


def _table(key: str, rows: Sequence[Summary], made: Sequence[list[Cell]], caption: str, last: bool = False) -> Table:
    """A column per architecture; `last`: and one that compares two."""
    heads = [candidate_cell(row.candidate, number=True) for row in rows]
    columns = [Cell(text("summary.measure")), *heads, Cell(text("summary.difference"), number=True)]
    width = len(columns) if last else len(columns) - 1
    cut = tuple(tuple(cells[:width]) for cells in made)
    title = text("summary.title" if key == "summary" else f"summary.title_{key}")
    return Table(key, title, tuple(columns[:width]), cut, caption)


def _quality(
    rows: Sequence[Summary], both: Sequence[Summary] | None, pair: PairwiseComparison | None
) -> list[list[Cell]]:
    groups = rows[0].groups if all(row.groups for row in rows) else {}
    gaps = pair.groups if pair else {}
    made = [
        _scores("value", rows, lambda row: row.value, pair.value if pair else None),
        *(_scores(name, rows, partial(_group, name), gaps.get(name)) for name in groups),
        *([_scores("miou", rows, lambda row: row.miou, pair.miou if pair else None)] if groups else []),
        _scores("miou_official", rows, lambda row: row.miou_official, pair.miou_official if pair else None),
        _scores("pixel_accuracy", rows, lambda row: row.pixel_accuracy, pair.pixel_accuracy if pair else None),
        _line("val_nll", rows, both, lambda row: row.val_nll, _LOWER),
        _line("last_value", rows, both, lambda row: row.last_value, _HIGHER, score, ratio=False),
        _line("majority", rows, both, lambda row: row.majority_miou, 0, score, ratio=False),
    ]
    if any(row.candidate.published for row in rows):
        made.insert(1, _published(rows))
    if any(len(row.seeds) > 1 for row in rows):
        made.insert(1, _seeds(rows))
    return made


def _group(name: str, row: Summary) -> Interval:
    return row.groups[name]


def _costs(rows: Sequence[Summary], both: Sequence[Summary] | None) -> list[list[Cell]]:
    kinds = {row.on_gpu for row in rows}
    memory = "memory_mixed" if len(kinds) > 1 else "memory_gpu" if kinds == {True} else "memory_cpu"
    return [
        _line("ips", rows, both, lambda row: row.inference_images_per_second, _HIGHER),
        _line("latency", rows, both, lambda row: row.latency_ms, _LOWER),
        _line("epoch", rows, both, lambda row: row.seconds_per_epoch, _LOWER),
        _line("training_ips", rows, both, lambda row: row.training_images_per_second, _HIGHER),
        _line("parameters", rows, both, lambda row: row.parameters / 1e6, _LOWER),
        _line("gmac", rows, both, lambda row: row.gmac, _LOWER),
        _memory(memory, rows),
        _line("wall", rows, both, lambda row: row.seconds, _LOWER, duration),
        [Cell(text("summary.search")), *(_search(row) for row in rows), Cell("")],
    ]


def interval_cell(value: Interval, best: bool = False) -> Cell:
    """A score with its interval."""
    return Cell(score(value.estimate), score_range(value), best=best, number=True, values=tuple(value))


def _scores(
    key: str, rows: Sequence[Summary], value: Callable[[Summary], Interval], difference: Interval | None
) -> list[Cell]:
    best = _best([value(row).estimate for row in rows], _HIGHER)
    cells = [interval_cell(value(row), index == best) for index, row in enumerate(rows)]
    last = Cell("")
    if difference:
        written_out = f"{signed(difference.estimate)} {text('common.points')}"
        last = Cell(
            written_out, f"({points_range(difference)})", number=True, values=tuple(v * 100 for v in difference)
        )
    return [Cell(text(f"summary.{key}")), *cells, last]


def _line(
    key: str,
    rows: Sequence[Summary],
    both: Sequence[Summary] | None,
    value: Callable[[Summary], float],
    better: int,
    written: Callable[[float], str] = number,
    ratio: bool = True,
) -> list[Cell]:
    values = [value(row) for row in rows]
    best = _best(values, better)
    cells = [Cell(written(v), best=i == best, number=True, values=(v,)) for i, v in enumerate(values)]
    last = Cell("")
    if both and better:
        a, b = value(both[0]), value(both[1])
        if ratio:
            quotient = a / b if b else math.nan
            last = Cell(text("summary.ratio", ratio=number(quotient)), number=True, values=(quotient,))
        else:
            last = Cell(f"{signed(a - b)} {text('common.points')}", number=True, values=((a - b) * 100,))
    return [Cell(text(f"summary.{key}")), *cells, last]


def _seeds(rows: Sequence[Summary]) -> list[Cell]:
    cells = []
    for row in rows:
        over_seeds = stats.seed_summary(row.value_of_seed)
        spread = "" if math.isnan(over_seeds.spread) else f"± {score(over_seeds.spread)}"
        cells.append(Cell(score(over_seeds.mean), spread, number=True, values=(over_seeds.mean,)))
    most = max(len(row.seeds) for row in rows)
    return [Cell(text("summary.seeds", seeds=most)), *cells, Cell("")]


def _published(rows: Sequence[Summary]) -> list[Cell]:
    """Scores from the literature, and how far ours are from them."""
    cells = []
    for row in rows:
        known = row.candidate.published
        if known is None:
            cells.append(Cell(MISSING, number=True))
            continue
        ours = text("summary.published_ours", points=signed(row.miou.estimate - known.miou))
        cells.append(Cell(score(known.miou), ours, number=True, values=(known.miou,)))
    return [Cell(text("summary.published")), *cells, Cell("")]


def _sources(rows: Sequence[Summary]) -> str:
    """Where these scores were published, as the end of a caption."""
    known = [(row.candidate.title, row.candidate.published) for row in rows]
    each = [text("summary.published_source", title=title, source=one.source) for title, one in known if one]
    return f" {text('summary.published_sources', list=clauses(each))}" if each else ""


def _memory(key: str, rows: Sequence[Summary]) -> list[Cell]:
    cells = []
    for row in rows:
        peaks = {"training": number(row.training_memory_gb, 2), "inference": number(row.inference_memory_gb, 2)}
        cells.append(Cell(text("summary.memory_note", **peaks), number=True))
    return [Cell(text(f"summary.{key}")), *cells, Cell("")]


def _search(row: Summary) -> Cell:
    if row.candidate.study is None:
        return Cell(text("summary.not_searched"), number=True)
    used = searches.budget(row.candidate.study)
    written_out = searches.said(used, "summary.search_cell", "summary.search_cell_hours")
    return Cell(written_out, f"({duration(used.seconds)})", number=True)


def _best(values: Sequence[float], better: int) -> int | None:
    """Which is the best; none where all are equal, undefined or alone."""
    known = [v * better for v in values if not math.isnan(v)]
    if not better or len(known) < 2 or max(known) == min(known):
        return None
    return [v * better for v in values].index(max(known))
