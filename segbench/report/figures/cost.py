"""What quality costs: rows in, plotly out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.report.figures.theme import GREY, PART_COLOURS, colour, figure, safe, symbol
from segbench.report.numbers import tables
from segbench.report.numbers.tables import PARTS, Summary
from segbench.report.text.i18n import number, score, text

IMAGE_PARTS = ("preprocess", "inference_forward", "postprocess")  # of an inference
COSTS = ("latency", "hours", "parameters", "memory")  # of tables.costs
_BAR, _PARETO = 62, 280  # heights, in pixels


def pareto(rows: Sequence[Summary], cost: str) -> go.Figure:
    """mIoU against one cost; what nothing else beats in both is filled, and joined by a line. All costs' figures have
    the same mIoU axis."""
    best = tables.front(list(rows), cost)
    steps = sorted((tables.costs(row)[cost], row.miou.estimate) for row in best)
    traces: list[Any] = []
    if len(steps) > 1:
        step = {"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv"}
        traces.append(
            go.Scatter(x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line=step, hoverinfo="skip")
        )
    traces += [_candidate(row, cost, row in best) for row in rows]
    ends = [v for row in rows for v in (row.miou.estimate, row.miou.low, row.miou.high) if v == v]
    pad = max((max(ends) - min(ends)) * 0.15, 0.01)
    most = max(tables.costs(row)[cost] for row in rows)
    x = {"title": text(f"figures.{cost}"), "range": [0, most * 1.15 or 1], "nticks": 6}
    y = {"title": "mIoU", "range": [min(ends) - pad, max(ends) + pad], "nticks": 6}
    return figure(traces, _PARETO, xaxis=x, yaxis=y, hovermode="closest", margin={"l": 52, "r": 12, "t": 12, "b": 44})


def _candidate(row: Summary, cost: str, best: bool) -> Any:
    value, miou = tables.costs(row)[cost], row.miou
    shape = symbol(row.candidate.index)
    lines = (row.candidate.title, f"mIoU {score(miou.estimate)}", f"{text(f'figures.{cost}')}: {number(value)}")
    return go.Scatter(
        x=[value],
        y=[miou.estimate],
        mode="markers",
        name=safe(row.candidate.title),
        marker={
            "symbol": shape if best else f"{shape}-open",
            "size": 13,
            "color": colour(row.candidate.index),
            "line": {"width": 2, "color": colour(row.candidate.index)},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [_reach(miou.high - miou.estimate)],
            "arrayminus": [_reach(miou.estimate - miou.low)],
            "thickness": 1.5,
            "width": 5,
            "color": colour(row.candidate.index),
        },
        text=["<br>".join(map(safe, lines))],
        hovertemplate="%{text}<extra></extra>",
    )


def _reach(value: float) -> float:
    return max(value, 0.0) if value == value else 0.0


def bars(rows: Sequence[Summary], value: Callable[[Summary], float], written: Callable[[float], str]) -> go.Figure:
    """One horizontal bar per architecture, with its number."""
    values = [value(row) for row in rows]
    trace = go.Bar(
        x=values,
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": [colour(row.candidate.index) for row in rows]},
        text=[written(v) for v in values],
        textposition="outside",
        cliponaxis=False,
        hovertext=[safe(row.candidate.title) for row in rows],
        hovertemplate="%{hovertext}: %{text}<extra></extra>",
    )
    x = {"range": [0, max(values) * 1.18 or 1], "visible": False}
    return _named(
        figure([trace], _BAR * len(rows) + 16, xaxis=x, bargap=0.6, margin={"l": 0, "r": 30, "t": 8, "b": 8}), rows
    )


def stacked(
    rows: Sequence[Summary], parts: Callable[[Summary], Sequence[float]], names: Sequence[str], unit: str
) -> go.Figure:
    """One horizontal bar per architecture, split into parts."""
    traces = [
        go.Bar(
            x=[parts(row)[i] for row in rows],
            y=list(range(len(rows))),
            orientation="h",
            name=text(f"parts.{name}"),
            marker={"color": PART_COLOURS[i]},
            hovertext=[safe(row.candidate.title) for row in rows],
            hovertemplate="%{hovertext}: %{x:.3~g} " + unit + "<extra>%{fullData.name}</extra>",
        )
        for i, name in enumerate(names)
    ]
    x = {"title": unit, "rangemode": "tozero", "nticks": 6}
    height = _BAR * len(rows) + 56
    margin = {"l": 0, "r": 12, "t": 8, "b": 48}
    return _named(figure(traces, height, barmode="stack", bargap=0.6, xaxis=x, margin=margin), rows)


def epoch_parts(rows: Sequence[Summary]) -> go.Figure:
    """Seconds per epoch, split."""
    return stacked(rows, lambda row: row.parts_of_epoch, PARTS, text("figures.seconds"))


def image_parts(rows: Sequence[Summary]) -> go.Figure:
    """Milliseconds per image, split."""
    return stacked(rows, lambda row: row.milliseconds_per_image, IMAGE_PARTS, text("figures.milliseconds"))


def _named(made: go.Figure, rows: Sequence[Summary]) -> go.Figure:
    """Writes each architecture's name above its bar: beside it, a long one would leave a phone no room for bars."""
    for i, row in enumerate(rows):
        where = {"x": 0, "xref": "paper", "xanchor": "left", "y": i, "yshift": 24}
        made.add_annotation(text=safe(row.candidate.title), showarrow=False, **where)
    return made.update_yaxes(visible=False, range=[len(rows) - 0.5, -0.62])
