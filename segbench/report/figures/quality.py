"""Differences, categories, confusions and borders: rows in, plotly out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.report.figures.theme import GREY, SEQUENTIAL, colour, figure, finite, line, safe, symbol, whiskers
from segbench.report.numbers import pixels
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.tables import ClassRow, PairwiseComparison
from segbench.report.text.i18n import class_names, points_range, signed, text
from segbench.stats import Interval, trimap_errors

CONFUSION = 400  # heights, in pixels
_BORDERS, _PANEL, _BARS, _ROW = 300, 180, 360, 26


def forest(pair: PairwiseComparison, reach: float) -> go.Figure:
    """The paired differences of a pair, first minus second, in points: the scores, then the categories. `reach`: how
    far the axis goes to either side, in points, so that several pairs share it."""
    named = [(text("summary.value"), pair.value), *((text(f"summary.{k}"), each) for k, each in pair.groups.items())]
    named += [(text("summary.miou"), pair.miou)] if pair.groups else []
    named += [(text("summary.miou_official"), pair.miou_official)]
    named += [(text("summary.pixel_accuracy"), pair.pixel_accuracy)]
    scores = len(named)
    named += [
        (name, delta)
        for name, delta in zip(class_names(pair.first.candidate.labels), pair.iou, strict=True)
        if finite(delta.estimate)
    ]
    traces = [_difference(pair, name, delta, y) for y, (name, delta) in enumerate(named)]
    x = {
        "title": text("figures.difference"),
        "range": [-reach, reach],
        "nticks": 7,
        "tickangle": 0,
    }
    ticks = [f"<b>{name}</b>" if y < 1 else name for y, (name, _) in enumerate(named)]
    y_axis = {
        "tickvals": list(range(len(named))),
        "ticktext": ticks,
        "range": [len(named) - 0.5, -0.7],
        "showgrid": False,
        "ticksuffix": " ",
    }
    made = figure(traces, _ROW * len(named) + 70, xaxis=x, yaxis=y_axis, margin={"l": 12, "r": 12, "t": 8, "b": 44})
    made.update_xaxes(zeroline=True, zerolinewidth=1.5, zerolinecolor=GREY)
    made.add_shape(
        type="line", x0=0, x1=1, xref="paper", y0=scores - 0.5, y1=scores - 0.5, line={"color": GREY, "width": 0.5}
    )
    return made


def reach(pairs: Sequence[PairwiseComparison]) -> float:
    """A common half-width for the axes of several forests, in points."""
    ends = [
        v
        for d in pairs
        for interval in (d.value, *d.groups.values(), d.miou, d.miou_official, d.pixel_accuracy, *d.iou)
        for v in interval
        if v == v
    ]
    return max((abs(v) for v in ends), default=0.01) * 108


def borders(measured: pixels.Borders, candidates: Sequence[Candidate], behind: Sequence[Candidate] = ()) -> go.Figure:
    """The share of wrong pixels in bands of distance from a border; `behind`: as in `curves.curves`."""
    edges = pixels.EDGES
    names = [_band(low, high) for low, high in zip((0, *edges), (*edges, None), strict=True)]
    thin = {"mode": "lines", "line": {"color": GREY, "width": 1}, "opacity": 0.45, "hoverinfo": "skip"}
    traces = [go.Scatter(x=names, y=_shares(measured, candidate), **thin) for candidate in behind]
    for candidate in candidates:
        counts = measured.counts[candidate.name]
        shares = _shares(measured, candidate)
        near = [finite(float(v)) for v in trimap_errors(counts)]
        traces.append(
            go.Scatter(
                x=names,
                y=shares,
                customdata=near,
                name=safe(candidate.title),
                mode="lines+markers",
                line=line(candidate.index),
                marker={"symbol": symbol(candidate.index), "size": 8, "color": colour(candidate.index)},
                hovertemplate="%{y:.1%}",
            )
        )
    x: dict[str, Any] = {"title": text("figures.distance"), "type": "category"}
    y = {"title": {"text": text("figures.error_rate"), "standoff": 10}, "tickformat": ".0%", "rangemode": "tozero"}
    if behind:  # the heading above all panels names the axes
        del x["title"], y["title"]
        x["dtick"], x["tickangle"] = 2, 0
    height, left = (_PANEL, 44) if behind else (_BORDERS, 68)
    return figure(traces, height, xaxis=x, yaxis=y, hovermode="x", margin={"l": left, "r": 12, "t": 12, "b": 44})


def _shares(measured: pixels.Borders, candidate: Candidate) -> list[float | None]:
    return [wrong / every if every else None for wrong, every in measured.counts[candidate.name].tolist()]


def class_bars(
    categories: Sequence[tuple[Candidate, Sequence[ClassRow]]], ceiling: Mapping[str, float | None] | None = None
) -> go.Figure:
    """IoU per category, grouped by architecture, with intervals; `ceiling`: category to the label ceiling."""
    traces: list[Any] = []
    marks: list[Any] = []
    for candidate, rows in categories:
        values = [finite(row.iou.estimate) for row in rows]
        traces.append(
            go.Bar(
                x=class_names(candidate.labels),
                y=values,
                name=safe(candidate.title),
                marker={"color": colour(candidate.index)},
                error_y=whiskers([row.iou for row in rows]),
                hovertemplate="%{x}: %{y:.3f}",
            )
        )
    if ceiling:
        known = {name: value for name, value in ceiling.items() if value is not None}
        traces.append(
            go.Scatter(
                x=list(known),
                y=list(known.values()),
                mode="markers",
                marker={"size": 1, "color": GREY},
                name=text("figures.ceiling"),
                hovertemplate="%{y:.3f}",
            )
        )
        stroke = {"color": GREY, "width": 2}
        marks = [
            {"type": "line", "x0": i - 0.36, "x1": i + 0.36, "y0": known[name], "y1": known[name], "line": stroke}
            for i, name in enumerate(ceiling)
            if name in known
        ]
    y = {"range": [0, 1], "title": "IoU"}
    return figure(
        traces,
        _BARS,
        barmode="group",
        bargap=0.3,
        yaxis=y,
        xaxis={"showgrid": False},
        shapes=marks,
        hovermode="x",
        margin={"l": 48, "r": 12, "t": 12, "b": 48},
    )


def confusion(shares: Any, names: Sequence[str]) -> go.Figure:
    """(C, C) shares of each true class (row) by prediction (column)."""
    values = [[finite(v) for v in row] for row in shares.tolist()]
    trace = go.Heatmap(
        z=values,
        x=list(names),
        y=list(names),
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


def _difference(pair: PairwiseComparison, name: str, delta: Interval, y: int) -> Any:
    """One row: grey where its interval includes zero, else in the colour of the one that is ahead."""
    ahead = (pair.first if delta.estimate > 0 else pair.second).candidate.index
    tint = colour(ahead) if delta.excludes_zero else GREY
    return go.Scatter(
        x=[delta.estimate * 100],
        y=[y],
        mode="markers",
        name=name,
        marker={"symbol": symbol(ahead), "size": 11 if y < 1 else 9, "color": tint},
        error_x=whiskers([delta], 2.5 if y < 1 else 1.6, 4, tint, scale=100),
        text=[f"{name}: {signed(delta.estimate)} ({points_range(delta)}) {text('common.points')}"],
        hovertemplate="%{text}<extra></extra>",
    )


def _band(low: int, high: int | None) -> str:
    if high is None:
        return f"≥ {low}"
    return str(low) if high == low + 1 else f"{low}–{high - 1}"
