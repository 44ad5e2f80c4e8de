"""The section of cost: what quality costs, how fast inference is, where training time goes."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.report.figures import cost
from segbench.report.figures.theme import MANY, PART_COLOURS
from segbench.report.numbers import tables
from segbench.report.numbers.tables import Summary
from segbench.report.page.blocks import Block, Figure, Key, Plot, Prose, Section, plot, single
from segbench.report.sections import sentences
from segbench.report.sections.heads import candidate_keys
from segbench.report.sections.summary import cost_table
from segbench.report.text.i18n import number, text

_SMALL, _LARGE = 280, 420  # heights of the frontier, in pixels


def section(rows: Sequence[Summary]) -> Section:
    """Of the promoted architectures."""
    blocks: list[Block] = [Prose((text("quality.nothing"),), tone="note")]
    if rows:
        ordered = tables.ranked(rows)
        many = len(rows) >= MANY
        devices = ", ".join(dict.fromkeys(m.card.device.description for row in rows for m in row.candidate.models))
        lead = [Prose(tuple(sentences.price(rows)), tone="lead")] if len(rows) > 1 else []
        table = [cost_table(ordered)] if many else []
        shown = ordered if many else rows
        blocks = [*lead, _frontier(ordered, devices), *table, _speed(shown, devices), _epoch(shown)]
    return Section("cost", text("cost.title"), text("cost.short"), tuple(blocks))


def _frontier(rows: Sequence[Summary], devices: str) -> Figure:
    """One figure per cost that is known; of three or more architectures one at a time, large."""
    one = len(rows) > 2
    keys = candidate_keys([row.candidate for row in rows], "symbol", ranks=True)
    plots = []
    for measure in cost.COSTS:
        if any(tables.costs(row)[measure] == tables.costs(row)[measure] for row in rows):
            drawn = cost.frontier(rows, measure, _LARGE if one else _SMALL)
            heading = text(f"cost.panel_{measure}")
            height = int(drawn.layout.height)
            plots.append(Plot(f"frontier-{measure}", drawn, heading, height, heading, one, keys, heading))
    caption = text("cost.frontier_caption", device=devices)
    return Figure(text("cost.frontier"), tuple(plots), caption, shown=1 if one else 0)


def _speed(rows: Sequence[Summary], devices: str) -> Figure:
    speed = cost.bars(rows, lambda row: row.inference_images_per_second, number)
    parts = cost.image_parts(rows)
    plots = (
        plot("inference", speed, text("cost.speed_total")),
        plot("inference-parts", parts, text("cost.speed_parts"), keys=_part_keys(cost.IMAGE_PARTS)),
    )
    return Figure(text("cost.speed"), plots, text("cost.speed_caption", device=devices))


def _epoch(rows: Sequence[Summary]) -> Figure:
    drawn = cost.epoch_parts(rows)
    keys = _part_keys(tables.PARTS)
    return single("epoch-seconds", drawn, text("cost.epoch"), text("cost.epoch_caption"), keys)


def _part_keys(parts: tuple[str, ...]) -> tuple[Key, ...]:
    return tuple(Key(text(f"parts.{part}"), tint) for part, tint in zip(parts, PART_COLOURS, strict=False))
