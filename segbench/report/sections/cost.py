"""The section of cost: what quality costs, how fast inference is, where training time goes."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.report.figures import cost
from segbench.report.figures.theme import PART_COLOURS
from segbench.report.numbers import tables
from segbench.report.numbers.tables import Summary
from segbench.report.page.blocks import Block, Figure, Key, Prose, Section, plot, single
from segbench.report.sections import sentences
from segbench.report.sections.quality import candidate_keys
from segbench.report.text.i18n import number, text


def section(rows: Sequence[Summary]) -> Section:
    """Of the promoted architectures."""
    blocks: list[Block] = [Prose((text("quality.nothing"),), tone="note")]
    if rows:
        devices = ", ".join(dict.fromkeys(m.card.device.description for row in rows for m in row.candidate.models))
        lead = [Prose(tuple(sentences.price(rows)), tone="lead")] if len(rows) > 1 else []
        blocks = [*lead, _pareto(rows, devices), _speed(rows, devices), _epoch(rows)]
    return Section("cost", text("cost.title"), text("cost.short"), tuple(blocks))


def _pareto(rows: Sequence[Summary], devices: str) -> Figure:
    keys = candidate_keys(rows, "box")
    plots = []
    for measure in cost.COSTS:
        plots.append(plot(f"pareto-{measure}", cost.pareto(rows, measure), text(f"cost.panel_{measure}"), keys=keys))
    return Figure(text("cost.pareto"), tuple(plots), text("cost.pareto_caption", device=devices))


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
