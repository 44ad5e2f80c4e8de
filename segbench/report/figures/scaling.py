"""mIoU against the number of training images, with the fitted power law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from segbench.report.figures.theme import colour, figure, finite, safe, symbol, whiskers
from segbench.report.numbers.scaling import Scaling
from segbench.report.text.i18n import number, text

_HEIGHT = 340
_STEPS = 40  # of a curve


def scaling(rows: Sequence[Scaling]) -> go.Figure:
    """Points with intervals; dashed, the power law up to twice the images."""
    traces: list[Any] = []
    for row in rows:
        index, law = row.candidate.index, row.law
        if law is not None:
            images = np.geomspace(row.images[0], 2 * row.images[-1], _STEPS)
            fitted = [finite(float(1 - law.error(n))) for n in images]
            traces.append(
                go.Scatter(
                    x=images.round(1).tolist(),
                    y=fitted,
                    mode="lines",
                    line={"color": colour(index), "dash": "dash", "width": 1.5},
                    hoverinfo="skip",
                )
            )
        intervals = [score.interval() for score in row.miou]
        traces.append(
            go.Scatter(
                x=list(row.images),
                y=[finite(each.estimate) for each in intervals],
                name=safe(row.candidate.title),
                mode="markers",
                marker={"symbol": symbol(index), "size": 9, "color": colour(index)},
                error_y=whiskers(intervals, 1.4, 4, colour(index)),
                hovertemplate="%{y:.3f}",
            )
        )
    counts = sorted({n for row in rows for n in row.images} | {2 * row.images[-1] for row in rows})
    x = {
        "title": text("scaling.images"),
        "type": "log",
        "tickvals": counts,
        "ticktext": [number(n, len(str(n))) for n in counts],
    }
    y = {"title": {"text": "mIoU", "standoff": 10}}
    return figure(traces, _HEIGHT, xaxis=x, yaxis=y, hovermode="x", margin={"l": 60, "r": 12, "t": 12, "b": 44})
