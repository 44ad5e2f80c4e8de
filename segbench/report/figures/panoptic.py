"""Which objects are found, by size: rows in, plotly out."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from segbench.report.figures.theme import colour, figure, finite, line, safe, symbol, whiskers
from segbench.report.numbers.comparison import Candidate
from segbench.report.text.i18n import text
from segbench.stats import Interval
from segbench.stats.panoptic import SIZES

_HEIGHT = 300  # pixels


def found(measured: Sequence[tuple[Candidate, Sequence[Interval]]], objects: Sequence[int]) -> go.Figure:
    """The share of objects found against their size; `objects`: how many there are of each size."""
    edges = [0, *SIZES]
    sizes = [f"{low}–{high - 1}" for low, high in zip(edges, SIZES, strict=False)] + [f"≥ {SIZES[-1]}"]
    names = [f"{size}<br>({number})" for size, number in zip(sizes, objects, strict=True)]
    traces = [
        go.Scatter(
            x=names,
            y=[finite(each.estimate) for each in shares],
            name=safe(candidate.title),
            mode="lines+markers",
            line=line(candidate.index),
            marker={"symbol": symbol(candidate.index), "size": 8, "color": colour(candidate.index)},
            error_y=whiskers(shares, tint=colour(candidate.index)),
            hovertemplate="%{y:.1%}",
        )
        for candidate, shares in measured
    ]
    x = {"title": {"text": text("panoptic.size_axis"), "standoff": 10}, "type": "category"}
    y = {"title": text("panoptic.found_axis"), "tickformat": ".0%", "range": [0, 1.02]}
    return figure(traces, _HEIGHT, xaxis=x, yaxis=y, hovermode="x", margin={"l": 60, "r": 12, "t": 12, "b": 72})
