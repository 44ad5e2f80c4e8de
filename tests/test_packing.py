"""The packed dataset: whatever happens to its files, what is opened is what the scenes hold."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from segbench.core import protocol
from segbench.core.errors import UserError
from segbench.data import arrays, dataset, packing
from segbench.data.packing import DamagedScenes
from tests.conftest import PROTOCOL, SIZE, write_protocol


@pytest.fixture(scope="module")
def few(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 4 + 2 scenes. Do not change it; copy it."""
    root = tmp_path_factory.mktemp("few") / "few"
    for split, number in (("train", 4), ("val", 2)):
        for image in sorted((drawn / "leftImg8bit" / split).glob("*/*"))[:number]:
            labels = str(image).replace("leftImg8bit/", "gtFine/").replace("_leftImg8bit", "_gtFine_labelIds")
            for path in (image, Path(labels)):
                copy = root / path.relative_to(drawn)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
    return root


@pytest.fixture(scope="module")
def packed(few: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(few, SIZE, tmp_path_factory.mktemp("storage") / "cache")


@pytest.fixture
def cache(packed: packing.Dataset, tmp_path: Path) -> Path:
    """A copy of the packed dataset's cache that a test may damage."""
    return Path(shutil.copytree(packed.folder.parent, tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scenes that are decoded."""
    names: list[str] = []
    decode = packing._decode
    monkeypatch.setattr(packing, "_decode", lambda scene, *how: names.append(scene.name) or decode(scene, *how))
    return names


def assert_same(found: packing.Dataset, expected: packing.Dataset) -> None:
    assert found.fingerprint == expected.fingerprint
    for split in ("train", "val"):
        one, other = getattr(found, split), getattr(expected, split)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.histogram, other.histogram)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def scramble(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(5000))


def pickled(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([{}]), allow_pickle=True)


def folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def saved(array: np.ndarray) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with open(path, "wb") as file:
            np.save(file, array)

    return save


def written(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def manifest_with(**changes: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        content["scenes"][0].update(changes)
        path.write_text(json.dumps(content))

    return change


ANY_FILE = {
    "cut": cut,
    "emptied": written(""),
    "random": scramble,
    "deleted": Path.unlink,
    "a folder": folder,
    "a pipe": pipe,
}
ARRAY = {
    "pickled": pickled,
    "of other numbers": saved(np.zeros((4, *SIZE, 3), np.float32)),
    "of another shape": saved(np.zeros((4, *SIZE), np.uint16)),
    "transposed": saved(np.asfortranarray(np.zeros((4, *SIZE, 3), np.uint8))),
    "empty": saved(np.zeros((0, *SIZE, 3), np.uint8)),
}
LINES = {
    "a list": written("[]"),
    "a number": written("3"),
    "without scenes": written('{"scenes": 3}'),
    "of scenes that are none": written('{"scenes": [3, null, []]}'),
    "nested deeply": written("[" * 100_000),
}
SCENE = {
    "without a name": manifest_with(name=3),
    "with an unknown key": manifest_with(odd=1),
    "with ids that are none": manifest_with(ids=[1]),
    "with an id beyond 255": manifest_with(ids={"999": 1}),
    "with another digest": manifest_with(digest="0" * 64),
    "with a stamp that is none": manifest_with(stamp=None),
    "with a size that is none": manifest_with(size=[0, 32]),
}
DAMAGE = [
    *((file, name, do) for file in ("images.npy", "labels.npy") for name, do in {**ANY_FILE, **ARRAY}.items()),
    *(("manifest.json", name, do) for name, do in {**ANY_FILE, **LINES, **SCENE}.items()),
    *(("done.jsonl", name, do) for name, do in {**ANY_FILE, **LINES}.items()),
]


@pytest.mark.parametrize(("file", "how", "damage"), DAMAGE, ids=[f"{file} {how}" for file, how, _ in DAMAGE])
def test_a_damaged_cache_is_made_again(
    file: str, how: str, damage: Callable[[Path], object], few: Path, cache: Path, packed: packing.Dataset
) -> None:
    damage(cache / packed.folder.name / "train" / file)
    with (
        pytest.raises((OSError, ValueError))
        if file != "done.jsonl" and how != "with another digest"
        else contextlib.nullcontext()
    ):
        packing.open_split(cache / packed.folder.name / "train")  # the report's way in: it packs nothing
    assert_same(packing.prepare(few, SIZE, cache), packed)


def test_photographs_keep_their_aspect(few: Path, tmp_path: Path) -> None:
    squeezed = packing.prepare(few, (32, 32), tmp_path)
    assert (squeezed.train.aspects == SIZE[1] / SIZE[0]).all()


def test_a_cache_of_an_earlier_version_opens_and_is_made_again(
    few: Path, cache: Path, packed: packing.Dataset, decoded: list[str]
) -> None:
    folder = cache / packed.folder.name / "train"
    manifest = json.loads((folder / "manifest.json").read_text())
    for line in manifest["scenes"]:
        del line["size"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "done.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in manifest["scenes"]))
    assert np.isnan(packing.open_split(folder).aspects).all()
    again = packing.prepare(few, SIZE, cache)
    assert_same(again, packed)
    assert (again.train.aspects == packed.train.aspects).all()
    assert sorted(decoded) == sorted(packed.train.names)


def test_a_split_that_is_a_file_is_made_again(few: Path, cache: Path, packed: packing.Dataset) -> None:
    split = cache / packed.folder.name / "val"
    shutil.rmtree(split)
    split.write_text("not a folder")
    assert_same(packing.prepare(few, SIZE, cache), packed)


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_a_flipped_bit_is_packed_again(
    file: str, few: Path, cache: Path, packed: packing.Dataset, decoded: list[str]
) -> None:
    path = cache / packed.folder.name / "train" / file
    content = bytearray(path.read_bytes())
    content[-7] ^= 1  # of the last scene
    path.write_bytes(content)
    assert_same(packing.prepare(few, SIZE, cache), packed)
    assert decoded == [packed.train.names[-1]]


def test_nothing_is_decoded_twice(few: Path, cache: Path, packed: packing.Dataset, decoded: list[str]) -> None:
    advanced = []
    packing.prepare(few, SIZE, cache, lambda text="": advanced.append(text))
    assert decoded == []
    assert advanced == [*packed.train.names, *packed.val.names]


def test_what_is_packed_stays_where_scenes_come_and_go(few: Path, tmp_path: Path, decoded: list[str]) -> None:
    root = Path(shutil.copytree(few, tmp_path / "few"))
    whole = packing.prepare(root, SIZE, tmp_path / "cache")
    image = sorted((root / "leftImg8bit/train").glob("*/*"))[1]
    labels = next((root / "gtFine/train").glob(f"*/{image.name.replace('_leftImg8bit', '_gtFine_labelIds')}"))
    contents = image.read_bytes(), labels.read_bytes()
    image.unlink()
    labels.unlink()
    decoded.clear()
    fewer = packing.prepare(root, SIZE, tmp_path / "cache")
    assert decoded == []
    np.testing.assert_array_equal(fewer.train.images, np.delete(whole.train.images, 1, 0))
    image.write_bytes(contents[0])
    labels.write_bytes(contents[1])
    assert_same(packing.prepare(root, SIZE, tmp_path / "cache"), whole)
    assert decoded == [whole.train.names[1]]


def test_a_storage_that_moves_keeps_what_is_packed(few: Path, tmp_path: Path, decoded: list[str]) -> None:
    storage = tmp_path / "storage"
    shutil.copytree(few, storage / "cache" / "few")
    packing.prepare(storage / "cache" / "few", SIZE, storage / "cache")
    moved = storage.rename(tmp_path / "elsewhere")
    decoded.clear()
    packing.prepare(moved / "cache" / "few", SIZE, moved / "cache")
    assert decoded == []
    assert len(list((moved / "cache").iterdir())) == 2  # the dataset, and it packed once


def test_datasets_outside_the_storage_are_distinguished_by_path(few: Path, tmp_path: Path) -> None:
    for place in ("a", "b"):
        packing.prepare(Path(shutil.copytree(few, tmp_path / place / "few")), SIZE, tmp_path / "storage" / "cache")
    assert len(list((tmp_path / "storage" / "cache").iterdir())) == 2


@pytest.mark.parametrize("name", [b"latin-\xe9", b"it's [1]", b"x" * 200], ids=["latin-1", "quote", "long"])
def test_a_dataset_may_lie_in_any_folder(name: bytes, few: Path, packed: packing.Dataset, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(name)
    shutil.copytree(few, root)
    data = packing.prepare(root, SIZE, tmp_path / "cache")
    assert_same(data, packed)
    data.folder.name.encode()  # it stands in cards
    assert len(data.folder.name) < 100


@pytest.fixture
def drawing(tmp_path: Path) -> protocol.Protocol:
    streets = "[data.streets]\ntrain = 4\nval = 2\nsize = [32, 64]\n[search]"
    return protocol.load(write_protocol(tmp_path / "drawing", PROTOCOL.replace("[search]", streets)))


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync"])
def test_a_full_disk_is_one_line(
    call: str, drawing: protocol.Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match=r"No space left on device; packing .* packed scenes are kept"):
            dataset.ready(drawing, None)
    assert len(dataset.ready(drawing, None).train) == 4


def test_a_file_system_that_cannot_reserve_space(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert len(packing.prepare(few, SIZE, tmp_path / "cache").train) == 4


def test_arrays_are_written_and_read_by_rows(tmp_path: Path) -> None:
    made = arrays.create(tmp_path, 3, (2, 5))
    image, labels = np.full((2, 5, 3), 7, np.uint8), np.full((2, 5), 9, np.uint8)
    made.write(1, image, labels)
    again = arrays.Arrays(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), [image * 0, image, image * 0])
    np.testing.assert_array_equal(again.labels[np.array([1, 0, 1])], [labels, labels * 0, labels])
    np.testing.assert_array_equal(again.labels[1:], [labels, labels * 0])
    assert again.digests()[1] == arrays.digest(image, labels)
    with pytest.raises(IndexError):
        again.images[3]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_is_really_full(few: Path, tiny_disk: Path) -> None:
    """Known before packing; and if the file system says that it has more than it gives."""
    code = (
        "import sys; from collections import namedtuple; from pathlib import Path\n"
        "from segbench.core.errors import UserError; from segbench.data import packing, space\n"
        "def packed():\n"
        "    try: packing.prepare(Path(sys.argv[1]), (64, 128), Path(sys.argv[2]))\n"
        "    except (OSError, UserError) as error: print(error)\n"
        "packed(); space.shutil.disk_usage = lambda _: (1, 0, 10**9); packed()"
    )
    command = [sys.executable, "-c", code, str(few), str(tiny_disk / "cache")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended
    known, found = ended.stdout.splitlines()
    assert "4 train + 2 val scenes at 64x128 needs 0.2 MB in " in known
    assert ", and 0.1 MB are free; free some space, or set SEGBENCH_STORAGE" in known
    assert "No space left on device" in found
    assert not list(tiny_disk.rglob("*.npy"))


def test_a_split_of_which_nothing_can_be_used(few: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(few, tmp_path / "few"))
    for image in (root / "leftImg8bit/val").glob("*/*"):
        image.unlink()
    with pytest.raises(DamagedScenes) as caught:
        packing.prepare(root, SIZE, tmp_path / "cache")
    assert [problem.what.partition(":")[0] for problem in caught.value.problems] == ["labels without image"] * 2
