"""Packing by worker processes, as large datasets are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import psutil
import pytest

from segbench.core.errors import UserError
from segbench.data import packing
from tests.conftest import SIZE
from tests.test_archives import KINDS, zipped


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset is worth as many processes as there are cores, and there are two."""
    monkeypatch.setattr(packing, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "LokyProcess" in " ".join(child.cmdline())]


@pytest.mark.usefixtures("large")
def test_processes_pack_the_same_from_folders_and_archives(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for kind in KINDS:
        zipped(drawn, tmp_path / "downloads" / f"{kind}.zip", kind)
    packed = [
        packing.prepare(root, SIZE, tmp_path / name, lambda text="": seen.update(workers()))
        for root, name in ((drawn, "a"), (tmp_path / "downloads", "b"))
    ]
    assert len(seen) >= 2
    assert not workers()
    monkeypatch.setattr(packing, "_WORTH_A_PROCESS", 1 << 40)
    by_threads = packing.prepare(drawn, SIZE, tmp_path / "c", lambda text="": seen.clear())
    assert not seen
    assert [one.fingerprint for one in packed] == 2 * [by_threads.fingerprint]


@pytest.mark.usefixtures("large")
def test_a_machine_that_only_measures_packs_the_same(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packing.prepare(drawn, SIZE, tmp_path / "a").fingerprint
    for name in ("loky", "kornia_rs"):
        monkeypatch.setitem(sys.modules, name, None)
    assert packing.prepare(drawn, SIZE, tmp_path / "b").fingerprint == expected
    assert not workers()


@pytest.mark.usefixtures("large")
def test_processes_report_what_cannot_be_used(drawn: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(drawn, tmp_path / "drawn"))
    image = min(root.glob("leftImg8bit/train/*/*.png"))
    image.write_bytes(image.read_bytes()[:-100])
    zipped(root, root / "gtFine.zip", "gtFine")
    shutil.rmtree(root / "gtFine")
    with pytest.raises(packing.DamagedScenes) as caught:
        packing.prepare(root, SIZE, tmp_path / "cache")
    (problem,) = caught.value.problems
    assert problem.file == str(image.relative_to(root))
    assert "image cannot be read" in problem.what


@pytest.mark.usefixtures("large")
def test_a_killed_process_is_one_line_and_nothing_is_lost(drawn: Path, tmp_path: Path) -> None:
    def kill(text: str = "") -> None:
        for worker in workers():
            worker.kill()

    with pytest.raises(UserError, match="a worker process was killed"):
        packing.prepare(drawn, SIZE, tmp_path / "cache", kill)
    (journal,) = (tmp_path / "cache").glob("*/train/done.jsonl")
    assert journal.read_text().splitlines()
    again = packing.prepare(drawn, SIZE, tmp_path / "cache")
    assert again.fingerprint == packing.prepare(drawn, SIZE, tmp_path / "other").fingerprint
