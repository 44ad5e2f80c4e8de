"""A dataset that lies in the archives it was downloaded as: the same pixels, and one line for each that is unusable."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import UserError
from segbench.core.labels import shipped
from segbench.core.layout import Split
from segbench.core.protocol import Data
from segbench.data import archives, layouts, packing, scenes
from tests.conftest import SIZE

KINDS = ("leftImg8bit", "gtFine")


def zipped(folder: Path, archive: Path, top: str) -> Path:
    """The folder `top` in `folder` as an archive, with the file that all of Cityscapes' archives hold."""
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README", "the same in both")
        for path in sorted((folder / top).rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


@pytest.fixture
def downloads(drawn: Path, tmp_path: Path) -> Path:
    """A folder with the two archives."""
    for kind in KINDS:
        zipped(drawn, tmp_path / "downloads" / f"{kind}_trainvaltest.zip", kind)
    return tmp_path / "downloads"


def test_archives_are_packed_as_what_they_hold(drawn: Path, downloads: Path, tmp_path: Path) -> None:
    unpacked = packing.prepare(drawn, SIZE, tmp_path / "a")
    read = packing.prepare(downloads, SIZE, tmp_path / "b")
    assert read.fingerprint == unpacked.fingerprint
    assert read.train.names == unpacked.train.names
    assert sorted(path.stem for path in downloads.iterdir()) == ["gtFine_trainvaltest", "leftImg8bit_trainvaltest"]
    assert packing.count(downloads) == 32


def test_instances_are_in_the_archive_of_the_labels(drawn: Path, downloads: Path, tmp_path: Path) -> None:
    layout = layouts.of(Data(size=SIZE, labels=shipped("cityscapes-19"), task="panoptic"))
    unpacked, read = (
        packing.prepare(root, SIZE, tmp_path / root.name, label_set=shipped("cityscapes-19"), layout=layout)
        for root in (drawn, downloads)
    )
    assert read.fingerprint == unpacked.fingerprint
    assert read.train.instances is not None
    assert np.asarray(read.train.instances).any()


def test_a_folder_may_lie_beside_an_archive(drawn: Path, downloads: Path, tmp_path: Path) -> None:
    (downloads / "gtFine_trainvaltest.zip").unlink()
    (downloads / "gtFine").symlink_to(drawn / "gtFine")
    mixed = packing.prepare(downloads, SIZE, tmp_path / "cache")
    assert len(mixed.train) == 24


def test_patterns_find_what_archives_hold(downloads: Path, tmp_path: Path) -> None:
    asked = Data(
        size=SIZE,
        layout="pairs",
        images="leftImg8bit/**/*_leftImg8bit.png",
        masks="gtFine/**/*_gtFine_labelIds.png",
        split=Split(share=0.25, group="/(\\w+?)_"),
    )
    found = packing.prepare(downloads, SIZE, tmp_path / "cache", layout=layouts.of(asked))
    assert len(found.train) + len(found.val) == 32
    with pytest.raises(UserError, match=r"no folder .*photos, nor in gtFine_.*zip, leftImg8bit_.*zip, where photos/"):
        layouts.of(
            Data(size=SIZE, layout="pairs", images="photos/*.png", masks="m/*.png", split=Split(share=0.5))
        ).find(downloads, "train")


def test_only_what_changed_is_packed_again(
    drawn: Path, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = packing.prepare(downloads, SIZE, tmp_path / "cache")
    archive = downloads / "leftImg8bit_trainvaltest.zip"
    changed = "leftImg8bit/" + f"train/{before.train.names[0]}_leftImg8bit.png"
    copy = tmp_path / "copy.zip"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(copy, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == changed:
                Image.new("RGB", SIZE[::-1], (1, 2, 3)).save(tmp_path / "new.png")
                content = (tmp_path / "new.png").read_bytes()
            new.writestr(info, content)
    copy.replace(archive)
    decoded: list[str] = []
    decode = packing._decode

    def spy(scene: scenes.Scene, *rest: object) -> object:
        decoded.append(scene.name)
        return decode(scene, *rest)

    monkeypatch.setattr(packing, "_decode", spy)
    after = packing.prepare(downloads, SIZE, tmp_path / "cache")
    assert decoded == [before.train.names[0]]
    assert np.unique(after.train.images[0].reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


def cut_off(archive: Path) -> None:
    os.truncate(archive, archive.stat().st_size // 2)


def empty(archive: Path) -> None:
    archive.write_bytes(b"")


def climbing(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../../outside.png", b"")


def absolute(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("/etc/outside.png", b"")


def encrypted(archive: Path) -> None:
    """Sets the bit in every entry of the list of members, which is where it is read from."""
    content = bytearray(archive.read_bytes())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 8] |= 1
        at = content.find(b"PK\x01\x02", at + 4)
    archive.write_bytes(content)


def twice(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, about the name
        name = next(name for name in file.namelist() if name.endswith(".png"))
        file.writestr(name, b"another")


def copied(archive: Path) -> None:
    (archive.parent / "again.zip").write_bytes(archive.read_bytes())


def without_val(archive: Path) -> None:
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(archive.parent / "new", "w") as new:
        for info in old.infolist():
            if "/val/" not in info.filename:
                new.writestr(info, old.read(info))
    (archive.parent / "new").replace(archive)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (cut_off, r"gtFine_trainvaltest.zip cannot be read as a .zip archive \(.*\), such as after an interrupted"),
        (empty, "cannot be read as a .zip archive"),
        (climbing, r"holds a file that would be written outside of its folder, '../../outside.png'"),
        (absolute, "outside of its folder, '/etc/outside.png'"),
        (encrypted, r"gtFine_trainvaltest.zip is encrypted \(gtFine/"),
        (twice, r"is twice in \S*gtFine_trainvaltest.zip; keep one"),
        (copied, r"is twice in \S*again.zip and \S*gtFine_trainvaltest.zip; keep one"),
        (without_val, r"no folder .*gtFine/val, nor in gtFine_trainvaltest.zip, leftImg8bit_trainvaltest.zip: a"),
    ],
)
def test_unusable_archives_are_one_line(
    damaged: Callable[[Path], None], words: str, downloads: Path, tmp_path: Path
) -> None:
    damaged(downloads / "gtFine_trainvaltest.zip")
    with pytest.raises(UserError, match=words) as found:
        packing.prepare(downloads, SIZE, tmp_path / "cache")
    assert "\n" not in str(found.value)
    assert not (tmp_path / "cache").exists()  # nothing half-written
    assert not (tmp_path / "outside.png").exists()


def test_damaged_members_are_listed(downloads: Path, tmp_path: Path) -> None:
    archive = downloads / "leftImg8bit_trainvaltest.zip"
    with zipfile.ZipFile(archive) as file:
        info = next(info for info in file.infolist() if info.filename.endswith(".png"))
    content = bytearray(archive.read_bytes())
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    content[at : at + 8] = b"\xff" * 8
    archive.write_bytes(content)
    with pytest.raises(packing.DamagedScenes) as found:
        packing.prepare(downloads, SIZE, tmp_path / "cache")
    [problem] = found.value.problems
    assert problem.file == f"{archive.name}/{info.filename}"
    assert "image cannot be read: the archive is damaged there" in problem.what
    assert not list((tmp_path / "cache").rglob("train/manifest.json"))


def test_members_without_partner_are_listed(downloads: Path, tmp_path: Path) -> None:
    archive = downloads / "gtFine_trainvaltest.zip"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(downloads / "new", "w") as new:
        infos = old.infolist()
        lost = next(info for info in infos if info.filename.endswith("_labelIds.png"))
        for info in infos:
            if info is not lost:
                new.writestr(info, old.read(info))
    (downloads / "new").replace(archive)
    _, problems = scenes.find(downloads, lost.filename.split("/")[1])
    [problem] = problems
    assert problem.file.startswith("leftImg8bit_trainvaltest.zip/leftImg8bit/")
    assert problem.what == f"image without labels: expected {lost.filename}"


def test_huge_members_are_refused_unread(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_LARGEST", 10)
    [member, *_] = archives.members(downloads, "gtFine/val")
    with pytest.raises(archives.Damaged, match="more than any picture"):
        member.read()
