"""More images than a process may have memory: the same batches as where there is enough."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from segbench.core.labels import DEFAULT
from segbench.data import arrays, packing
from segbench.data.batches import Batches
from segbench.data.reader import Reader, Resident

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")

SIZE, NUMBER = (256, 512), 400
ROOM = 120_000_000  # bytes that a process may take; the images alone are 157,000,000
CPU = torch.device("cpu")


def split(folder: Path, number: int) -> packing.Split:
    """Opened from its arrays alone."""
    opened, names = arrays.Arrays(folder), tuple(map(str, range(number)))
    of_images = {"histogram": np.zeros(256, np.int64), "void_only": (), "aspects": np.full(number, 2.0), "digest": ""}
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


def batches(folder: Path) -> Batches:
    return Batches(split(folder, NUMBER), np.arange(NUMBER), 4, CPU)


def read_in_little_memory(folder: Path) -> None:
    torch.zeros(1).add(1)
    limit(ROOM)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        np.load(folder / "images.npy", mmap_mode="r")  # not even mapped
    made = batches(folder)
    assert isinstance(made._rows, Reader)
    print(shown(made))


def run(function: str, argument: Path) -> str:
    code = (
        f"import sys; from pathlib import Path; from tests.test_beyond_memory import {function}\n"
        f"{function}(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(argument)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_batches_of_more_than_the_address_space(tmp_path: Path) -> None:
    made, random = arrays.create(tmp_path, NUMBER, SIZE), np.random.default_rng(0)
    image, labels = (random.integers(0, 34, shape, np.uint8) for shape in ((*SIZE, 3), SIZE))
    for row in range(NUMBER):
        made.write(row, np.roll(image, row, 0), np.roll(labels, row, 1))
    resident = batches(tmp_path)
    assert isinstance(resident._rows, Resident)
    assert run("read_in_little_memory", tmp_path) == shown(resident)
