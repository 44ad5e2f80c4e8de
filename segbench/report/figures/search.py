"""The searches' figures: rows in, plotly out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.ledger import studies
from segbench.report.figures.theme import GREY, colour, figure, finite, line, safe, symbol, whole_step
from segbench.report.numbers import searches
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.tuning import Budgets, Tuning
from segbench.report.text.i18n import duration, measure, percent, scalar, score, text

HISTORY, PANEL, PARALLEL = 280, 180, 340
_TICKS_OF_PANEL = 6
_MANY = 60  # marks in a row; more would cover one another
_THIN = {"mode": "lines", "line": {"color": GREY, "width": 1}, "opacity": 0.45, "hoverinfo": "skip"}
_MARGIN = {"l": 52, "r": 12, "t": 12, "b": 44}


def history(study: StudyRecord, index: int, span: tuple[float, float]) -> go.Figure:
    """A trial's value by trial, and the best so far, on the mIoU axis `span`."""
    steps = searches.history(study)
    done = [s for s in steps if s.trial.value is not None]
    known = [s for s in steps if s.best is not None]
    traces = [
        go.Scatter(
            x=[s.trial.index for s in known],
            y=[s.best for s in known],
            mode="lines",
            line={"shape": "hv", "color": colour(index), "width": 2},
            name=text("figures.best_so_far"),
            hovertemplate="%{y:.4f}",
        ),
        go.Scatter(
            x=[s.trial.index for s in done],
            y=[s.trial.value for s in done],
            mode="markers",
            marker={"symbol": symbol(index), "size": 10 if len(done) <= _MANY else 5, "color": colour(index)},
            name=text("figures.trial"),
            text=[described(s.trial) for s in done],
            hovertemplate="%{y:.4f}<br>%{text}",
        ),
    ]
    base = next((t for t in study.trials if t.baseline and t.value is not None), None)
    if base and steps:
        ends = [steps[0].trial.index - 0.4, steps[-1].trial.index + 0.4]
        traces.append(_dashed(ends, [base.value, base.value], text("figures.baseline")))
    x = {"title": text("figures.trial"), "dtick": whole_step(len(steps), 12), "tick0": 0}
    return figure(
        traces, HISTORY, xaxis=x, yaxis={"title": measure(), "range": span}, hovermode="closest", margin=_MARGIN
    )


def learning(study: StudyRecord, index: int, span: tuple[float, float]) -> go.Figure:
    """mIoU by epoch of every trial; the best one in colour, on the mIoU axis `span`."""
    best = studies.best(study)
    shown = [t for t in study.trials if t.epochs]
    traces = [_curve(t, GREY, 1.4, 0.55) for t in shown if t != best and not t.baseline]
    traces += [
        _dashed([e.epoch for e in t.epochs], [e.value for e in t.epochs], _title(t)) for t in shown if t.baseline
    ]
    if best:
        traces.append(_curve(best, colour(index), 3, 1.0))
    last = max((e.epoch for t in shown for e in t.epochs), default=1)
    x = {"title": text("figures.epoch"), "tick0": 0, "dtick": whole_step(last, 12)}
    return figure(
        traces, HISTORY, xaxis=x, yaxis={"title": measure(), "range": span}, hovermode="closest", margin=_MARGIN
    )


