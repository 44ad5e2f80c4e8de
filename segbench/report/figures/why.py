"""Kinds of errors, regions by size, alike categories and calibration: numbers in, plotly out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from segbench.report.figures.theme import GREY, colour, figure, finite, line, safe, symbol, whiskers
from segbench.report.numbers.measures import Side
from segbench.report.text.i18n import text
from segbench.stats import Interval, calibration
from segbench.stats.regions import SIZES
from segbench.stats.taxonomy import PARTS

# One hue per kind of error; a false positive is the darker of the two.
PART_COLOURS = dict(zip(PARTS, ("#4d7f96", "#c29a2e", "#a8574a", "#a9c6d3", "#e6d299", "#dda79d"), strict=True))
_ROW, _HEIGHT, _SQUARE = 30, 320, 340


def errors(shares: NDArray[np.float64], classes: Sequence[str]) -> go.Figure:
    """One architecture's errors by class. shares: (C, 7), IoU and then PARTS; classes that occur nowhere are left
    out."""
    known = [i for i in range(len(classes)) if np.isfinite(shares[i]).all()]
    traces = [
        go.Bar(
            y=[classes[i] for i in known],
            x=[float(shares[i, 1 + place]) for i in known],
            orientation="h",
            name=text(f"why.{part}"),
            marker={"color": PART_COLOURS[part]},
            hovertemplate="%{x:.1%}",
        )
        for place, part in enumerate(PARTS)
    ]
    x = {"tickformat": ".0%", "title": text("figures.union"), "range": [0, 1]}
    y = {"autorange": "reversed", "showgrid": False, "ticksuffix": " "}
    margin = {"l": 12, "r": 12, "t": 8, "b": 44}
    return figure(traces, _ROW * len(known) + 70, barmode="stack", bargap=0.35, xaxis=x, yaxis=y, margin=margin)


def by_size(
    curves: Sequence[tuple[Side, Sequence[Interval], Sequence[float] | None]], title: str, lower: bool = False
) -> go.Figure:
    """A share of regions by their size, one line per architecture, dashed the ceiling of its grid. `lower`: of
    predicted regions."""
    traces: list[Any] = []
    for side, values, ceiling in curves:
        index = side.candidate.index
        if ceiling is not None:
            dashed = {"color": colour(index), "dash": "dash", "width": 1.3}
            name = text("figures.grid_ceiling", title=safe(side.candidate.title))
            traces.append(
                go.Scatter(x=size_names(), y=_finite(ceiling), mode="lines", line=dashed, opacity=0.75, name=name)
            )
        traces.append(
            go.Scatter(
                x=size_names(),
                y=_finite([v.estimate for v in values]),
                error_y=whiskers(values),
                mode="lines+markers",
                line=line(index),
                marker={"symbol": symbol(index), "size": 8, "color": colour(index)},
                name=safe(side.candidate.title),
            )
        )
    for trace in traces:
        trace.hovertemplate = "%{y:.1%}"
    x = {"title": text("figures.predicted_size" if lower else "figures.true_size"), "type": "category"}
    y = {"title": {"text": title, "standoff": 10}, "tickformat": ".0%", "range": [0, 1.02]}
    return figure(traces, _HEIGHT, xaxis=x, yaxis=y, hovermode="x", margin={"l": 64, "r": 12, "t": 12, "b": 44})


def size_names() -> list[str]:
    """< 16, 16–63, … pixels."""
    between = [f"{low}–{high - 1}" for low, high in itertools.pairwise(SIZES)]
    return [f"< {SIZES[0]}", *between, f"≥ {SIZES[-1]}"]


def alike(sides: Sequence[Side], likeness: NDArray[np.float64], classes: Sequence[str]) -> go.Figure:
    """Each ordered pair of classes: how alike they look, and which share of the first's inner pixels is taken for the
    second."""
    traces = []
    for side in sides:
        counts = side.total.confusions
        totals = counts.sum(1)
        pairs = [
            (float(likeness[i, j]), float(counts[i, j] / totals[i]), f"{classes[i]} → {classes[j]}")
            for i, j in np.argwhere(counts > 0)
            if i != j and np.isfinite(likeness[i, j])
        ]
        traces.append(
            go.Scatter(
                x=[pair[0] for pair in pairs],
                y=[pair[1] for pair in pairs],
                text=[safe(pair[2]) for pair in pairs],
                mode="markers",
                marker={
                    "symbol": symbol(side.candidate.index),
                    "size": 8,
                    "color": colour(side.candidate.index),
                    "opacity": 0.75,
                },
                name=safe(side.candidate.title),
                hovertemplate="%{text}: %{y:.2%}",
            )
        )
    x = {"title": text("figures.likeness")}
    y = {"title": {"text": text("figures.inner_confusion"), "standoff": 10}, "type": "log", "tickformat": ".2~%"}
    return figure(traces, _HEIGHT, xaxis=x, yaxis=y, margin={"l": 68, "r": 12, "t": 12, "b": 44})


def reliability(sides: Sequence[Side], which: str) -> go.Figure:
    """Accuracy by confidence, pooled over seeds; on the diagonal a network knows how sure it may be. which: "bins", or
    "tempered" after the temperature."""
    ideal = {"color": GREY, "dash": "dash", "width": 1.3}
    traces: list[Any] = [
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=ideal, hoverinfo="skip", name=text("figures.calibrated"))
    ]
    for side in sides:
        pooled = np.sum([getattr(found, which).sum(0) for found in side.reliability], axis=0)
        share, accuracy, confidence = calibration.reliability(pooled).T
        filled = share > 0
        traces.append(
            go.Scatter(
                x=confidence[filled].tolist(),
                y=accuracy[filled].tolist(),
                customdata=share[filled].tolist(),
                mode="lines+markers",
                line=line(side.candidate.index, 1.8),
                marker={
                    "symbol": symbol(side.candidate.index),
                    "size": (5 + 18 * np.sqrt(share[filled])).tolist(),
                    "color": colour(side.candidate.index),
                },
                name=safe(side.candidate.title),
                hovertemplate=text("figures.reliability_hover"),
            )
        )
    x = {"title": text("figures.confidence"), "range": [0, 1.02], "tickformat": ".0%"}
    y = {"title": {"text": text("figures.accuracy"), "standoff": 10}, "range": [0, 1.02], "tickformat": ".0%"}
    return figure(traces, _SQUARE, xaxis=x, yaxis=y, margin={"l": 64, "r": 12, "t": 12, "b": 44})


def _finite(values: Sequence[float]) -> list[float | None]:
    return [finite(float(value)) for value in values]
