"""The comparison's figures: rows in, plotly out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.labels import CATEGORIES
from segbench.records import EpochRecord
from segbench.report.ledgers import Side
from segbench.report.tables import PARTS, ClassRow, Summary
from segbench.report.texts import text
from segbench.report.theme import GREY, PART_COLOURS, SEQUENTIAL, colour, figure, line, safe, symbol

EPOCHS = 260  # heights, in pixels
_BAR = 62
CONFUSION = 400
IMAGE_PARTS = ("preprocess", "inference_forward", "postprocess")  # of an inference


def curves(
    sides: Sequence[Side],
    value: Callable[[EpochRecord], float],
    baselines: Sequence[float | None] = (),
) -> go.Figure:
    """One line per side and seed over the epochs. `baselines`: horizontal dashed lines, equal ones once."""
    traces: list[Any] = []
    for side in sides:
        for model in side.models:
            name = (
                side.title if len(side.models) == 1 else f"{side.title}, {text('figures.seed', seed=model.card.seed)}"
            )
            traces.append(
                go.Scatter(
                    x=[e.epoch for e in model.epochs],
                    y=[_finite(value(e)) for e in model.epochs],
                    name=safe(name),
                    line=line(side.index),
                    marker={"symbol": symbol(side.index), "size": 7, "color": colour(side.index)},
                    mode="lines+markers",
                    hovertemplate="%{y:.4f}",
                )
            )
    last = max((e.epoch for side in sides for m in side.models for e in m.epochs), default=1)
    for base in dict.fromkeys(round(b, 6) for b in baselines if b is not None and not math.isnan(b)):
        traces.append(
            go.Scatter(
                x=[1, last],
                y=[base, base],
                mode="lines",
                name=text("figures.majority"),
                line={"color": GREY, "dash": "dash", "width": 1.5},
                hovertemplate="%{y:.4f}",
            )
        )
    x = {"title": text("figures.epoch"), "range": [0.7, last + 0.3], "tick0": 1, "dtick": max(1, round(last / 10))}
    y = {"rangemode": "tozero"}
    return figure(traces, EPOCHS, xaxis=x, yaxis=y, hovermode="x", margin={"l": 48, "r": 12, "t": 12, "b": 44})


def bars(rows: Sequence[Summary], value: Callable[[Summary], float], written: Callable[[float], str]) -> go.Figure:
    """One horizontal bar per architecture, with its number."""
    values = [value(row) for row in rows]
    trace = go.Bar(
        x=values,
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": [colour(row.side.index) for row in rows]},
        text=[written(v) for v in values],
        textposition="outside",
        cliponaxis=False,
        hovertext=[safe(row.side.title) for row in rows],
        hovertemplate="%{hovertext}: %{text}<extra></extra>",
    )
    x = {"range": [0, max(values) * 1.18], "visible": False}
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
            hovertext=[safe(row.side.title) for row in rows],
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


def class_bars(found: Sequence[tuple[Side, Sequence[ClassRow]]]) -> go.Figure:
    """IoU per category, grouped by architecture, with intervals."""
    traces = []
    for side, rows in found:
        values = [_finite(row.iou.estimate) for row in rows]
        ends = [(row.iou.high - row.iou.estimate, row.iou.estimate - row.iou.low) for row in rows]
        traces.append(
            go.Bar(
                x=[row.category for row in rows],
                y=values,
                name=safe(side.title),
                marker={"color": colour(side.index)},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(_finite(up) or 0.0, 0.0) for up, _ in ends],
                    "arrayminus": [max(_finite(down) or 0.0, 0.0) for _, down in ends],
                    "thickness": 1.2,
                    "width": 3,
                },
                hovertemplate="%{x}: %{y:.3f}",
            )
        )
    y = {"range": [0, 1], "title": "IoU"}
    return figure(
        traces,
        360,
        barmode="group",
        bargap=0.3,
        yaxis=y,
        xaxis={"showgrid": False},
        hovermode="x",
        margin={"l": 48, "r": 12, "t": 12, "b": 48},
    )


def confusion(shares: Any) -> go.Figure:
    """(8, 8) shares of each true category (row) by prediction (column)."""
    values = [[_finite(v) for v in row] for row in shares.tolist()]
    trace = go.Heatmap(
        z=values,
        x=list(CATEGORIES),
        y=list(CATEGORIES),
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        showscale=False,
        text=[["" if v is None else f"{v * 100:.0f}" for v in row] for row in values],
        texttemplate="%{text}",
        hovertemplate=text("figures.confusion_hover"),
        **SEQUENTIAL,
    )
    x = {"title": {"text": text("figures.predicted"), "standoff": 10}, "tickangle": -45, "showgrid": False}
    y = {"title": {"text": text("figures.truth"), "standoff": 12}, "autorange": "reversed", "showgrid": False}
    return figure([trace], CONFUSION, xaxis=x, yaxis=y, margin={"l": 56, "r": 8, "t": 8, "b": 56})


def _named(made: go.Figure, rows: Sequence[Summary]) -> go.Figure:
    """Writes each architecture's name above its bar: beside it, a long one would leave a phone no room for bars."""
    for i, row in enumerate(rows):
        where = {"x": 0, "xref": "paper", "xanchor": "left", "y": i, "yshift": 24}
        made.add_annotation(text=safe(row.side.title), showarrow=False, **where)
    return made.update_yaxes(visible=False, range=[len(rows) - 0.5, -0.62])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
