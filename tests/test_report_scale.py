"""A report of large searches: what is thinned out is said, what the CSV holds is all, and the page stays small."""

import csv
import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segbench.report import assemble
from segbench.report.figures import theme
from segbench.report.numbers import comparison, searches, tuning
from segbench.report.page import download, render
from segbench.report.page.blocks import Figure, Page, Table
from tests.fabricated import PROTOCOL, epoch, fabricate

pytest_plugins = ["tests.fabricated"]
ROOT = Path(__file__).parent.parent
MEGABYTES = 8


def enlarged(compared: comparison.Comparison, trials: int, epochs: int) -> comparison.Comparison:
    """The same architectures, each searched with so many trials, of which every tenth failed."""
    return replace(compared, candidates=tuple(_enlarged(own, trials, epochs) for own in compared.candidates))


def _enlarged(candidate: comparison.Candidate, trials: int, epochs: int) -> comparison.Candidate:
    generator = np.random.default_rng(candidate.index)
    by_state = {trial.state: trial for trial in reversed(candidate.study.trials) if not trial.baseline}
    first, failed = by_state["complete"], by_state["diverged"]
    baseline = next(trial for trial in candidate.study.trials if trial.baseline)
    made = []
    for index in range(trials):
        params = {**first.params, "lr": float(10 ** generator.uniform(-4, -2))}
        if index % 10 == 3:
            made.append(replace(failed, index=index, params=params))
            continue
        quality = 0.3 + 0.05 * float(np.log10(params["lr"]) + 4) + float(generator.normal(0, 0.01))
        records = tuple(epoch(number, quality * number / epochs) for number in range(1, epochs + 1))
        made.append(replace(first, index=index, params=params, value=quality, epochs=records, seconds=9.0 + index % 7))
    return replace(candidate, study=replace(candidate.study, trials=(*made, baseline)))


def blocks(page: Page) -> list[object]:
    return [block for section in page.sections for block in section.blocks]


def test_many_trials_are_thinned_by_rule(compared: comparison.Comparison) -> None:
    study = enlarged(compared, 200, 3).candidates[0].study
    shown = searches.thinned(study, promoted={150})
    ranked = sorted(study.planned, key=lambda t: (t.value is None, -(t.value or 0)))
    planned = shown.planned
    assert len(planned) in (
        searches.BEST_SHOWN + searches.OTHERS_SHOWN,
        searches.BEST_SHOWN + searches.OTHERS_SHOWN + 1,
    )
    assert {t.index for t in ranked[: searches.BEST_SHOWN]} <= {t.index for t in planned}
    assert {150, ranked[searches.BEST_SHOWN].index, ranked[-1].index} <= {t.index for t in planned}
    places = [
        i for i, trial in enumerate(ranked) if i >= searches.BEST_SHOWN and trial in planned and trial.index != 150
    ]
    assert set(np.diff(places)) <= {6, 7, 12, 13}  # 179 steps in 29; one place may be trial 150's
    assert [t for t in shown.trials if t.baseline] == [t for t in study.trials if t.baseline]
    assert 2 <= sum(t.value is None for t in planned) <= 4  # every tenth failed
    few = compared.candidates[0].study
    assert searches.thinned(few) is few


def test_a_large_search_has_a_small_page_whose_csv_holds_all(compared: comparison.Comparison) -> None:
    page = assemble.page(enlarged(compared, 150, 3))
    figures = {plot.id: plot.figure for block in blocks(page) if isinstance(block, Figure) for plot in block.plots}
    assert len(figures["learning-0"].data) <= 53
    assert len(figures["parallel-0"].data) <= 53
    assert len(figures["history-0"].data[1].x) == 135  # every trial with a value is a point
    table = next(block for block in blocks(page) if isinstance(block, Table) and block.id == "trials-alpha")
    assert len(table.rows) <= 52
    rows = list(csv.reader(io.StringIO(download.content(table))))[1:]
    assert [row[0].split()[0] for row in rows] == [*map(str, range(150)), "baseline"]
    html = render.render(page, "fab")
    assert (
        html.count("has 150 trials. Shown are the best 20") == 4
    )  # of two architectures, by the figures and the table
    assert "15 × diverged" in html


def test_only_contenders_are_asked_which_is_the_best(compared: comparison.Comparison) -> None:
    large = enlarged(compared, 120, 3).candidates[0]
    contenders = comparison.contenders(large.study)
    values = sorted((t.value for t in large.study.trials if t.value is not None and not t.baseline), reverse=True)
    assert [large.study.trials[i].value for i in contenders] == values[: comparison.CONTENDERS]
    kept = dict.fromkeys(contenders, next(iter(compared.candidates[0].trial_runs.values())))
    (tuned,) = tuning.tunings(replace(compared, candidates=(replace(large, trial_runs=kept),)))
    assert tuned.chance == pytest.approx(1 / comparison.CONTENDERS)
    (tuned,) = tuning.tunings(replace(compared, candidates=(replace(large, trial_runs={}),)))
    assert np.isnan(tuned.chance)


@pytest.mark.parametrize(("count", "step"), [(0, 1), (12, 1), (13, 2), (50, 5), (61, 10), (1000, 100), (12_000, 1000)])
def test_ticks_are_whole_and_few(count: int, step: int) -> None:
    assert theme.whole_step(count, 12) == step


@pytest.mark.slow
def test_a_thousand_trials_each(made_databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command, on databases that the search itself has filled."""
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    fabricate(tmp_path, made_databases, PROTOCOL.replace("trials = 12, epochs = 3", "trials = 1000, epochs = 10"))
    for command, wanted in ((("report", "--protocol", str(tmp_path / "fab")), 15), (("study", "show", "fab-alpha"), 2)):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", f"segbench.{command[0]}", *command[1:]], check=True, cwd=ROOT)
        print(f"{command[0]} took {time.monotonic() - started:.1f} s, wanted {wanted} s")  # no timing decides a test
    assert (tmp_path / "reports/fab.html").stat().st_size < MEGABYTES * 1e6
