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
_BAR, _AROUND = 52, 96  # of one bar; of what stands above and below them
CONFUSION = 400


def curves(
    sides: Sequence[Side],
    value: Callable[[EpochRecord], float],
    baselines: Sequence[float | None] = (),
    share: bool = True,
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
                    legendgroup=side.name,
                    showlegend=model is side.models[0],
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
    top = 40 if share else 12
    y = {"rangemode": "tozero"}
    return figure(
        traces,
        EPOCHS + top,
        xaxis=x,
        yaxis=y,
        hovermode="x",
        showlegend=share,
        margin={"l": 48, "r": 12, "t": top, "b": 44},
    )


def bars(rows: Sequence[Summary], value: Callable[[Summary], float], written: Callable[[float], str]) -> go.Figure:
    """One horizontal bar per architecture, with its number."""
    values = [value(row) for row in rows]
    trace = go.Bar(
        x=values,
        y=[_tick(row.side) for row in rows],
        orientation="h",
        marker={"color": [colour(row.side.index) for row in rows]},
        text=[written(v) for v in values],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    x = {"range": [0, max(values) * 1.18], "visible": False}
    height = _BAR * len(rows) + 16
    return figure([trace], height, xaxis=x, yaxis=_names_axis(), bargap=0.4, margin={**_bar_margin(8), "b": 8})


def stacked(
    rows: Sequence[Summary], parts: Callable[[Summary], Sequence[float]], names: Sequence[str], unit: str
) -> go.Figure:
    """One horizontal bar per architecture, split into parts."""
    traces = [
        go.Bar(
            x=[parts(row)[i] for row in rows],
            y=[_tick(row.side) for row in rows],
            orientation="h",
            name=text(f"parts.{name}"),
            marker={"color": PART_COLOURS[i]},
            hovertemplate="%{y}: %{x:.3~g} " + unit + "<extra>%{fullData.name}</extra>",
        )
        for i, name in enumerate(names)
    ]
    height = _BAR * len(rows) + _AROUND
    legend = {"orientation": "h", "x": 0, "y": 1.04, "yanchor": "bottom", "xanchor": "left", "traceorder": "normal"}
    return figure(
        traces,
        height,
        barmode="stack",
        bargap=0.4,
        showlegend=True,
        legend=legend,
        xaxis={"title": unit, "rangemode": "tozero", "nticks": 5},
        yaxis=_names_axis(),
        margin=_bar_margin(36),
    )


def epoch_parts(rows: Sequence[Summary]) -> go.Figure:
    """Seconds per epoch, split."""
    return stacked(rows, lambda row: row.parts_of_epoch, PARTS, text("figures.seconds"))


def image_parts(rows: Sequence[Summary]) -> go.Figure:
    """Milliseconds per image, split."""
    names = ("preprocess", "inference_forward", "postprocess")
    return stacked(rows, lambda row: row.milliseconds_per_image, names, text("figures.milliseconds"))


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
        380,
        barmode="group",
        bargap=0.3,
        showlegend=True,
        yaxis=y,
        xaxis={"showgrid": False},
        hovermode="x",
        margin={"l": 48, "r": 12, "t": 40, "b": 48},
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


def _tick(side: Side) -> str:
    return safe(side.title)


def _names_axis() -> dict[str, Any]:
    return {"autorange": "reversed", "ticklabelposition": "outside", "type": "category", "ticksuffix": " ", "showgrid": False}


def _bar_margin(top: int) -> dict[str, int]:
    return {"l": 12, "r": 30, "t": top, "b": 40}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
