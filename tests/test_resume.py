"""What a killed training loses: nothing but the epoch under way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from segbench import architectures
from segbench.architectures.parts.weights import digest
from segbench.core import metrics
from segbench.core import protocol as protocols
from segbench.core.labels import DEFAULT
from segbench.core.records import EpochRecord, Hyperparameters
from segbench.data import packing
from segbench.data.batches import Batches
from segbench.engine import checkpoint, resume, speed, training
from segbench.experiment import objective
from segbench.runtime import compute
from tests.conftest import SIZE

CPU = compute.choose("cpu")
EPOCHS = 3


@pytest.fixture(autouse=True)
def _every_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SHARE", float("inf"))
    monkeypatch.setattr(speed, "_SECONDS_PER_PART", 0.01)  # no test here asks how fast a model is


@pytest.fixture(scope="module")
def images(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Batches, Batches]:
    data = packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))
    return Batches(data.train, np.arange(8), 4, CPU.device), Batches(data.val, np.arange(4), 4, CPU.device)


def begin(name: str, optimizer: str) -> training.State:
    model, _ = architectures.create(name, 8, "random", {"size": "tiny"}, 0)
    return training.begin(model, Hyperparameters(3e-3, 1e-4, optimizer), CPU)


def run(
    folder: Path, images: tuple[Batches, Batches], name: str, optimizer: str, until: int = EPOCHS, identity: str = "a"
) -> tuple[training.State, resume.TrainingSession, list[EpochRecord]]:
    """Trains in `folder`, from what is kept there, and leaves after `until` epochs."""
    state = begin(name, optimizer)
    kept = resume.TrainingSession(folder, identity)
    kept.restore(state)
    return state, kept, list(kept.epochs(state, training.fit(state, *images, epochs=until, seed=0)))


def outcomes(records: list[EpochRecord] | tuple[EpochRecord, ...]) -> list[EpochRecord]:
    return [record.without_timings() for record in records]


class Whole:
    """One training without interruption, for each architecture and optimizer."""

    def __init__(self, folder: Path, images: tuple[Batches, Batches]) -> None:
        self.folder, self.images = folder, images
        self.known: dict[tuple[str, str], Any] = {}

    def __call__(self, name: str, optimizer: str) -> tuple[training.State, resume.TrainingSession, list[EpochRecord]]:
        key = (name, optimizer)
        if key not in self.known:
            self.known[key] = run(self.folder / "-".join(key), self.images, *key)
        found: tuple[training.State, resume.TrainingSession, list[EpochRecord]] = self.known[key]
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
        assert metrics.scores(kept.best.confusions.sum(0), DEFAULT).miou == kept.best.record.miou


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
    kept = resume.TrainingSession(tmp_path, "a")
    kept.restore(begin("deeplab", "adamw"))
    assert [record.epoch for record in kept.records] == [1]
    assert not list(tmp_path.glob("*.partial"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "training.safetensors is damaged" in line
    assert "resumes from the previous checkpoint" in line
    if damage == "tensor":
        flip(0.5)(tmp_path / "training-previous.safetensors")
        assert outcomes(run(tmp_path, images, "deeplab", "adamw")[2]) == outcomes(whole("deeplab", "adamw")[2])
        (line,) = capsys.readouterr().err.splitlines()
        assert "training-previous.safetensors is damaged" in line
        assert line.endswith("training starts over")


def test_a_kill_between_the_renames_loses_nothing_whole(tmp_path: Path, images: tuple[Batches, Batches]) -> None:
    run(tmp_path, images, "deeplab", "adamw", 2)
    os.replace(newest(tmp_path), tmp_path / "training-previous.safetensors")
    kept = resume.TrainingSession(tmp_path, "a")
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
    other = resume.TrainingSession(tmp_path, "b")
    assert (kept.run, other.run) == ("run-of-a", "")
    state = begin("deeplab", "sgd")
    before = digest(state.model.state_dict())
    other.restore(state)
    assert (other.records, state.epoch, digest(state.model.state_dict())) == ([], 0, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert "belongs to another training" in line
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
    kept = resume.TrainingSession(tmp_path, "a")
    kept.restore(begin("deeplab", "adamw"))
    assert [record.epoch for record in kept.records] == [1]


def test_weights_that_cannot_be_written_name_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError
    from safetensors import torch as library

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(library, "save_file", full)
    model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoint.save(model, tmp_path / "best.safetensors")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "best.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_initial_weights_are_built_once(images: tuple[Batches, Batches], monkeypatch: pytest.MonkeyPatch) -> None:
    space = {
        name: protocols.Choice((value,)) for name, value in (("lr", 1e-3), ("weight_decay", 0), ("optimizer", "sgd"))
    }
    architecture = protocols.Architecture("deeplab", "DeepLab", 4, "random", space, {"size": "tiny"})
    initial, built = objective.Initial(architecture, 0, 8), []
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
