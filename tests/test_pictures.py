"""Whatever a user drops in: read it, or say why not."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.data import pictures

RED, GREY = (200, 30, 40), 128


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "L", "LA", "P", "1", "I;16", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((6, 9), GREY * 257, np.uint16))
    image = deep if mode == "I;16" else Image.new("RGB", (9, 6), (GREY,) * 3).convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path)
    pixels = pictures.read(path)
    assert pixels.shape == (6, 9, 3)
    assert pixels.dtype == np.uint8
    if mode not in ("1", "P"):  # these two have no such grey
        assert np.abs(pixels.astype(int) - GREY).max() <= 4


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), RED)
    exif = image.getexif()
    exif[274] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert pictures.read(tmp_path / "turned.jpg").shape == (8, 4, 3)


def large_png(path: Path, side: int) -> None:
    """A small file that says it has side x side pixels."""
    Image.new("L", (1, 1)).save(path, "PNG")
    content = path.read_bytes()
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + content[24:29]
    path.write_bytes(content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:])


def test_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (50, 50)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    large_png(tmp_path / "large.png", 10_000)
    large_png(tmp_path / "huge.png", 100_000)
    expected = {
        "absent.png": "absent.png cannot be read as an image: there is no such file",
        "empty.png": "empty.png cannot be read as an image: it is empty",
        "text.png": "text.png cannot be read as an image: cannot identify",
        "cut.png": "cut.png cannot be read as an image: image file is truncated|broken PNG",
        "large.png": "it has 10000x10000 pixels, more than 64 megapixels",
        "huge.png": "decompression bomb",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message):
            pictures.read(tmp_path / name)
    with pytest.raises(UserError, match="it is not a regular file"):
        pictures.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")  # would be waited for for ever
    with pytest.raises(UserError, match="it is not a regular file"):
        pictures.read(tmp_path / "pipe.png")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="floating-point pixels, whose range is unknown"):
        pictures.read(tmp_path / "float.tif")


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(where=st.integers(0, 400), what=st.binary(min_size=1, max_size=8), kind=st.sampled_from(["PNG", "JPEG", "TIFF"]))
def test_any_damage_is_read_or_refused_in_one_line(damaged: Path, where: int, what: bytes, kind: str) -> None:
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(damaged, kind)
    content = bytearray(damaged.read_bytes())
    start = where % len(content)
    content[start : start + len(what)] = what
    damaged.write_bytes(content)
    try:
        said = f"{pictures.read(damaged).dtype}"
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) == 1


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "image"


def test_mask_holds_categories_and_shows_colours() -> None:
    categories = np.arange(8, dtype=np.uint8).reshape(2, 4)
    mask = pictures.mask(categories, DEFAULT.colours)
    np.testing.assert_array_equal(np.asarray(mask), categories)
    assert mask.convert("RGB").getpixel((1, 0)) == (128, 64, 128)
    assert pictures.overlay(np.zeros((2, 4, 3), np.uint8), categories, DEFAULT.colours).size == (4, 2)
