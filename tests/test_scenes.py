"""Dataset files as they come: one reader for packing and predicting, and everything that cannot be used is listed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from segbench.data import packing, pictures, scenes
from segbench.data.packing import DamagedScenes
from tests.conftest import SIZE
from tests.test_data import image_of, labels_of
from tests.test_pictures import large_png


def problems_of(root: Path, cache: Path) -> list[scenes.Problem]:
    with pytest.raises(DamagedScenes) as caught:
        packing.prepare(root, SIZE, cache)
    for problem in caught.value.problems:
        assert len(f"{problem.file}: {problem.what}".encode().splitlines()) == 1
    return caught.value.problems


def deep_grey(path: Path) -> None:
    Image.fromarray((np.arange(32 * 64) * 32).astype(np.uint16).reshape(SIZE)).save(path, "PNG")


def quarter_turned(path: Path) -> None:
    image = Image.open(path).convert("RGB")
    exif = image.getexif()
    exif[274] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, "PNG", exif=exif)


def palette(path: Path) -> None:
    Image.open(path).convert("P").save(path, "PNG", transparency=b"\x00\x80")


def alpha(path: Path) -> None:
    Image.open(path).convert("RGBA").save(path, "PNG")


def cmyk(path: Path) -> None:
    Image.open(path).convert("CMYK").save(path, "JPEG")


@pytest.mark.parametrize("made", [deep_grey, quarter_turned, palette, alpha, cmyk])
def test_packing_sees_what_predict_sees(made: Callable[[Path], None], dataset: Path, tmp_path: Path) -> None:
    path = image_of(dataset)
    made(path)
    data = packing.prepare(dataset, SIZE, tmp_path / "cache")
    seen = pictures.read(path)
    assert seen.shape == (*SIZE, 3)
    np.testing.assert_array_equal(data.train.images[0], seen)


def test_sixteen_bits_are_scaled_to_eight(dataset: Path, tmp_path: Path) -> None:
    deep_grey(image_of(dataset))
    packed = packing.prepare(dataset, SIZE, tmp_path / "cache").train.images[0]
    expected = (np.arange(32 * 64) * 32 // 257).astype(np.uint8).reshape(SIZE)
    np.testing.assert_array_equal(packed, np.repeat(expected[..., None], 3, 2))


def test_a_turned_photograph_is_upright(dataset: Path, tmp_path: Path) -> None:
    path = image_of(dataset)
    before = np.asarray(Image.open(path).convert("RGB"))
    quarter_turned(path)
    np.testing.assert_array_equal(packing.prepare(dataset, SIZE, tmp_path / "cache").train.images[0], before)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def looping(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text_bomb(path: Path) -> None:
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("comment", "x" * 2_000_000, zip=True)
    Image.open(path).save(path, "PNG", pnginfo=chunk)


def bad_text(path: Path) -> None:
    with Image.open(path) as image:
        pixels = image.copy()
    pixels.save(path, "PNG")
    content = path.read_bytes()
    chunk = b"zTXt" + b"comment\x00\x00" + b"this is not compressed"
    block = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(content[:33] + block + content[33:])  # after IHDR


def bomb(path: Path) -> None:
    large_png(path, 10_000)


def floats(path: Path) -> None:
    Image.fromarray(np.full(SIZE, 0.5, np.float32)).save(path, "TIFF")


def long_integers(path: Path) -> None:
    Image.fromarray(np.full(SIZE, 1 << 20, np.int32)).save(path, "TIFF")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


UNUSABLE = {
    dangling: "it is a broken link",
    looping: "it is a broken link",
    pipe: "it is not a regular file",
    folder: "it is not a regular file",
    text_bomb: "cannot be read",
    bomb: "more than 64 megapixels",
    floats: "floating-point pixels",
    long_integers: "32-bit integers",
    cut: "cannot be read",
}


@pytest.mark.parametrize("made", UNUSABLE)
def test_an_image_that_cannot_be_used_is_listed(made: Callable[[Path], None], dataset: Path, tmp_path: Path) -> None:
    path = image_of(dataset)
    made(path)
    (problem,) = problems_of(dataset, tmp_path / "cache")
    assert problem.file == str(path.relative_to(dataset))
    assert UNUSABLE[made] in problem.what


@pytest.mark.parametrize("made", [dangling, pipe, folder, text_bomb, bomb, cut])
def test_labels_that_cannot_be_used_are_listed(made: Callable[[Path], None], dataset: Path, tmp_path: Path) -> None:
    path = labels_of(image_of(dataset))
    made(path)
    (problem,) = problems_of(dataset, tmp_path / "cache")
    assert problem.file == str(path.relative_to(dataset))


def test_damaged_text_in_a_png_is_listed_or_passed_over(dataset: Path, tmp_path: Path) -> None:
    """As Pillow decides; the pixels are not touched by it."""
    before = packing.prepare(dataset, SIZE, tmp_path / "before")
    bad_text(image_of(dataset))
    try:
        outcome = packing.prepare(dataset, SIZE, tmp_path / "after").fingerprint
    except DamagedScenes as damaged:
        outcome = str(damaged)
    assert outcome in (before.fingerprint, "1 problems")


def test_a_scene_with_two_images_is_listed(dataset: Path, tmp_path: Path) -> None:
    image = image_of(dataset)
    Image.new("RGB", SIZE[::-1]).save(image.with_suffix(".jpg"))
    (problem,) = problems_of(dataset, tmp_path / "cache")
    assert problem.file == str(image.relative_to(dataset))
    assert problem.what == f"{image.with_suffix('.jpg').name} is the same scene; remove one of them"


@pytest.mark.parametrize("name", [b"a\xe9_1_2", b"two words", b"[bold]", b"line\nbreak", b"._a"])
def test_a_name_that_cannot_be_used_is_listed(name: bytes, dataset: Path, tmp_path: Path) -> None:
    image = image_of(dataset)
    labels = labels_of(image)
    image.rename(image.with_name(os.fsdecode(name) + "_leftImg8bit.png"))
    labels.rename(labels.with_name(os.fsdecode(name) + "_gtFine_labelIds.png"))
    found = problems_of(dataset, tmp_path / "cache")
    assert [problem.what.partition(" must")[0].partition(" may")[0] for problem in found] == ["its name", "its name"]


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    city = image_of(dataset).parent
    iterdir = Path.iterdir

    def refuse(path: Path) -> object:
        if path == city:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError):
        packing.prepare(dataset, SIZE, tmp_path / "cache")


def test_pillow_prints_nothing(tmp_path: Path) -> None:
    """Its warnings of large images and damaged EXIF data would stand between ours."""
    large, damaged = tmp_path / "large.png", tmp_path / "damaged.jpg"
    large_png(large, 10_000)  # above Pillow's own limit for a warning
    Image.new("RGB", (8, 8)).save(damaged, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05broken")
    code = (
        "import sys; from pathlib import Path; from segbench.data import pictures\n"
        "for name in sys.argv[1:]:\n"
        "    try: pictures.upright(Path(name))\n"
        "    except pictures.Unreadable as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(large), str(damaged)], capture_output=True, text=True)
    assert ended.stderr == ""
    assert "more than 64 megapixels" in ended.stdout


def photographs() -> Path:
    """A folder of real photographs with labels, where the environment names one."""
    root = Path(os.environ.get("CITYSCAPES_DATASET", "nowhere"))
    if not (root / "leftImg8bit" / "val").is_dir():
        pytest.skip("CITYSCAPES_DATASET names no dataset of photographs")
    return root


def test_real_photographs_are_packed_as_pillow_decodes_them(tmp_path: Path) -> None:
    root = photographs()
    found, problems = scenes.find(root, "val")
    assert not problems
    few = tmp_path / "few"
    for scene in found[:3]:
        for split in ("train", "val"):
            for path in (scene.image, scene.labels):
                copy = few / str(path.relative_to(root)).replace("val", split, 1)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    data = packing.prepare(few, (40, 50), tmp_path / "storage" / "cache")
    for index, scene in enumerate(found[:3]):
        image = Image.open(scene.image).convert("RGB").resize((50, 40), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(data.val.images[index], np.asarray(image))
