"""The synthetic streets: same arguments, same scene; every category; and not to be solved by colour alone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench import streets as command
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.data import streets
from segbench.runtime import terminal

CATEGORY = np.array(DEFAULT.class_of_raw, np.uint8)
ALL_CITIES = len(streets.TRAIN_CITIES) + len(streets.VAL_CITIES)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [streets.draw(seed, seed % ALL_CITIES, 96, 192) for seed in range(24)]


def test_same_arguments_same_scene() -> None:
    (image, labels), (again, labels_again) = (streets.draw(3, 5, 64, 128) for _ in range(2))
    assert np.array_equal(image, again)
    assert np.array_equal(labels, labels_again)


@pytest.mark.parametrize(("seed", "city"), [(4, 5), (3, 6)])
def test_another_seed_or_city_is_another_scene(seed: int, city: int) -> None:
    assert not np.array_equal(streets.draw(3, 5, 64, 128)[1], streets.draw(seed, city, 64, 128)[1])


def test_a_scene_is_much_the_same_at_twice_the_size() -> None:
    small, large = streets.draw(8, 2, 96, 192)[1], streets.draw(8, 2, 192, 384)[1]
    assert np.mean(CATEGORY[small] == CATEGORY[large[::2, ::2]]) > 0.93


def test_every_category_occurs_and_most_in_each_scene(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found = [set(np.unique(CATEGORY[labels]).tolist()) for _, labels in scenes]
    assert set().union(*found) == set(range(len(DEFAULT.names)))
    assert min(map(len, found)) >= 6


def test_raw_ids_are_diverse_and_valid(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    ids = set().union(*(np.unique(labels).tolist() for _, labels in scenes))
    assert ids <= set(range(34))
    assert ids >= {7, 8, 9, 11, 13, 17, 20, 21, 22, 23, 24, 25, 26, 33}


@settings(max_examples=12)
@given(st.integers(32, 110), st.integers(32, 220), st.integers(0, 2**40), st.integers(0, 1000))
def test_any_size(height: int, width: int, seed: int, city: int) -> None:
    image, labels = streets.draw(seed, city, height, width)
    assert image.shape == (height, width, 3)
    assert labels.shape == (height, width)
    assert image.dtype == labels.dtype == np.uint8
    assert labels.max() <= 33


def test_colour_alone_does_not_tell_the_category(scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    pixels = [image.reshape(-1, 3).astype(np.float32) for image, _ in scenes]
    categories = [CATEGORY[labels].ravel() for _, labels in scenes]
    seen, seen_as = np.concatenate(pixels[:12]), np.concatenate(categories[:12])
    new, truth = np.concatenate(pixels[12:]), np.concatenate(categories[12:])
    means = np.stack([seen[seen_as == category].mean(0) for category in range(len(DEFAULT.names))])
    guess = np.argmin([((new - mean) ** 2).sum(1) for mean in means], axis=0)
    confusion = np.bincount(truth.astype(np.int64) * 8 + guess, minlength=64).reshape(8, 8)
    hit = np.diag(confusion)
    assert np.mean(hit / (confusion.sum(0) + confusion.sum(1) - hit)) < 0.45


def test_write_lays_out_cityscapes_folders(tmp_path: Path) -> None:
    finished: list[None] = []
    streets.write(tmp_path, 14, 4, 32, 64, seed=1, progress=lambda: finished.append(None))
    assert len(finished) == 18
    cities = {}
    for split, count in (("train", 14), ("val", 4)):
        images = sorted(tmp_path.glob(f"leftImg8bit/{split}/*/*_leftImg8bit.png"))
        assert len(images) == count
        cities[split] = {image.parent.name for image in images}
        for image in images:
            stem = image.name.removesuffix("_leftImg8bit.png")
            assert stem.startswith(f"{image.parent.name}_")
            labels = tmp_path / "gtFine" / split / image.parent.name / f"{stem}_gtFine_labelIds.png"
            with Image.open(image) as picture, Image.open(labels) as marked:
                assert (picture.mode, marked.mode) == ("RGB", "L")
                assert picture.size == marked.size == (64, 32)
    assert len(cities["train"]) >= 6
    assert not cities["train"] & cities["val"]
    assert len(list(tmp_path.rglob("*.*"))) == 54


def test_command_makes_a_whole_folder_and_says_what_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "streets"
    assert command.main(["--out", str(out), "--train", "3", "--val", "1", "--size", "32x64"]) == 0
    assert len(list(out.rglob("*.png"))) == 12
    assert [entry.name for entry in out.parent.iterdir()] == ["streets"]
    said = capsys.readouterr().out
    assert f"CITYSCAPES_DATASET={out} python -m segbench.prepare" in said
    assert f"CITYSCAPES_DATASET={out} python -m segbench.search" in said


def test_command_refuses_an_occupied_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is a directory that is not empty") as error:
        command.main(["--out", str(tmp_path)])
    assert "rm -r" not in str(error.value)  # what is there may be dear to somebody
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "wrong",
    ["--size=256", "--size=16x64", "--size=99999x99999", "--train=0", "--train=1000001", "--val=-1", "--seed=-1"],
)
def test_command_refuses_what_it_cannot_draw(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong.partition("=")[0]):
        command.main(["--out", str(tmp_path / "out"), wrong])
    assert not list(tmp_path.iterdir())


def test_command_leaves_nothing_behind_when_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(streets, "draw_instances", stop)
    with pytest.raises(KeyboardInterrupt):
        command.main(["--out", str(tmp_path / "out"), "--train", "2", "--val", "1", "--size", "32x64"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["file/x", "/proc/x", "x" * 300])
def test_command_says_in_one_line_where_it_cannot_write(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = ["--out", str(tmp_path / out), "--train", "1", "--val", "1", "--size", "32x64"]
    assert terminal.run(lambda: command.main(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert out.partition("/x")[0] in line


def gone(condition: Callable[[], bool]) -> bool:
    """Whether it becomes false in time."""
    deadline = time.monotonic() + 60
    while condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not condition()


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one process draws")
def test_a_killed_command_leaves_neither_workers_nor_a_folder(tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "segbench.streets", "--out", str(tmp_path / "out"), "--quiet"]
    process = subprocess.Popen([*command_line, "--train", "100000", "--val", "1", "--size", "32x64"])
    family: list[psutil.Process] = []
    try:
        assert gone(lambda: not list(tmp_path.rglob("*.png")))
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
    finally:
        process.kill()
        process.wait()
    assert gone(lambda: any(one.is_running() for one in family))
    assert gone(lambda: any(tmp_path.iterdir()))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one process draws")
def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom segbench.data import streets\n"
        "print('once')\nstreets.write(Path('drawn'), 64, 1, 32, 64, seed=0)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("once\n", 0), done.stderr
    assert len(list(tmp_path.rglob("*_leftImg8bit.png"))) == 65


def test_what_a_killed_command_had_drawn_is_removed_by_the_next(tmp_path: Path) -> None:
    abandoned, drawing, mine = (tmp_path / f".out-unfinished-{name}" for name in ("abandoned", "drawing", "mine"))
    for folder in (abandoned, drawing, mine):
        folder.mkdir()
    (abandoned / command._LOCK).touch()
    with FileLock(drawing / command._LOCK):
        assert command.main(["--out", str(tmp_path / "out"), "--train", "1", "--val", "1", "--size", "32x64"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [drawing.name, mine.name, "out"]
    assert not (tmp_path / "out" / command._LOCK).exists()
