"""Damage to packed pixels is found, at the next start or when they are read; and a start reads none without need."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench.core.errors import UserError
from segbench.data import arrays, digests, packing, space
from segbench.data.batches import Batches
from segbench.runtime import memory
from tests.conftest import SIZE

CPU = torch.device("cpu")


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path)


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of scenes of each split whose pixels are read at a start."""
    counts: list[int] = []
    digest = arrays.Arrays.digests
    monkeypatch.setattr(arrays.Arrays, "digests", lambda self: counts.append(len(self)) or digest(self))
    return counts


def flip(path: Path, row: int) -> None:
    """One bit, with the file's time of modification put back."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-(row + 1) * SIZE[0] * SIZE[1], os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def unnoticed(folder: Path) -> None:
    """As if nothing had written to the files."""
    content = json.loads((folder / digests.RECORD).read_text())
    content["stamps"] = arrays.Arrays(folder).stamps()
    (folder / digests.RECORD).write_text(json.dumps(content))


def test_a_start_reads_no_pixels_of_files_that_nothing_wrote_to(
    drawn: Path, tmp_path: Path, data: packing.Dataset, digested: list[int]
) -> None:
    assert packing.prepare(drawn, SIZE, tmp_path).fingerprint == data.fingerprint
    assert digested == []
    flip(data.folder / "val/labels.npy", 2)
    np.testing.assert_array_equal(packing.prepare(drawn, SIZE, tmp_path).val.labels, data.val.labels)
    assert digested == [8]


@pytest.mark.parametrize("free", [0, 10**9], ids=["from disk", "resident"])
def test_pixels_that_change_without_a_write_are_found_when_they_are_read(
    free: int, drawn: Path, tmp_path: Path, data: packing.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: free)
    intact, folder = np.array(data.train.labels), data.folder / "train"
    flip(folder / "labels.npy", 3)
    unnoticed(folder)
    changed = packing.prepare(drawn, SIZE, tmp_path).train
    assert (np.asarray(changed.labels) != intact).sum() == 1
    list(Batches(changed, np.arange(20), 4, CPU))  # not of these
    name = f"pixels of {changed.names[20]} are no longer what was written .*; rerun"
    with pytest.raises(UserError, match=name):
        list(Batches(changed, np.arange(16, 24), 4, CPU))
    np.testing.assert_array_equal(packing.prepare(drawn, SIZE, tmp_path).train.labels, intact)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stamps": 3, "digests": 5}', "[" * 100_000, None])
def test_a_record_that_is_damaged_is_none(
    text: str | None, drawn: Path, tmp_path: Path, data: packing.Dataset, digested: list[int]
) -> None:
    path = data.folder / "train" / digests.RECORD
    path.unlink()
    if text is None:
        os.mkfifo(path)
    else:
        path.write_text(text)
    packing.prepare(drawn, SIZE, tmp_path)
    packing.prepare(drawn, SIZE, tmp_path)
    assert digested == [24]


def test_the_space_that_packing_takes_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(number: int) -> None:
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _: (10**12, 0, number))

    numbers = {"train": 3, "val": 2}
    (tmp_path / "train").mkdir()
    free(5 * 100 * 150 * 4 - 1)
    with pytest.raises(UserError, match=r"3 train \+ 2 val scenes at 100x150 needs 0.3 MB in .*, and 0.3 MB are free"):
        space.require(tmp_path, numbers, (100, 150))
    free(5 * 100 * 150 * 4)
    space.require(tmp_path, numbers, (100, 150))
    free(5 * 100 * 150 * 4)
    with pytest.raises(UserError):
        space.require(tmp_path, numbers, (100, 150), panoptic=True)
    free(0)
    arrays.create(tmp_path / "train", 3, (100, 150))
    space.require(tmp_path, numbers, (100, 150))
    with pytest.raises(UserError):
        space.require(tmp_path, {"train": 4}, (100, 150))
    os.truncate(tmp_path / "train/labels.npy", 10)  # what is damaged is replaced
    free(5 * 100 * 150 * 4 - 3 * 100 * 150 * 3)
    space.require(tmp_path, numbers, (100, 150))
