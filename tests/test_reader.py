"""Batches from disk: the same as from memory, and no thread or error is lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench import architectures
from segbench.core.augment import Augment
from segbench.core.errors import UserError
from segbench.core.records import Hyperparameters
from segbench.data import packing
from segbench.data.batches import Batch, Batches
from segbench.data.packing import Dataset
from segbench.data.reader import Reader, Resident
from segbench.engine import training
from segbench.runtime import compute, memory
from tests.conftest import SIZE

CPU = torch.device("cpu")
AUGMENT = Augment(flip=0.5, scale=(0.5, 2.0), colour=0.2)


@pytest.fixture(scope="module")
def packed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("packed"))


@pytest.fixture
def free_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the memory that is available, in bytes."""
    return lambda free: monkeypatch.setattr(memory, "available", lambda: free)


def bits(batches: Iterator[Batch]) -> list[list[object]]:
    return [[value.numpy().tobytes() if torch.is_tensor(value) else value for value in batch] for batch in batches]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")]


@settings(max_examples=25)
@given(
    rows=st.lists(st.integers(0, 23), min_size=1, max_size=30),
    order=st.lists(st.integers(0, 10**6), max_size=30),
    batch=st.integers(1, 9),
)
def test_rows_from_disk_are_those_in_memory(packed: Dataset, rows: list[int], order: list[int], batch: int) -> None:
    chosen = np.array(rows)
    planes = packed.train.images, packed.train.labels, np.arange(24 * 3, dtype=np.uint8).reshape(24, 3)
    from_disk = Reader(planes, chosen, CPU)
    resident = Resident(from_disk, planes, CPU)
    batches = torch.split(torch.tensor(order, dtype=torch.long) % len(rows), batch)
    pairs = list(zip(from_disk.gather(batches), resident.gather(batches), strict=True))
    assert all(torch.equal(ours, theirs) for one, other in pairs for ours, theirs in zip(one, other, strict=True))
    assert [len(one[0]) for one, _ in pairs] == [len(part) for part in batches]
    expected = np.asarray(packed.train.labels)[chosen]
    np.testing.assert_array_equal(np.stack(list(from_disk.rows(1))), expected)
    np.testing.assert_array_equal(np.stack(list(resident.rows(1))), expected)


@pytest.mark.parametrize("augment", [None, AUGMENT])
def test_memory_changes_no_bit_of_a_batch(
    augment: Augment | None, packed: Dataset, free_memory: Callable[[int], None]
) -> None:
    def made() -> list[object]:
        batches = Batches(packed.train, np.arange(3, 20), 4, CPU, augment)
        assert isinstance(batches._rows, kind)
        some = [part.numpy().tobytes() for part in batches.some(3) if part is not None]
        return [bits(batches.shuffled(3, 5)), bits(iter(batches)), bits(batches.every(2, 1)), some,
                batches.class_counts().tolist()]  # fmt: skip

    kind: type = Resident
    resident = made()
    free_memory(4 * 17 * SIZE[0] * SIZE[1] * 4)  # the images are a quarter of it
    kind = Reader
    assert made() == resident


def test_images_that_fit_are_resident(packed: Dataset, free_memory: Callable[[int], None]) -> None:
    free_memory(4 * 17 * SIZE[0] * SIZE[1] * 4 + 4)
    assert isinstance(Batches(packed.train, np.arange(17), 4, CPU)._rows, Resident)


def test_a_reader_that_is_stopped_leaves_no_thread(packed: Dataset, free_memory: Callable[[int], None]) -> None:
    free_memory(0)
    batches = Batches(packed.train, np.arange(24), 2, CPU)
    running = batches.shuffled(0, 0)
    next(running)
    assert threads()
    running.close()
    assert not threads()
    for number, _ in enumerate(batches):
        if number == 1:
            break
    assert not threads()


def test_a_file_that_is_cut_off_is_one_line(drawn: Path, tmp_path: Path, free_memory: Callable[[int], None]) -> None:
    data = packing.prepare(drawn, SIZE, tmp_path)
    free_memory(0)
    batches = iter(Batches(data.train, np.arange(24), 2, CPU))
    next(batches)
    os.truncate(data.folder / "train/images.npy", 15 * SIZE[0] * SIZE[1] * 3)
    with pytest.raises(UserError, match=r"images.npy: packed images cannot be read: the file was cut off.*; check"):
        list(batches)
    assert not threads()


def test_memory_changes_no_bit_of_a_training(packed: Dataset, free_memory: Callable[[int], None]) -> None:
    """Also if it changes between two runs of one training."""

    def run(state: training.State, epochs: int) -> list[float]:
        train, val = Batches(packed.train, np.arange(8), 4, CPU), Batches(packed.val, np.arange(4), 4, CPU)
        return [record.train_loss for record in training.fit(state, train, val, epochs=epochs, seed=0)]

    def state() -> training.State:
        model, _ = architectures.create("lraspp", 8, "random", {"size": "tiny"}, 0)
        return training.begin(model, Hyperparameters(1e-3, 1e-4, "adamw", {}), compute.choose("cpu", "fp32"))

    whole = state()
    losses = run(whole, 2)
    free_memory(0)
    first = state()
    before = run(first, 1)
    resumed = state()
    resumed.restore({name: tensor.clone() for name, tensor in first.tensors().items()}, 1)
    assert before + run(resumed, 2) == losses
    tensors = resumed.tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in whole.tensors().items())
