"""Pictures in and out: any photograph to RGB pixels; category maps to masks, overlays and label ids."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from segbench.core.errors import UserError
from segbench.core.labels import COLOURS, TYPICAL_ID

LARGEST_MEGAPIXELS = 64  # the class scores of a larger image would not fit beside it in a laptop's memory
_OVERLAY = 0.55  # how much of the mask shows
_PANE = 256  # pixels, the height of a scene on a sheet
_GAP = 6
_ROWS = 256  # of an overlay that are made at once


def read(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB pixels of any image file, upright as its EXIF orientation says.

    Grey, palette, transparent, CMYK and 16-bit images are converted. Raises UserError for anything else.
    """
    if not path.is_file():
        raise UserError(f"no image {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); expected an image such as PNG or JPEG")
    return decode(path, str(path))


def decode(source: Path | BinaryIO, name: str) -> NDArray[np.uint8]:
    """The same for an open file, too. `name`: what the errors call it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            with Image.open(source) as file:
                width, height = file.size
                if width * height > LARGEST_MEGAPIXELS * 1e6:
                    raise UserError(
                        f"{name} has {height}x{width} pixels; at most {LARGEST_MEGAPIXELS} megapixels can be "
                        "segmented. Scale it down first"
                    )
                return _rgb(ImageOps.exif_transpose(file))
    except (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        reason = str(error).replace(name, "it").splitlines()[0]
        raise UserError(f"{name} cannot be read as an image ({reason})") from error


def mask(categories: NDArray[np.uint8]) -> Image.Image:
    """(H, W) categories as a palette image: its colours are the legend's, its pixel values the categories."""
    picture = Image.frombytes("P", categories.shape[::-1], np.ascontiguousarray(categories).tobytes())
    picture.putpalette([channel for colour in COLOURS for channel in colour])
    return picture


def overlay(image: NDArray[np.uint8], categories: NDArray[np.uint8]) -> Image.Image:
    """The mask laid over the image. image: (H, W, 3) RGB, categories: (H, W)."""
    made = Image.new("RGB", categories.shape[::-1])
    for top in range(0, len(image), _ROWS):  # large photographs would be in memory several times
        rows = slice(top, top + _ROWS)
        colours = mask(categories[rows]).convert("RGB")
        made.paste(Image.blend(Image.fromarray(image[rows]), colours, _OVERLAY), (0, top))
    return made


def label_ids(categories: NDArray[np.uint8]) -> Image.Image:
    """(H, W) categories as the label ids the official Cityscapes evaluator reads: each category's typical label."""
    return Image.fromarray(np.array(TYPICAL_ID, np.uint8)[categories])


def sheet(images: NDArray[np.uint8], truths: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> Image.Image:
    """Scenes one below the other: image, truth and prediction side by side, under headings.

    images: (N, H, W, 3) RGB; truths, predictions: (N, H, W) categories.
    """
    number, height, width = truths.shape
    pane = (max(1, round(_PANE * width / height)), _PANE)
    font = ImageFont.load_default(16)
    made = Image.new("RGB", (3 * (pane[0] + _GAP) - _GAP, 26 + number * (pane[1] + _GAP) - _GAP), "white")
    for column, heading in enumerate(("image", "truth", "prediction")):
        ImageDraw.Draw(made).text((column * (pane[0] + _GAP), 13), heading, (60, 60, 60), font, anchor="lm")
    for row in range(number):
        panes = (
            Image.fromarray(images[row]).resize(pane, Image.Resampling.BILINEAR),
            mask(truths[row]).convert("RGB").resize(pane, Image.Resampling.NEAREST),
            mask(predictions[row]).convert("RGB").resize(pane, Image.Resampling.NEAREST),
        )
        for column, one in enumerate(panes):
            made.paste(one, (column * (pane[0] + _GAP), 26 + row * (pane[1] + _GAP)))
    return made


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits a pixel; `convert` would cut off at 255
        deep = np.asarray(image).astype(np.float64)
        grey = (deep / 257).clip(0, 255).astype(np.uint8) if deep.max(initial=0) > 255 else deep.astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))
