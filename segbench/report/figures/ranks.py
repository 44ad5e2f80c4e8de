"""Many architectures in a figure: one row each, in order of rank. Rows in, plotly out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.report.figures.theme import GREY, colour, figure, finite, safe, symbol, whiskers
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.ranking import Ranking
from segbench.report.text.i18n import points_range, score, score_range, signed, text
from segbench.stats import Interval

_ROW, _SMALL_ROW = 28, 21  # heights, in pixels


def behind_best(ranking: Ranking) -> go.Figure:
    """How many points of mIoU each is behind the best, with paired intervals; grey where that is not decided."""
    traces = []
    for y, pair in enumerate(ranking.of_best):
        delta = Interval(*(-v for v in (pair.difference.estimate, pair.difference.high, pair.difference.low)))
        said = f"{signed(delta.estimate)} ({points_range(delta)}) {text('common.points')}"
        tint = colour(pair.second.candidate.index) if pair.decided else GREY
        traces.append(_row(pair.second.candidate, _scaled(delta), y, tint, said))
    names = [pair.second.candidate.title for pair in ranking.of_best]
    made = _listed(traces, names, _ROW, {"title": text("figures.behind"), "nticks": 7})
    made.update_xaxes(zeroline=True, zerolinewidth=1.5, zerolinecolor=GREY)
    return made


def category(rows: Sequence[tuple[Candidate, Interval]], ceiling: float | None) -> go.Figure:
    """One category's IoU per architecture, on the axis 0 … 1; a line where the label ceiling is."""
    traces = [
        _row(candidate, iou, y, colour(candidate.index), f"{score(iou.estimate)} {score_range(iou)}")
        for y, (candidate, iou) in enumerate(rows)
        if finite(iou.estimate) is not None
    ]
    made = _listed(traces, [candidate.title for candidate, _ in rows], _SMALL_ROW, {"range": [0, 1], "nticks": 6})
    if ceiling is not None:
        made.add_shape(type="line", x0=ceiling, x1=ceiling, y0=0, y1=1, yref="paper", line={"color": GREY, "width": 2})
    return made


def _row(candidate: Candidate, value: Interval, y: int, tint: str, said: str) -> Any:
    return go.Scatter(
        x=[value.estimate],
        y=[y],
        mode="markers",
        name=safe(candidate.title),
        marker={"symbol": symbol(candidate.index), "size": 10, "color": tint},
        error_x=whiskers([value], 1.8, 4, tint),
        text=[f"{safe(candidate.title)}: {said}"],
        hovertemplate="%{text}<extra></extra>",
    )


def _listed(traces: list[Any], names: Sequence[str], height: int, x: dict[str, Any]) -> go.Figure:
    y = {
        "tickvals": list(range(len(names))),
        "ticktext": [safe(name) for name in names],
        "tickfont": {"size": 11},
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "ticksuffix": " ",
    }
    margin = {"l": 8, "r": 12, "t": 6, "b": 44 if "title" in x else 26}
    return figure(traces, height * len(names) + margin["b"] + 12, xaxis=x, yaxis=y, margin=margin)


def _scaled(value: Interval) -> Interval:
    """In points."""
    return Interval(*(v * 100 for v in value))
