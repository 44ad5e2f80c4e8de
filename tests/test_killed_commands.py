"""Searches and promotions that are killed, stopped and typed again, as a user would."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from safetensors.torch import load_file

from segbench import promote, search
from segbench.architectures.parts.weights import digest
from segbench.core import metrics, paths
from segbench.core.labels import DEFAULT
from segbench.core.records import EpochRecord
from segbench.core.study_record import TrialRecord
from segbench.engine import checkpoint, resume, training
from segbench.ledger import database, models, runs, studies, tracking
from segbench.runtime import interrupts, terminal
from tests.conftest import PROTOCOL, write_protocol
from tests.test_resume import _every_epoch_is_kept, outcomes  # noqa: F401  (the first is a fixture)

LONGER = PROTOCOL.replace("trials = 2\nepochs = 2", "trials = 1\nepochs = 4").replace("epochs = 2", "epochs = 4")


@pytest.fixture
def where(tmp_path: Path, drawn: Path) -> list[str]:
    """The arguments of a search of one trial of four epochs, and of its promotion in as many."""
    return ["deeplab", "--protocol", str(write_protocol(tmp_path / "small", LONGER)), "--data", str(drawn)]


def call(module: Any, where: list[str]) -> int:
    return terminal.run(lambda: int(module.main(where)))


def found() -> tuple[TrialRecord, ...]:
    return studies.record(database.connect(paths.studies_database()), "small-deeplab").trials


def steps_of_runs(kind: str) -> list[list[int]]:
    """The logged steps of each MLflow run of a kind."""
    client = tracking.client()
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")
    assert {run.info.status for run in every} == {"FINISHED"}
    return [[metric.step for metric in client.get_metric_history(run.info.run_id, "miou")] for run in every]


KILL = """
import os, signal, sys
from segbench import {module}
from segbench.engine import resume
from segbench.ledger import runs
resume.SHARE = float("inf")
log = runs.log_epoch
def log_and_die(client, run, record, classes):
    log(client, run, record, classes)
    if record.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
runs.log_epoch = log_and_die
{module}.main(sys.argv[1:])
"""


def kill(module: str, where: list[str]) -> None:
    """Runs a command in a process of its own, which the kernel kills after the second epoch."""
    result = subprocess.run(
        [sys.executable, "-c", KILL.format(module=module), *where], capture_output=True, text=True, check=False
    )
    assert result.returncode == -signal.SIGKILL, result.stderr


def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that fills with the epochs that are really trained."""
    trained: list[int] = []
    one = training._epoch

    def noted(state: training.State, *arguments: Any) -> EpochRecord:
        trained.append(state.epoch + 1)
        return one(state, *arguments)

    monkeypatch.setattr(training, "_epoch", noted)
    return trained


@pytest.mark.slow
def test_killed_commands_end_as_if_never_killed(
    storage: Path, where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(shutil.copytree(storage, tmp_path / "unharmed")))
        assert call(search, where) == call(promote, where) == 0
        (whole,) = found()
        ((whole_folder, whole_card),) = models.promoted("small")
    kill("search", where)
    trained = trained_epochs(monkeypatch)
    assert call(search, where) == 0
    (trial,) = found()
    assert trained == [3, 4]
    assert (trial.state, trial.value, trial.params) == ("complete", whole.value, whole.params)
    assert outcomes(trial.epochs) == outcomes(whole.epochs)
    assert runs.epochs(tracking.client(), trial.run_id, DEFAULT.names) == trial.epochs
    assert steps_of_runs("trial") == [[1, 2, 3, 4]]
    assert 0 < trial.startup_seconds < trial.seconds > sum(record.seconds.total for record in trial.epochs)
    left = paths.trial_folder("small-deeplab", 0)
    assert sorted(path.name for path in left.iterdir()) == ["best.safetensors", "confusions.npz"]
    with np.load(left / "confusions.npz") as kept:
        assert metrics.scores(kept["confusions"].sum(0), DEFAULT).miou == trial.value
        assert kept["confusions"].shape == (len(kept["names"]), 35, 8) == (4, 35, 8)

    kill("promote", where)
    trained.clear()
    assert call(promote, where) == 0
    assert trained == [3, 4]
    ((folder, card),) = models.promoted("small")
    same = [
        "best",
        "last",
        "speed",
        "study_id",
        "attempt",
        "run_id",
        "seconds",
        "created",
    ]  # the first two are compared below
    assert dataclasses.replace(card, **{n: getattr(whole_card, n) for n in same}) == whole_card
    assert outcomes([card.best, card.last]) == outcomes([whole_card.best, whole_card.last])
    for name in ("best", "last"):
        ours, theirs = (load_file(where / f"{name}.safetensors") for where in (folder, whole_folder))
        assert digest(ours) == digest(theirs)
    for path in whole_folder.rglob("*.png"):
        assert path.read_bytes() == (folder / path.relative_to(whole_folder)).read_bytes()
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole_folder.iterdir()}
    assert steps_of_runs("promotion") == [[1, 2, 3, 4]]
    assert not folder.with_suffix(".partial").exists()


