"""The full trainings' curves, continued: rows in, plotly out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.report.figures.theme import colour, figure, finite, symbol, whole_step
from segbench.report.numbers.longer import Outlook
from segbench.report.text.i18n import measure, text

HEIGHT = 260  # pixels
_BAND = 0.18  # opacity


def span(outlooks: Sequence[Outlook]) -> tuple[float, float]:
    """An mIoU axis that holds every measured score, and the fits as far as they are not far off."""
    scores = [score for outlook in outlooks for score in outlook.scores]
    low, high = min(scores), max(scores)
    pad = max((high - low) * 0.25, 0.02)
    return max(low - pad, 0.0), min(high + pad, 1.0)


def continued(outlook: Outlook, axis: tuple[float, float]) -> go.Figure:
    """The measured mIoU of each epoch, and the fitted curve with its interval, to the last continued epoch."""
    index, measured = outlook.candidate.index, list(range(1, len(outlook.scores) + 1))
    traces = _fit(outlook) if outlook.longer else []
    traces.append(
        go.Scatter(
            x=measured,
            y=[finite(score) for score in outlook.scores],
            mode="markers",
            marker={"symbol": symbol(index), "size": 7, "color": colour(index)},
            name=text("figures.measured"),
            hovertemplate="%{y:.4f}",
        )
    )
    last = len(outlook.scores) + outlook.more
    x = {"title": text("figures.epoch"), "range": [0.5, last + 0.5], "tick0": 0, "dtick": whole_step(last, 12)}
    return figure(traces, HEIGHT, xaxis=x, yaxis={"title": measure(), "range": axis}, hovermode="x")


def _fit(outlook: Outlook) -> list[Any]:
    assert outlook.longer
    epochs, tint = outlook.longer.epochs.tolist(), colour(outlook.candidate.index)
    median, low, high = ([finite(round(v, 5)) for v in row] for row in outlook.longer.curve.tolist())
    band = f"rgba({int(tint[1:3], 16)},{int(tint[3:5], 16)},{int(tint[5:7], 16)},{_BAND})"
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(x=epochs, y=low, **edge),
        go.Scatter(x=epochs, y=high, fill="tonexty", fillcolor=band, **edge),
        go.Scatter(
            x=epochs,
            y=median,
            mode="lines",
            line={"color": tint, "width": 2, "dash": "dash"},
            name=text("figures.fit"),
            hovertemplate="%{y:.3f}",
        ),
    ]
