import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from segbench.data import pictures, png

LARGEST = 10**6


def written(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def decoded(content: bytes) -> NDArray[np.uint8] | None:
    return png.pixels(io.BytesIO(content), LARGEST)


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    """Of noise, or smooth, as filters like it."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    channels, kind = draw(st.sampled_from([((), np.uint8), ((), np.uint16), ((3,), np.uint8)]))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 65536, (height, width, *channels))
    return Image.fromarray((np.cumsum(values % 5, axis=1) if draw(st.booleans()) else values).astype(kind))


@given(images(), st.integers(0, 9), st.booleans(), st.booleans())
def test_pixels_are_pillows(image: Image.Image, level: int, optimize: bool, dotted: bool) -> None:
    options = {"dpi": (72, 72)} if dotted else {}
    content = written(image, compress_level=level, optimize=optimize, **options)
    found = decoded(content)
    assert found is not None
    assert found.dtype == np.asarray(image).dtype
    np.testing.assert_array_equal(found, np.asarray(image))


@given(images(), st.data())
def test_damaged_files_are_never_accepted(image: Image.Image, data: st.DataObject) -> None:
    content = bytearray(written(image, dpi=(72, 72)))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert decoded(bytes(content)) is None


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(Image.new("RGB", (3, 2)), exif=exif)


def described() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "what may turn it")
    return written(Image.new("RGB", (3, 2)), pnginfo=text)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        written(Image.new("P", (3, 2))),
        written(Image.new("RGBA", (3, 2))),
        written(Image.new("LA", (3, 2))),
        written(Image.new("1", (3, 2))),
        written(Image.new("RGB", (3, 2)), transparency=(0, 0, 0)),
        turned(),
        described(),
        written(Image.new("RGB", (3, 2))) + b"more",
        written(Image.new("L", (2000, 1000))),  # more than LARGEST
    ],
)
def test_what_is_not_plain_is_left_to_pillow(content: bytes) -> None:
    assert decoded(content) is None


def test_a_file_that_says_that_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    content = bytearray(written(Image.new("RGB", (3, 2))))
    content[16:24] = (10_000).to_bytes(4) * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    (tmp_path / "huge.png").write_bytes(content)
    with pytest.raises(pictures.Unreadable, match="10000x10000 pixels"):
        pictures.upright(tmp_path / "huge.png")


def test_pictures_are_the_same_either_way(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "I;16"):
        path = tmp_path / f"{mode}.png"
        path.write_bytes(written(Image.effect_noise((31, 17), 50).convert("L").convert(mode)))
        fast, plain = pictures.upright(path), pictures.decoded(path)
        assert (fast.mode, fast.size) == (plain.mode, plain.size) == (mode, (31, 17))
        np.testing.assert_array_equal(np.asarray(fast), np.asarray(plain))
        assert decoded(path.read_bytes()) is not None
