"""Reads any photograph as RGB pixels; turns class maps into masks, overlays and label ids."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont

from segbench.core.errors import UserError
from segbench.core.labels import Colour
from segbench.data import png
from segbench.data.archives import Damaged, File, Member

LARGEST_MEGAPIXELS = 64  # the class scores of a larger image would not fit beside it in a laptop's memory
_LARGEST = LARGEST_MEGAPIXELS * 10**6
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OVERLAY = 0.55  # opacity of the mask
_PANE = 256  # pixels, the height of a scene on a sheet
_GAP = 6
_ROWS = 256  # rows of a picture converted at once: converting all would hold several copies of a large photograph

# Pillow warns of large images, damaged EXIF data and the like; real problems raise Unreadable. Not `catch_warnings`,
# which is not thread-safe: many threads read images.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unreadable(Exception):
    """A file cannot be used as a picture; the message is a few words on one line, without its path."""


def read(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of an image file, by `upright` and `rgb`. Raises UserError for any other file."""
    try:
        return pixels(rgb(upright(path)))
    except Unreadable as reason:
        raise UserError(
            f"{path} cannot be read as an image: {reason}; expected an image such as PNG or JPEG"
        ) from reason


def upright(path: File) -> Image.Image:
    """An image file, as by `decoded`, plain PNG files faster. Raises Unreadable, also if it is not a regular file."""
    found = plain(path)
    if found is not None:
        return Image.fromarray(found)
    if isinstance(path, Member):
        try:
            return decoded(io.BytesIO(path.read()))
        except Damaged as reason:
            raise Unreadable(str(reason)) from reason
    if not os.path.isfile(path):  # reading a pipe would block
        raise Unreadable("it is not a regular file" if os.path.exists(path) else "there is no such file")
    return decoded(path)


def plain(path: File) -> NDArray[np.uint8 | np.uint16] | None:
    """The pixels of a plain PNG file, by `png.pixels`. None for any other file, and for one that cannot be read."""
    if not path.name.lower().endswith(".png"):
        return None
    with contextlib.suppress(OSError, Damaged):
        if isinstance(path, Member):
            return png.pixels(io.BytesIO(path.read()), _LARGEST)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return png.pixels(file, _LARGEST)
    return None


def decoded(source: Path | BinaryIO, formats: tuple[str, ...] | None = None) -> Image.Image:
    """A file or its content, decoded by Pillow, in its own mode, turned by its EXIF orientation.
    `formats`: those to try; default: all of Pillow's.

    Raises Unreadable if it is not an image, damaged, or larger than LARGEST_MEGAPIXELS.
    """
    try:
        if isinstance(source, Path) and os.path.getsize(source) == 0:
            raise Unreadable("it is empty")
        with Image.open(source, formats=formats) as file:
            width, height = file.size
            if width * height > _LARGEST:
                raise Unreadable(f"it has {height}x{width} pixels, more than {LARGEST_MEGAPIXELS} megapixels")
            file.load()
            return _turned(file)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # for damaged files Pillow's decoders may raise anything
        reason = " ".join(str(error).replace(str(source), "it").split()) or type(error).__name__
        raise Unreadable(reason) from error


def rgb(image: Image.Image) -> Image.Image:
    """The image with 8 bits each for red, green and blue: grey is repeated, transparency dropped, 16 bits scaled to 8.

    Raises Unreadable for pixels without a known range: 32-bit integers and floating-point numbers.
    """
    if image.mode.startswith("I"):  # 16 bits a pixel; `convert` would clip at 255
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise Unreadable("it holds 32-bit integers, whose range is unknown")
        return Image.fromarray((deep // 257 if deep.max() > 255 else deep).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unreadable("it holds floating-point pixels, whose range is unknown")
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise Unreadable(f"its pixels are {image.mode}") from error


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """An RGB image as (H, W, 3) values, copied a few rows at a time: `np.asarray` needs the memory of three images."""
    copy = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS):
        bottom = min(top + _ROWS, image.height)
        copy[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return copy


def mask(categories: NDArray[np.uint8], colours: Sequence[Colour]) -> Image.Image:
    """(H, W) classes as a palette image with their colours; its pixel values are the classes. Pixels without a class
    are black."""
    picture = Image.frombytes("P", categories.shape[::-1], np.ascontiguousarray(categories).tobytes())
    black = [(0, 0, 0)] * (256 - len(colours)) if categories.size and categories.max() >= len(colours) else []
    picture.putpalette([channel for colour in [*colours, *black] for channel in colour])
    return picture


def overlay(image: NDArray[np.uint8], categories: NDArray[np.uint8], colours: Sequence[Colour]) -> Image.Image:
    """The mask laid over the image. image: (H, W, 3) RGB, categories: (H, W)."""
    blended = Image.new("RGB", categories.shape[::-1])
    for top in range(0, len(image), _ROWS):
        rows = slice(top, top + _ROWS)
        coloured = mask(categories[rows], colours).convert("RGB")
        blended.paste(Image.blend(Image.fromarray(image[rows]), coloured, _OVERLAY), (0, top))
    return blended


def label_ids(categories: NDArray[np.uint8], typical_ids: Sequence[int]) -> Image.Image:
    """(H, W) classes as label ids, which the dataset's own evaluator reads: each class's typical one."""
    return Image.fromarray(np.array(typical_ids, np.uint8)[categories])


def sheet(images: NDArray[np.uint8], truths: Sequence[Image.Image], predictions: Sequence[Image.Image]) -> Image.Image:
    """Scenes one below the other: image, truth and prediction side by side, under headings. images: (N, H, W, 3) RGB;
    truths, predictions: their maps as pictures."""
    number, height, width = images.shape[:3]
    pane = (max(1, round(_PANE * width / height)), _PANE)
    font = ImageFont.load_default(16)
    page = Image.new("RGB", (3 * (pane[0] + _GAP) - _GAP, 26 + number * (pane[1] + _GAP) - _GAP), "white")
    for column, heading in enumerate(("image", "truth", "prediction")):
        ImageDraw.Draw(page).text((column * (pane[0] + _GAP), 13), heading, (60, 60, 60), font, anchor="lm")
    for row in range(number):
        panes = (
            Image.fromarray(images[row]).resize(pane, Image.Resampling.BILINEAR),
            truths[row].convert("RGB").resize(pane, Image.Resampling.NEAREST),
            predictions[row].convert("RGB").resize(pane, Image.Resampling.NEAREST),
        )
        for column, picture in enumerate(panes):
            page.paste(picture, (column * (pane[0] + _GAP), 26 + row * (pane[1] + _GAP)))
    return page


def _turned(image: Image.Image) -> Image.Image:
    """The loaded image, upright, which stays valid after its file is closed."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data; the pixels may still be good
        orientation = 1
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
