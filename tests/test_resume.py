"""What a killed training loses: nothing but the epoch under way."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from segbench import (
    architectures,
    checkpoint,
    compute,
    database,
    metrics,
    models,
    objective,
    places,
    promote,
    resume,
    runs,
    search,
    speed,
    stopping,
    terminal,
    tracking,
    training,
    trials,
)
from segbench import protocol as protocols
from segbench.architectures.weights import digest
from segbench.data import packed
from segbench.data.batches import Batches
from segbench.records import EpochRecord, Hyperparameters, TrialRecord
from tests.conftest import PROTOCOL, SIZE, write_protocol

CPU = compute.choose("cpu")
EPOCHS = 3
LONGER = PROTOCOL.replace("trials = 2\nepochs = 2", "trials = 1\nepochs = 4").replace("epochs = 2", "epochs = 4")


@pytest.fixture(autouse=True)
def _every_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SHARE", float("inf"))
    monkeypatch.setattr(speed, "_SECONDS_PER_PART", 0.01)  # no test here asks how fast a model is


@pytest.fixture(scope="module")
def images(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Batches, Batches]:
    data = packed.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))
    return Batches(data.train, np.arange(8), 4, CPU.device), Batches(data.val, np.arange(4), 4, CPU.device)


def begin(name: str, optimizer: str) -> training.State:
    model, _ = architectures.create(name, 8, "random", {"size": "tiny"}, 0)
    return training.begin(model, Hyperparameters(3e-3, 1e-4, optimizer), CPU)


def run(
    folder: Path, images: tuple[Batches, Batches], name: str, optimizer: str, until: int = EPOCHS, identity: str = "a"
) -> tuple[training.State, resume.Kept, list[EpochRecord]]:
    """Trains in `folder`, from what is kept there, and leaves after `until` epochs."""
    state = begin(name, optimizer)
    kept = resume.Kept(folder, identity)
    kept.restore(state)
    return state, kept, list(kept.epochs(state, training.fit(state, *images, epochs=until, seed=0)))


def outcomes(records: list[EpochRecord] | tuple[EpochRecord, ...]) -> list[EpochRecord]:
    return [record.without_timings() for record in records]


class Whole:
    """One training without interruption, for each architecture and optimizer."""

    def __init__(self, folder: Path, images: tuple[Batches, Batches]) -> None:
        self.folder, self.images = folder, images
        self.known: dict[tuple[str, str], Any] = {}

    def __call__(self, name: str, optimizer: str) -> tuple[training.State, resume.Kept, list[EpochRecord]]:
        key = (name, optimizer)
        if key not in self.known:
            self.known[key] = run(self.folder / "-".join(key), self.images, *key)
        found: tuple[training.State, resume.Kept, list[EpochRecord]] = self.known[key]
        return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, images: tuple[Batches, Batches]) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), images)


def assert_same(one: training.State, other: training.State) -> None:
    a, b = one.tensors(), other.tensors()
    assert a.keys() == b.keys()
    assert any(name.startswith("optimizer.") for name in a)
    for name in a:
        assert torch.equal(a[name], b[name]), name
        assert a[name].stride() == b[name].stride(), name


CASES = [("deeplab", "adam"), ("deeplab", "adamw"), ("deeplab", "sgd"), ("mask2former", "adamw")]


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_interrupted_after_any_epoch_equals_uninterrupted(
    name: str, optimizer: str, tmp_path: Path, images: tuple[Batches, Batches], whole: Whole
) -> None:
    for until in range(1, EPOCHS) if name == "deeplab" else (2,):
        run(tmp_path / str(until), images, name, optimizer, until)
        torch.manual_seed(until)  # nothing of the global generators may matter
        state, kept, records = run(tmp_path / str(until), images, name, optimizer)
        expected_state, expected, expected_records = whole(name, optimizer)
        assert outcomes(records) == outcomes(expected_records)
        assert_same(state, expected_state)
        assert kept.best.record.without_timings() == expected.best.record.without_timings()
        np.testing.assert_array_equal(kept.best.confusions, expected.best.confusions)
        for key, tensor in expected.best.weights.items():
            assert torch.equal(tensor, kept.best.weights[key]), key
        assert metrics.scores(kept.best.confusions.sum(0)).miou == kept.best.record.miou


@pytest.mark.parametrize(("name", "step"), [("deeplab", 1), ("deeplab", 4), ("mask2former", 3)])  # of two an epoch
def test_interrupted_in_an_epoch_equals_uninterrupted(
    name: str,
    step: int,
    tmp_path: Path,
    images: tuple[Batches, Batches],
    whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = 0
    one_step = torch.optim.AdamW.step

    def fail(self: Any, *arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == step:
            raise RuntimeError("power cut")
        return one_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            run(tmp_path, images, name, "adamw")
    state, kept, records = run(tmp_path, images, name, "adamw")
    assert outcomes(records) == outcomes(whole(name, "adamw")[2])
    assert_same(state, whole(name, "adamw")[0])
    assert len(kept.records) == EPOCHS


def test_epochs_not_written_are_trained_again(
    tmp_path: Path, images: tuple[Batches, Batches], whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "SHARE", 1e-9)  # writing is never worth it
    _, kept, _ = run(tmp_path, images, "deeplab", "sgd", 2)
    assert not list(tmp_path.iterdir())
    kept.write(begin("deeplab", "sgd"))  # of no epoch: there is nothing to keep
    assert not list(tmp_path.iterdir())
    assert outcomes(run(tmp_path, images, "deeplab", "sgd")[2]) == outcomes(whole("deeplab", "sgd")[2])


def newest(folder: Path) -> Path:
    return folder / "training.safetensors"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(where: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(where * (len(data) - 1))] ^= 4
        path.write_bytes(data)

    return change


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = {"cut": cut, "empty": empty, "header": flip(0.002), "tensor": flip(0.7), "checksum": flip(1.0)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(
    damage: str,
    tmp_path: Path,
    images: tuple[Batches, Batches],
    whole: Whole,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(tmp_path, images, "deeplab", "adamw", 2)
    DAMAGES[damage](newest(tmp_path))
    (tmp_path / "training.partial").write_bytes(b"of a write that was killed")
    kept = resume.Kept(tmp_path, "a")
    kept.restore(begin("deeplab", "adamw"))
    assert [record.epoch for record in kept.records] == [1]
    assert not list(tmp_path.glob("*.partial"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "training.safetensors is damaged" in line
    assert "goes on from the checkpoint before it" in line
    if damage == "tensor":
        flip(0.5)(tmp_path / "training-previous.safetensors")
        assert outcomes(run(tmp_path, images, "deeplab", "adamw")[2]) == outcomes(whole("deeplab", "adamw")[2])
        (line,) = capsys.readouterr().err.splitlines()
        assert "training-previous.safetensors is damaged" in line
        assert line.endswith("training starts over")


def test_a_kill_between_the_renames_loses_nothing_whole(tmp_path: Path, images: tuple[Batches, Batches]) -> None:
    run(tmp_path, images, "deeplab", "adamw", 2)
    os.replace(newest(tmp_path), tmp_path / "training-previous.safetensors")
    kept = resume.Kept(tmp_path, "a")
    kept.restore(begin("deeplab", "adamw"))
    assert [record.epoch for record in kept.records] == [1, 2]


def test_the_file_is_plain_safetensors(tmp_path: Path, images: tuple[Batches, Batches]) -> None:
    state, _, _ = run(tmp_path, images, "deeplab", "sgd", 1)
    read = load_file(newest(tmp_path))
    for name, tensor in state.tensors().items():
        assert torch.equal(read[name], tensor)


def test_another_training_is_not_continued(
    tmp_path: Path, images: tuple[Batches, Batches], capsys: pytest.CaptureFixture[str]
) -> None:
    _, kept, _ = run(tmp_path, images, "deeplab", "adamw", 1)
    kept.run = "run-of-a"
    other = resume.Kept(tmp_path, "b")
    assert (kept.run, other.run) == ("run-of-a", "")
    state = begin("deeplab", "sgd")
    before = digest(state.model.state_dict())
    other.restore(state)
    assert (other.records, state.epoch, digest(state.model.state_dict())) == ([], 0, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert "is of another training" in line
    assert resume.identity({"lr": 0.1}, 0) == resume.identity({"lr": 0.1}, 0) != resume.identity({"lr": 0.2}, 0)


def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path,
    images: tuple[Batches, Batches],
    whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(tmp_path, images, "deeplab", "adamw", 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        _, _, records = run(tmp_path, images, "deeplab", "adamw")
    assert outcomes(records) == outcomes(whole("deeplab", "adamw")[2])
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.safetensors"]
    kept = resume.Kept(tmp_path, "a")
    kept.restore(begin("deeplab", "adamw"))
    assert [record.epoch for record in kept.records] == [1]


def test_initial_weights_are_built_once(images: tuple[Batches, Batches], monkeypatch: pytest.MonkeyPatch) -> None:
    space = {
        name: protocols.Choice((value,)) for name, value in (("lr", 1e-3), ("weight_decay", 0), ("optimizer", "sgd"))
    }
    architecture = protocols.Architecture("deeplab", "", 4, "random", space, {"size": "tiny"})
    initial, built = objective.Initial(architecture, 0), []
    create = architectures.create
    monkeypatch.setattr(architectures, "create", lambda *a: (built.append(a), create(*a))[1])
    for aux in (True, False, True, False):
        chosen = Hyperparameters(1e-2, 0.0, "sgd", {"aux_loss": aux})
        fresh = create("deeplab", 8, "random", {"size": "tiny", "aux_loss": aux}, 0)
        kept = initial.model(chosen)
        assert kept[1] == fresh[1]
        assert digest(kept[0].state_dict()) == kept[1].sha256
        losses = []
        for model, _ in (fresh, kept):
            state = training.begin(model, chosen, CPU)
            losses.append(next(training.fit(state, *images, epochs=1, seed=0)).without_timings())
        assert losses[0] == losses[1]
    assert len(built) == 2


# The commands, killed and typed again.


@pytest.fixture
def where(tmp_path: Path, drawn: Path) -> list[str]:
    """The arguments of a search of one trial of four epochs, and of its promotion in as many."""
    return ["deeplab", "--protocol", str(write_protocol(tmp_path / "small", LONGER)), "--data", str(drawn)]


def call(module: Any, where: list[str]) -> int:
    return terminal.run(lambda: int(module.main(where)))


def found() -> tuple[TrialRecord, ...]:
    return trials.record(database.connect(places.studies_database()), "small-deeplab").trials


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
from segbench import resume, runs, terminal, {module}
resume.SHARE = float("inf")
log = runs.log_epoch
def log_and_die(client, run, record):
    log(client, run, record)
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
    assert runs.epochs(tracking.client(), trial.run_id) == trial.epochs
    assert steps_of_runs("trial") == [[1, 2, 3, 4]]
    assert 0 < trial.startup_seconds < trial.seconds > sum(record.seconds.total for record in trial.epochs)
    left = places.trial_folder("small-deeplab", 0)
    assert sorted(path.name for path in left.iterdir()) == ["best.safetensors", "confusions.npz"]
    with np.load(left / "confusions.npz") as kept:
        assert metrics.scores(kept["confusions"].sum(0)).miou == trial.value
        assert kept["confusions"].shape == (len(kept["names"]), 35, 8) == (4, 35, 8)

    kill("promote", where)
    trained.clear()
    assert call(promote, where) == 0
    assert trained == [3, 4]
    ((folder, card),) = models.promoted("small")
    same = ["best", "last", "speed", "trial", "run_id", "seconds", "created"]  # the first two are compared below
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
    "before the trial's report": (trials, "report", False, [3, 4]),
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

        def log_and_signal(client: Any, run: str, record: EpochRecord, sent: signal.Signals = sent) -> None:
            log(client, run, record)
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
        assert "stopped. Type the same command again: it goes on where it stopped" in said
        assert call(module, where) == 0
        assert trained == [1, 2, 3, 4]
        assert steps_of_runs(kind) == [[1, 2, 3, 4]]


def test_a_second_signal_stops_at_once() -> None:
    with stopping.graceful():
        assert not stopping.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.requested()
        with pytest.raises(KeyboardInterrupt) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.args == (signal.SIGTERM,)
    assert not stopping.requested()


def test_only_the_best_trial_keeps_its_weights(storage: Path, drawn: Path, tmp_path: Path) -> None:
    asked = write_protocol(tmp_path / "small", PROTOCOL.replace("trials = 2", "trials = 3"))
    assert call(search, ["deeplab", "--protocol", str(asked), "--data", str(drawn)]) == 0
    every = found()
    best = max(every, key=lambda trial: trial.value or 0)
    for trial in every:
        folder = places.trial_folder("small-deeplab", trial.slot)
        names = ["best.safetensors", "confusions.npz"] if trial is best else ["confusions.npz"]
        assert sorted(path.name for path in folder.iterdir()) == names
    about = checkpoint.metadata(places.trial_folder("small-deeplab", best.slot) / "best.safetensors")
    assert float(about["miou"]) == best.value


def test_two_promotions_of_the_same_are_one_too_many(
    storage: Path, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(search, where) == 0
    lock = places.model_folder("small-deeplab", 0).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    capsys.readouterr()
    with FileLock(lock):
        assert call(promote, where) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'small-deeplab', seed 0, is being promoted by another process" in line
