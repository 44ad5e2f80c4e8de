"""Whatever a user drops in: read it, or say why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import UserError
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


def test_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (50, 50)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    Image.new("1", (30000, 30000)).save(tmp_path / "huge.png")
    expected = {
        "absent.png": "no image",
        "empty.png": "is empty",
        "text.png": "cannot be read as an image",
        "cut.png": "cannot be read as an image",
        "huge.png": "30000x30000|decompression bomb",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message):
            pictures.read(tmp_path / name)
    with pytest.raises(UserError):
        pictures.read(tmp_path)


def test_mask_holds_categories_and_shows_colours() -> None:
    categories = np.arange(8, dtype=np.uint8).reshape(2, 4)
    mask = pictures.mask(categories)
    np.testing.assert_array_equal(np.asarray(mask), categories)
    assert mask.convert("RGB").getpixel((1, 0)) == (128, 64, 128)
    assert pictures.overlay(np.zeros((2, 4, 3), np.uint8), categories).size == (4, 2)
