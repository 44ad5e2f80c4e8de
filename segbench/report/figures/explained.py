"""Context, removed categories and corruptions: rows in, plotly out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.core import explained
from segbench.report.figures.theme import GREY, colour, figure, finite, line, safe, symbol, whiskers
from segbench.report.numbers.context import Contexts
from segbench.report.numbers.explained import Removal
from segbench.report.numbers.robustness import Robustness
from segbench.report.text.i18n import signed, text
from segbench.stats import Interval

REMOVAL = 400  # heights, in pixels
_CONTEXT, _ROBUSTNESS = 300, 340
_LOSS, _GAIN = "179,54,31", "31,95,139"  # red and blue, as the page has them
_DIVERGING = [[0, f"rgba({_LOSS},0.75)"], [0.5, "rgba(138,143,152,0.06)"], [1, f"rgba({_GAIN},0.75)"]]
_LEAST_REACH = 0.02  # of a colour scale, in recall: smaller changes stay pale


def context(measured: Contexts, fill: str, reach: tuple[float, float]) -> go.Figure:
    """Accuracy in the windows by how far around them the image is kept, with intervals; `reach`: of the axis."""
    names = [*(f"{distance}" for distance in measured.distances), text("explained.everything")]
    traces = []
    for row in measured.rows:
        traces.append(_line(row.candidate.index, row.candidate.title, names, row.accuracy(fill)))
    x = {"title": text("explained.distance"), "type": "category"}
    y = {"title": {"text": text("explained.accuracy"), "standoff": 10}, "tickformat": ".0%", "range": list(reach)}
    return figure(traces, _CONTEXT, xaxis=x, yaxis=y, hovermode="x", margin={"l": 68, "r": 12, "t": 12, "b": 44})


def context_reach(measured: Contexts) -> tuple[float, float]:
    """A common axis for both fills."""
    intervals = [each for row in measured.rows for fill in explained.FILLS for each in row.accuracy(fill)]
    low, high = min(interval.low for interval in intervals), max(interval.high for interval in intervals)
    margin = max(high - low, 0.01) * 0.06
    return max(low - margin, 0.0), min(high + margin, 1.01)


def removal(measured: Removal, categories: Sequence[str]) -> go.Figure:
    """(row, column): the change of the column's recall, in points, without the row's category; bold where certain."""
    change = measured.change[explained.REMOVALS[0]]
    kept = [i for i in range(len(categories)) if any(finite(v) is not None for v in (*change[i], *change[:, i]))]
    names = [safe(categories[i]) for i in kept]
    values = [[finite(float(change[i, j])) for j in kept] for i in kept]
    reach = max([abs(v) for row in values for v in row if v is not None] + [_LEAST_REACH])
    words = [
        ["" if v is None else f"<b>{signed(v)}</b>" if measured.certain[i, j] else signed(v)
         for j, v in zip(kept, row, strict=True)]
        for i, row in zip(kept, values, strict=True)
    ]  # fmt: skip
    trace = go.Heatmap(
        z=values,
        x=names,
        y=names,
        zmin=-reach,
        zmax=reach,
        xgap=1,
        ygap=1,
        showscale=False,
        colorscale=_DIVERGING,
        text=words,
        texttemplate="%{text}",
        textfont={"size": 11},
        hovertemplate=text("explained.removal_hover"),
    )
    x = {"title": {"text": text("explained.recall_of"), "standoff": 10}, "tickangle": -45, "showgrid": False}
    y = {"title": {"text": text("explained.without"), "standoff": 12}, "autorange": "reversed", "showgrid": False}
    return figure([trace], REMOVAL, xaxis=x, yaxis=y, margin={"l": 56, "r": 8, "t": 8, "b": 56})


def robustness(rows: Sequence[Robustness]) -> go.Figure:
    """mIoU kept under each corruption at each severity, with intervals."""
    traces = []
    for row in rows:
        for corruption, kept in row.kept.items():
            name = text(f"explained.{corruption}")
            places = [[name] * len(kept), [str(severity) for severity in explained.SEVERITIES]]
            traces.append(_line(row.candidate.index, row.candidate.title, places, kept))
    y = {"title": {"text": text("explained.kept"), "standoff": 10}, "tickformat": ".0%", "rangemode": "tozero"}
    made = figure(
        traces, _ROBUSTNESS, yaxis=y, xaxis={"type": "multicategory"}, margin={"l": 68, "r": 12, "t": 12, "b": 56}
    )
    made.add_hline(y=1, line={"color": GREY, "width": 1, "dash": "dot"})
    return made


def _line(index: int, title: str, x: Any, values: Sequence[Interval]) -> Any:
    return go.Scatter(
        x=x,
        y=[finite(value.estimate) for value in values],
        name=safe(title),
        mode="lines+markers",
        line=line(index),
        marker={"symbol": symbol(index), "size": 8, "color": colour(index)},
        error_y=whiskers(values, tint=colour(index)),
        hovertemplate="%{y:.1%}",
    )
