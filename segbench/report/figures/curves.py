"""Curves over the epochs of the full trainings: rows in, plotly out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.core.records import EpochRecord
from segbench.report.figures.theme import GREY, colour, figure, finite, line, safe, symbol, whole_step
from segbench.report.numbers.comparison import Candidate
from segbench.report.text.i18n import text

HEIGHT, PANEL = 260, 180  # pixels; of one figure for all, of one of many
_TICKS_OF_PANEL = 6


def curves(
    candidates: Sequence[Candidate],
    value: Callable[[EpochRecord], float],
    baselines: Sequence[float | None] = (),
    behind: Sequence[Candidate] = (),
) -> go.Figure:
    """One line per candidate and seed over the epochs. `baselines`: horizontal dashed lines, equal ones once. `behind`:
    thin grey lines, first seeds only, to compare with and to give all panels of a row the same axes."""
    traces: list[Any] = [_thin(candidate, value) for candidate in behind]
    style = {"dash": "solid"} if behind else {}
    for candidate in candidates:
        for model in candidate.models:
            name = (
                candidate.title
                if len(candidate.models) == 1
                else f"{candidate.title}, {text('figures.seed', seed=model.card.seed)}"
            )
            traces.append(
                go.Scatter(
                    x=[e.epoch for e in model.epochs],
                    y=[finite(value(e)) for e in model.epochs],
                    name=safe(name),
                    line={**line(candidate.index), **style},
                    marker={"symbol": symbol(candidate.index), "size": 7, "color": colour(candidate.index)},
                    mode="lines+markers",
                    hovertemplate="%{y:.4f}",
                )
            )
    drawn = (*candidates, *behind)
    last = max((e.epoch for candidate in drawn for m in candidate.models for e in m.epochs), default=1)
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
    x = {
        "title": text("figures.epoch"),
        "range": [0.7, last + 0.3],
        "tick0": 0,
        "dtick": whole_step(last, _TICKS_OF_PANEL if behind else 12),
    }
    y: dict[str, Any] = {"rangemode": "tozero"}
    if behind:
        y = {"range": [0, 1.07 * max(v for trace in traces for v in trace.y if v is not None)], "nticks": 5}
    height = PANEL if behind else HEIGHT
    return figure(traces, height, xaxis=x, yaxis=y, hovermode="x", margin={"l": 48, "r": 12, "t": 12, "b": 44})


def _thin(candidate: Candidate, value: Callable[[EpochRecord], float]) -> Any:
    epochs = candidate.models[0].epochs
    return go.Scatter(
        x=[e.epoch for e in epochs],
        y=[None if (v := finite(value(e))) is None else round(v, 5) for e in epochs],
        mode="lines",
        line={"color": GREY, "width": 1},
        opacity=0.45,
        hoverinfo="skip",
    )
