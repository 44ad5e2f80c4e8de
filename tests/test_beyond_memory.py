"""More images than a process may have memory: the same batches as where there is enough."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from segbench import architectures
from segbench.core.augment import Augment
from segbench.core.crops import Passes
from segbench.core.labels import DEFAULT
from segbench.core.records import Hyperparameters
from segbench.data import arrays, packing, streets
from segbench.data.batches import Batches
from segbench.data.reader import Reader, Resident
from segbench.engine import training
from segbench.runtime import compute, memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")

SMALL, FULL = (128, 256), (1024, 2048)
OF_SMALL, OF_FULL = 600, 130  # images: 79 and 1091 MB
CPU = torch.device("cpu")


def split(folder: Path) -> packing.Split:
    """Opened from its arrays alone."""
    opened = arrays.Arrays(folder)
    number = len(opened)
    of_images = {"histogram": np.zeros(256, np.int64), "void_only": (), "aspects": np.full(number, 2.0), "digest": ""}
    names = tuple(map(str, range(number)))
    return packing.Split(opened.images, opened.labels, names, names, label_set=DEFAULT, **of_images)


def limit(room: int) -> None:
    """Lets this process take so many more bytes."""
    import resource

    most = psutil.Process().memory_info().vms + room
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def shown(made: Batches) -> str:
    total = hashlib.sha256()
    for batch in made.shuffled(0, 0):
        total.update(batch.images[..., ::8, ::8].numpy().tobytes() + batch.raw.numpy().tobytes())
    return total.hexdigest()


def read_in_little_memory(folder: Path) -> None:
    torch.zeros(1).add(1)
    limit(50_000_000)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        np.load(folder / "images.npy", mmap_mode="r")  # not even mapped
    made = Batches(split(folder), np.arange(OF_SMALL), 4, CPU)
    assert isinstance(made._rows, Reader)
    print(shown(made))


def train_in_little_memory(folder: Path) -> None:
    limit(1_000_000_000)
    print(trained(folder, Reader))


def trained(folder: Path, kind: type) -> str:
    """An epoch on crops of images all over the files, scored by windows of two others."""
    data, device = split(folder), compute.choose("cpu", "fp32")
    train = Batches(data, np.arange(0, OF_FULL, 3), 2, CPU, Augment(scale=(0.5, 2.0)), crop=(128, 256))
    val = Batches(data, np.arange(OF_FULL)[-2:], 1, CPU)
    assert isinstance(train._rows, kind)
    model, _ = architectures.create("lraspp", 8, "random", {"size": "tiny"}, 0)
    model.passes = Passes.of(FULL, (512, 512), None, flip=False, scales=(1.0,))
    state = training.begin(model, Hyperparameters(1e-3, 1e-4, "adamw", {}), device)
    return repr([(r.train_loss, r.val_loss, r.miou) for r in training.fit(state, train, val, epochs=1, seed=0)])


def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10**12)


def run(function: str, argument: Path) -> str:
    code = (
        f"import sys; from pathlib import Path; from tests.test_beyond_memory import {function}\n"
        f"{function}(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(argument)]
    # Otherwise the C library reserves 64 MB of addresses for each thread.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def write(folder: Path, number: int, image: arrays.Pixels, labels: arrays.Pixels) -> None:
    made = arrays.create(folder, number, (labels.shape[0], labels.shape[1]))
    for row in range(number):
        made.write(row, np.roll(image, row, 0), np.roll(labels, row, 0))


def test_batches_of_more_than_the_address_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OF_SMALL, *streets.draw(0, 0, *SMALL))
    enough(monkeypatch)
    resident = Batches(split(tmp_path), np.arange(OF_SMALL), 4, CPU)
    assert isinstance(resident._rows, Resident)
    assert run("read_in_little_memory", tmp_path) == shown(resident)


@pytest.mark.slow
def test_training_on_more_than_the_address_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streets of Cityscapes' own size."""
    write(tmp_path, OF_FULL, *streets.draw(0, 0, *FULL))
    enough(monkeypatch)
    assert run("train_in_little_memory", tmp_path) == trained(tmp_path, Resident)
