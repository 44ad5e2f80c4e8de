"""What quality costs: rows in, plotly out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.report.figures.theme import GREY, PART_COLOURS, colour, figure, safe, symbol, whiskers
from segbench.report.numbers import tables
from segbench.report.numbers.tables import PARTS, Summary
from segbench.report.text.i18n import measure, number, score, score_range, text

IMAGE_PARTS = ("preprocess", "inference_forward", "postprocess")  # of an inference
COSTS = ("latency", "memory", "parameters", "gmac", "hours")  # of tables.costs
_BAR = 62  # height, in pixels
_LOGARITHMIC = 10  # from so large a ratio of the largest cost to the smallest on
_AROUND = {"middle right": (0.035, 0), "middle left": (-0.035, 0), "top right": (0.03, 0.05), "top left": (-0.03, 0.05)}
_AROUND |= {"bottom right": (0.03, -0.05), "bottom left": (-0.03, -0.05)}  # from a point, in shares of the figure
_CLEAR = 0.045  # so far from everything else, a number can be read


def frontier(rows: Sequence[Summary], cost: str, height: int) -> go.Figure:
    """mIoU against one cost, for the rows in order of rank whose cost is known. What nothing else beats in both is in
    colour, and joined by a line; the rest is grey. Numbers are ranks. All costs' figures have the same mIoU axis."""
    known = [row for row in rows if math.isfinite(tables.costs(row)[cost])]
    best = tables.front(known, cost)
    values = [tables.costs(row)[cost] for row in known]
    logarithmic = min(values) > 0 and max(values) / min(values) > _LOGARITHMIC
    x_range = _log_range(values) if logarithmic else [0, max(values) * 1.15 or 1]
    y_range = _miou_range(rows)
    spots = [
        (_share(math.log10(value) if logarithmic else value, x_range), _share(row.value.estimate, y_range))
        for row, value in zip(known, values, strict=True)
    ]
    traces: list[Any] = [_front_line(best, cost)] if len(best) > 1 else []
    for row, place in zip(known, _label_places(spots), strict=True):
        traces.append(_candidate(row, cost, str(rows.index(row) + 1), place, row in best))
    x: dict[str, Any] = {"title": text(f"figures.{cost}"), "range": x_range, "type": "log" if logarithmic else "linear"}
    x |= {"dtick": "D2" if x_range[1] - x_range[0] < 2 else 1} if logarithmic else {"nticks": 6}
    y = {"title": measure(), "range": y_range, "nticks": 6}
    return figure(traces, height, xaxis=x, yaxis=y, hovermode="closest", margin={"l": 52, "r": 12, "t": 12, "b": 44})


def _miou_range(rows: Sequence[Summary]) -> list[float]:
    ends = [v for row in rows for v in (row.value.estimate, row.value.low, row.value.high) if v == v]
    pad = max((max(ends) - min(ends)) * 0.15, 0.01)
    return [min(ends) - pad, max(ends) + pad]


def _log_range(values: Sequence[float]) -> list[float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return [low - 0.1 * (high - low), high + 0.1 * (high - low)]


def _share(value: float, ends: Sequence[float]) -> float:
    return (value - ends[0]) / (ends[1] - ends[0])


def _label_places(spots: Sequence[tuple[float, float]]) -> list[str]:
    """Where each point's number stands, so that it covers neither a point nor another number, as far as that goes.
    spots: each point's place in the figure, 0..1 across and up."""
    taken = list(spots)
    places = []
    for x, y in spots:
        centres = {name: (x + dx, y + dy) for name, (dx, dy) in _AROUND.items()}
        name = max(centres, key=lambda name: min(_apart(centres[name], other) for other in taken))
        if min(_apart(centres["middle right"], other) for other in taken) >= _CLEAR:
            name = "middle right"
        places.append(name)
        taken.append(centres[name])
    return places


def _apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    return math.hypot(a[0] - b[0], a[1] - b[1])


def _front_line(best: Sequence[Summary], cost: str) -> Any:
    steps = sorted((tables.costs(row)[cost], row.value.estimate) for row in best)
    step = {"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv"}
    return go.Scatter(x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line=step, hoverinfo="skip")


def _candidate(row: Summary, cost: str, rank: str, place: str, best: bool) -> Any:
    spent = tables.costs(row)[cost]
    tint = colour(row.candidate.index) if best else GREY
    paid = f"{text(f'figures.{cost}')}: {number(spent)}"
    lines = (row.candidate.title, f"{measure()} {score(row.value.estimate)} {score_range(row.value)}", paid)
    return go.Scatter(
        x=[spent],
        y=[row.value.estimate],
        mode="markers+text",
        name=safe(row.candidate.title),
        text=[f"<b>{rank}</b>" if best else rank],
        textposition=place,
        marker={"symbol": symbol(row.candidate.index), "size": 12, "color": tint, "opacity": 1 if best else 0.65},
        error_y=whiskers([row.value], 1.5 if best else 1, 5 if best else 3, tint),
        hovertext=["<br>".join(map(safe, lines))],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def bars(rows: Sequence[Summary], value: Callable[[Summary], float], written: Callable[[float], str]) -> go.Figure:
    """One horizontal bar per architecture, with its number."""
    values = [value(row) for row in rows]
    trace = go.Bar(
        x=values,
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": [colour(row.candidate.index) for row in rows]},
        text=[written(v) for v in values],
        textposition="outside",
        cliponaxis=False,
        hovertext=[safe(row.candidate.title) for row in rows],
        hovertemplate="%{hovertext}: %{text}<extra></extra>",
    )
    x = {"range": [0, max(values) * 1.18 or 1], "visible": False}
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
            hovertext=[safe(row.candidate.title) for row in rows],
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


def _named(made: go.Figure, rows: Sequence[Summary]) -> go.Figure:
    """Writes each architecture's name above its bar: beside it, a long one would leave a phone no room for bars."""
    for i, row in enumerate(rows):
        where = {"x": 0, "xref": "paper", "xanchor": "left", "y": i, "yshift": 24}
        made.add_annotation(text=safe(row.candidate.title), showarrow=False, **where)
    return made.update_yaxes(visible=False, range=[len(rows) - 0.5, -0.62])
