"""The report's figures: what their traces hold is what the numbers say, and a title in them stays text."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segbench.core.labels import DEFAULT
from segbench.ledger import studies
from segbench.report import assemble
from segbench.report.figures import cost, curves, quality, search
from segbench.report.numbers import comparison, pixels, searches, tables, tuning
from segbench.report.page.blocks import Figure

pytest_plugins = ["tests.fabricated"]
SPAN = (0.0, 1.0)


def series(figure: Any) -> list[tuple[list[Any], list[Any]]]:
    """The x and y of each trace."""
    return [(list(trace.x), list(trace.y)) for trace in figure.data]


@pytest.fixture(scope="session")
def rows(compared: comparison.Comparison) -> list[tables.Summary]:
    return tables.summaries(compared)


def test_history_shows_each_value_and_the_best_so_far(compared: comparison.Comparison) -> None:
    study = compared.candidates[0].study
    best, trials, baseline = series(search.history(study, 0, SPAN))
    values = {t.index: t.value for t in study.trials if t.value is not None and not t.baseline}
    assert dict(zip(*trials, strict=True)) == values
    assert best[1] == [max(v for i, v in values.items() if i <= index) for index in best[0]]
    assert set(baseline[1]) == {study.trials[0].value if study.trials[0].baseline else study.trials[-1].value}


def test_learning_curves_are_the_epochs_of_every_trial(compared: comparison.Comparison) -> None:
    study = compared.candidates[0].study
    drawn = series(search.learning(study, 0, SPAN))
    epochs = [([e.epoch for e in t.epochs], [e.miou for e in t.epochs]) for t in study.trials if t.epochs]
    assert sorted(map(str, drawn)) == sorted(map(str, epochs))
    best = studies.best(study)
    assert drawn[-1][1] == [e.miou for e in best.epochs]  # on top of the others


def test_expected_best_is_drawn_as_computed(compared: comparison.Comparison) -> None:
    tuned = tuning.tunings(compared)
    budgets = tuning.budgets(tuned)
    for trace, own in zip(search.expected_by_trials(tuned, SPAN).data, tuned, strict=True):
        assert list(trace.y) == list(own.by_trials)
    by_time = search.expected_by_time(tuned, budgets, SPAN)
    for trace, curve in zip(by_time.data, budgets.expected, strict=False):
        known = [v for v in trace.y if v is not None]
        assert known == pytest.approx(curve[np.isfinite(curve)], abs=1e-5)


def test_parallel_lines_end_at_the_miou(compared: comparison.Comparison) -> None:
    study = compared.candidates[0].study
    shown = searches.valued(study)
    low, high = shown[0].value, shown[-1].value
    for trace, trial in zip(search.parallel(study, 0).data, shown, strict=True):
        assert trace.y[-1] == pytest.approx((trial.value - low) / (high - low))
        assert len(trace.x) == len(searches.searched(study)) + 1


def test_importance_bars_are_the_shares(compared: comparison.Comparison) -> None:
    shares = searches.importance(compared.candidates[0]).shares
    (trace,) = search.importance(shares, 0).data
    assert list(zip(trace.y, trace.x, strict=True)) == list(shares)


def test_forest_is_the_paired_differences_in_points(rows: list[tables.Summary]) -> None:
    (pair,) = tables.pairs(rows)
    traces = quality.forest(pair, 50.0).data
    wanted = [pair.miou, pair.miou_official, pair.pixel_accuracy, *(d for d in pair.iou if d.estimate == d.estimate)]
    for trace, delta in zip(traces, wanted, strict=True):
        assert trace.x[0] == pytest.approx(delta.estimate * 100)
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(delta.high * 100)
        assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(delta.low * 100)


def test_class_bars_confusions_and_borders_are_the_numbers(compared: comparison.Comparison) -> None:
    candidate = compared.candidates[0]
    classes = tables.classes(candidate)
    (bars,) = quality.class_bars([(candidate, classes)]).data
    known = {row.category: row.iou for row in classes if row.iou.estimate == row.iou.estimate}
    assert {x: y for x, y in zip(bars.x, bars.y, strict=True) if y is not None} == pytest.approx(
        {category: iou.estimate for category, iou in known.items()}
    )
    shares = tables.confusion(candidate)
    (heat,) = quality.confusion(shares, DEFAULT.names).data
    assert [list(row) for row in heat.z] == [[None if v != v else v for v in row] for row in shares.tolist()]
    assert list(heat.y) == list(DEFAULT.names)
    counts = np.array([[1, 4], [2, 8], [0, 0], [3, 3], [0, 1], [1, 2], [5, 10]], np.int64)
    (borders,) = quality.borders(pixels.Borders({candidate.name: counts}, 1), [candidate]).data
    assert list(borders.y) == [0.25, 0.25, None, 1.0, 0.0, 0.5, 0.5]


def test_training_curves_are_the_epochs(compared: comparison.Comparison) -> None:
    candidate = compared.candidates[0]
    (miou, majority) = series(curves.curves([candidate], lambda epoch: epoch.miou, [0.1]))
    assert miou == ([1, 2, 3, 4], [epoch.miou for epoch in candidate.models[0].epochs])
    assert majority == ([1, 4], [0.1, 0.1])


def test_costs_are_the_measured_ones(rows: list[tables.Summary]) -> None:
    for measure in cost.COSTS:
        points = [trace for trace in cost.frontier(rows, measure, 280).data if trace.mode == "markers+text"]
        assert [(t.x[0], t.y[0]) for t in points] == [(tables.costs(r)[measure], r.miou.estimate) for r in rows]
    (speeds,) = cost.bars(rows, lambda row: row.inference_images_per_second, str).data
    assert list(speeds.x) == [row.inference_images_per_second for row in rows]
    for i, trace in enumerate(cost.epoch_parts(rows).data):
        assert list(trace.x) == [row.parts_of_epoch[i] for row in rows]
    assert sum(trace.x[0] for trace in cost.epoch_parts(rows).data) == pytest.approx(rows[0].seconds_per_epoch)
    for i, trace in enumerate(cost.image_parts(rows).data):
        assert list(trace.x) == [row.milliseconds_per_image[i] for row in rows]


def test_no_figure_takes_a_title_for_markup(compared: comparison.Comparison) -> None:
    """Plotly reads tags in its texts; of ours it may see <b>, <br> and <extra>."""
    study = compared.candidates[0].study
    baseline = next(trial for trial in study.trials if trial.baseline)
    odd = replace(baseline, params={**baseline.params, "optimizer": "<u>adam</u>"})
    hostile = replace(study, trials=(*study.planned, odd))
    candidates = (replace(compared.candidates[0], study=hostile), *compared.candidates[1:])
    page = assemble.page(replace(compared, candidates=candidates))
    blocks = [block for section in page.sections for block in (*page.front, *section.blocks)]
    figures = [plot.figure.to_json() for block in blocks if isinstance(block, Figure) for plot in block.plots]
    assert len(figures) >= 25
    texts = [text for figure in figures for text in strings(json.loads(figure))]
    assert any("&lt;i&gt;net&lt;/i&gt;" in text for text in texts)
    assert any("&lt;u&gt;adam" in text for text in texts)
    assert [text for text in texts if "<i>" in text or "<u>" in text or "<script>" in text] == []


def strings(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [text for value in inner for text in strings(value)]