def span(studies: Sequence[StudyRecord], epochs: bool = True) -> tuple[float, float]:
    """An mIoU axis that holds the value, and with `epochs` every epoch, of every trial of these studies."""
    scores = [e.value for study in studies for t in study.trials for e in t.epochs]
    values = [v for v in scores if epochs and math.isfinite(v)]
    values += [t.value for study in studies for t in study.trials if t.value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = max((high - low) * 0.07, 0.005)
    return max(low - pad, 0.0), high + pad


def expected_by_trials(tuned: Sequence[Tuning], axis: tuple[float, float], only: Candidate | None = None) -> go.Figure:
    """The expected best after 1, 2, … trials of each search; `only`: the others are grey behind this one's."""
    traces = [
        go.Scatter(
            x=list(range(1, len(tuning.by_trials) + 1)),
            y=list(tuning.by_trials),
            **(_THIN if only and only != tuning.candidate else _by_trial(tuning)),
        )
        for tuning in tuned
    ]
    step = whole_step(max(len(tuning.by_trials) for tuning in tuned), _TICKS_OF_PANEL if only else 12)
    x = {"title": text("figures.trials"), "tick0": 0, "dtick": step}
    return _expected(traces, x, axis, only)


def expected_by_time(
    tuned: Sequence[Tuning], budgets: Budgets, axis: tuple[float, float], only: Candidate | None = None
) -> go.Figure:
    """The expected best within each budget of time; a dashed line where the leader changes. `only`: the others are grey
    behind this one's."""
    longest = budgets.seconds[-1]
    unit, name = (3600, "search_hours") if longest >= 7200 else (60, "minutes")
    if longest < 120:
        unit, name = 1, "seconds_of_search"
    traces: list[Any] = [
        go.Scatter(
            x=(budgets.seconds / unit).round(5).tolist(),
            y=[finite(v) for v in curve.round(6).tolist()],
            **(_THIN if only and only != tuning.candidate else _steps(tuning.candidate)),
        )
        for tuning, curve in zip(tuned, budgets.expected, strict=True)
    ]
    if budgets.crossover is not None:
        at = budgets.crossover / unit
        traces.append(_dashed([at, at], list(axis), duration(budgets.crossover)))
    x = {"title": text(f"figures.{name}"), "rangemode": "tozero"}
    return figure(
        traces,
        PANEL if only else HISTORY,
        xaxis=x,
        yaxis={"title": measure(), "range": axis},
        hovermode="x",
        margin=_MARGIN,
    )


def _expected(traces: list[Any], x: dict[str, Any], axis: tuple[float, float], only: Candidate | None) -> go.Figure:
    """`only`: as one of many, it is lower, and the heading above all of them names the axis."""
    y = {"range": axis, "nticks": 5} if only else {"title": measure(), "range": axis}
    margin = {**_MARGIN, "l": 40} if only else _MARGIN
    return figure(traces, PANEL if only else HISTORY, xaxis=x, yaxis=y, hovermode="x", margin=margin)


def _by_trial(tuning: Tuning) -> dict[str, Any]:
    index = tuning.candidate.index
    return {
        "mode": "lines+markers" if len(tuning.by_trials) <= _MANY else "lines",
        "line": line(index),
        "marker": {"symbol": symbol(index), "size": 7, "color": colour(index)},
        "name": safe(tuning.candidate.title),
        "hovertemplate": "%{y:.3f}",
    }


def _steps(candidate: Candidate) -> dict[str, Any]:
    style = {**line(candidate.index), "shape": "hv"}
    return {"mode": "lines", "line": style, "name": safe(candidate.title), "hovertemplate": "%{y:.3f}"}


def parallel(study: StudyRecord, index: int) -> go.Figure:
    """Each trial a line across the searched hyperparameters to its mIoU; the better, the stronger its colour."""
    shown = searches.valued(study)
    axes = searches.axes(study, shown)
    values = [t.value or 0.0 for t in shown]
    low, high = min(values), max(values)
    last = searches.Axis(measure(), score(low), score(high), (), tuple(_between(v, low, high) for v in values))
    best = studies.best(study)
    traces = []
    for place, trial in enumerate(shown):
        rank = (place + 1) / len(shown)
        strong = {"color": colour(index) if rank > 0.5 else GREY, "width": 3 if trial == best else 1.6}
        points = [axis.positions[place] for axis in (*axes, last)]
        traces.append(
            go.Scatter(
                x=list(range(len(points))),
                y=points,
                mode="lines+markers",
                line={"color": GREY, "dash": "dash", "width": 1.6} if trial.baseline else strong,
                marker={"size": 5},
                opacity=1.0 if trial.baseline else 0.25 + 0.75 * rank,
                name=safe(_title(trial)),
                text=[described(trial)] * len(points),
                hovertemplate="%{text}<extra></extra>",
            )
        )
    made = figure(traces, PARALLEL, hovermode="closest", margin={"l": 36, "r": 36, "t": 34, "b": 66})
    _rule(made, [*axes, last])
    return made


def importance(shares: Sequence[tuple[str, float]], index: int) -> go.Figure:
    """One bar per hyperparameter."""
    trace = go.Bar(
        x=[share for _, share in shares],
        y=[safe(name) for name, _ in shares],
        orientation="h",
        marker={"color": colour(index)},
        text=[percent(share) for _, share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    y = {"autorange": "reversed", "type": "category", "ticksuffix": " "}
    x = {"range": [0, 1.12], "tickformat": ".0%", "nticks": 5}
    height = 44 * len(shares) + 60
    return figure([trace], height, xaxis=x, yaxis=y, bargap=0.4, margin={"l": 12, "r": 24, "t": 8, "b": 36})


def described(trial: TrialRecord) -> str:
    """A trial's hyperparameters, one a line, for a tooltip."""
    lines = [f"{_title(trial)}: {measure()} {score(trial.value)}" if trial.value is not None else _title(trial)]
    return "<br>".join(safe(line_) for line_ in [*lines, *(f"{k} {scalar(v)}" for k, v in trial.params.items())])


def _title(trial: TrialRecord) -> str:
    return text("figures.baseline") if trial.baseline else text("figures.trial_number", index=trial.index)


def _curve(trial: TrialRecord, tint: str, width: float, opacity: float) -> Any:
    return go.Scatter(
        x=[e.epoch for e in trial.epochs],
        y=[e.value for e in trial.epochs],
        mode="lines+markers",
        line={"color": tint, "width": width, "dash": "dot" if trial.state == TrialState.PRUNED else "solid"},
        marker={"size": 5},
        opacity=opacity,
        name=safe(_title(trial)),
        text=[described(trial)] * len(trial.epochs),
        hovertemplate="%{y:.4f}<br>%{text}<extra></extra>",
    )


def _dashed(x: list[Any], y: list[Any], name: str) -> Any:
    style = {"color": GREY, "dash": "dash", "width": 1.5}
    return go.Scatter(x=x, y=y, mode="lines", line=style, name=safe(name), hovertemplate="%{y:.4f}")


def _between(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _rule(made: go.Figure, axes: Sequence[searches.Axis]) -> None:
    """Draws the vertical axes of parallel coordinates, their names below, their ends and choices beside."""
    last = len(axes) - 1
    for x, axis in enumerate(axes):
        anchor = "left" if x == 0 else "right" if x == last else "center"
        made.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line={"color": GREY, "width": 1}, layer="below")
        _write(made, axis.high, x, 1.0, anchor, yanchor="bottom", yshift=3)
        _write(made, axis.low, x, 0.0, anchor, yanchor="top", yshift=-3)
        below = -22 if x % 2 == 0 else -38  # in two rows, or long names would run into each other
        _write(made, f"<b>{safe(axis.name)}</b>", x, 0.0, anchor, yanchor="top", yshift=below, font={"size": 12})
        for y, label in axis.ticks:
            _write(made, safe(label), x, y, "left", xshift=6, name="over-lines")
    made.update_xaxes(visible=False, range=[-0.08, last + 0.08])
    made.update_yaxes(visible=False, range=[-0.02, 1.06])


def _write(made: go.Figure, label: str, x: int, y: float, anchor: str, **style: Any) -> None:
    made.add_annotation(
        **{"text": label, "x": x, "y": y, "xanchor": anchor, "showarrow": False, "font": {"size": 11}, **style}
    )
