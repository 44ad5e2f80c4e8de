"""Kept trials scored on the final images: right, once each, and told in the report."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from segbench import promote, search
from segbench.core import paths
from segbench.engine import evaluation
from segbench.report import __main__ as report
from segbench.report.numbers import comparison, tuning
from tests.conftest import PROTOCOL, write_protocol
from tests.test_commands import call, study

# The selection images are the final ones here, so that a trial must score again what it scored in the search.
SAME = PROTOCOL.replace("trials = 2", "trials = 3").replace("val_images = 4", 'val_images = 8\nselect_on = "val"')


@pytest.mark.slow
def test_kept_trials_are_scored_on_the_final_images(
    storage: Path, made_databases: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_protocol(tmp_path / "small", SAME)
    where = ["deeplab", "--protocol", folder, "--data", drawn]
    assert call(search, *where, "--keep-weights") == 0
    weights = sorted((paths.storage() / "trials").rglob("best.safetensors"))
    assert len(weights) == 3
    assert study().final_scores == {}
    assert call(promote, *where) == 0
    found = study()
    assert found.final_scores == pytest.approx({trial.index: trial.value for trial in found.trials}, abs=1e-12)
    (side,) = tuning.tunings(comparison.read(folder, "small"))
    assert side.rescored.n == 3
    # A few steps of training may leave all trials with one score, and then there is no ranking to agree with.
    ranked = len({trial.value for trial in found.trials}) > 1
    assert side.rescored.tau == pytest.approx(1.0 if ranked else math.nan, nan_ok=True)
    assert call(report, "--protocol", folder) == 0
    html = (paths.reports() / "small.html").read_text()
    assert "Do selection and final images rank the trials alike?" in html
    assert ">final images<" in html

    monkeypatch.setattr(evaluation, "evaluate", lambda *arguments: pytest.fail("scored twice"))
    assert call(promote, *where) == 0
    assert study() == found