MOMENTS = {  # what is cut off, whether before or after it is done, and the epochs that are trained then
    "before the checkpoint": (checkpoint, "write", False, [2, 3, 4]),
    "before the trial's report": (studies, "report", False, [3, 4]),
    "before MLflow": (runs, "log_epoch", False, [3, 4]),
    "after MLflow": (runs, "log_epoch", True, [3, 4]),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_moment_of_the_bookkeeping_may_be_the_last(
    moment: str, storage: Path, where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, after, expected = MOMENTS[moment]
    calls = 0
    one = getattr(module, name)

    def cut_off(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls != 2 or after:
            one(*arguments)
        if calls == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, name, cut_off)
    assert call(search, where) == 130
    trained = trained_epochs(monkeypatch)
    assert call(search, where) == 0
    assert trained == expected
    (trial,) = found()
    assert [record.epoch for record in trial.epochs] == [1, 2, 3, 4]
    assert steps_of_runs("trial") == [[1, 2, 3, 4]]


def test_a_signal_lets_the_epoch_end(
    storage: Path, where: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resume, "SHARE", 1e-9)  # only a stop is worth a checkpoint
    log = runs.log_epoch
    trained = trained_epochs(monkeypatch)
    for module, kind, sent in ((search, "trial", signal.SIGTERM), (promote, "promotion", signal.SIGINT)):

        def log_and_signal(
            client: Any, run: str, record: EpochRecord, classes: Sequence[str], sent: signal.Signals = sent
        ) -> None:
            log(client, run, record, classes)
            if record.epoch == 2:
                os.kill(os.getpid(), sent)

        trained.clear()
        before = signal.getsignal(sent)
        with monkeypatch.context() as patch:
            patch.setattr(runs, "log_epoch", log_and_signal)
            assert call(module, where) == 128 + sent
        assert signal.getsignal(sent) is before
        said = capfd.readouterr().err
        assert "stopping after this epoch; press Ctrl-C again to stop at once" in said
        assert "stopped; rerun the same command to resume" in said
        assert call(module, where) == 0
        assert trained == [1, 2, 3, 4]
        assert steps_of_runs(kind) == [[1, 2, 3, 4]]


def test_a_second_signal_stops_at_once() -> None:
    with interrupts.graceful():
        assert not interrupts.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested()
        with pytest.raises(KeyboardInterrupt) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.args == (signal.SIGTERM,)
    assert not interrupts.requested()


def test_only_the_best_trial_keeps_its_weights(storage: Path, drawn: Path, tmp_path: Path) -> None:
    asked = write_protocol(tmp_path / "small", PROTOCOL.replace("trials = 2", "trials = 3"))
    assert call(search, ["deeplab", "--protocol", str(asked), "--data", str(drawn)]) == 0
    every = found()
    best = max(every, key=lambda trial: trial.value or 0)
    for trial in every:
        folder = paths.trial_folder("small-deeplab", trial.index)
        names = ["best.safetensors", "confusions.npz"] if trial is best else ["confusions.npz"]
        assert sorted(path.name for path in folder.iterdir()) == names
    about = checkpoint.metadata(paths.trial_folder("small-deeplab", best.index) / "best.safetensors")
    assert float(about["value"]) == best.value


def test_two_promotions_of_the_same_are_one_too_many(
    storage: Path, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(search, where) == 0
    lock = paths.model_folder("small-deeplab", 0).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    capsys.readouterr()
    with FileLock(lock):
        assert call(promote, where) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'small-deeplab', seed 0, is being promoted by another process" in line
