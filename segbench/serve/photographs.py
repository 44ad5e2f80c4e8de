"""What was uploaded, as pixels: which format it has, how large it is, and its RGB values."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segbench.core.errors import UserError
from segbench.data import pictures
from segbench.engine import inference

FORMATS = ("JPEG", "PNG", "WEBP")  # JPEG has MPO in it, with more pictures behind it, as some phones make it
NAMES = "JPEG, PNG or WebP"
_NAME = "the photograph"


class WrongFormat(UserError):
    """The upload is no photograph of a format that is served."""


class Photograph(NamedTuple):
    """A decoded photograph, and how the networks see it."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    seen: dict[tuple[int, int], NDArray[np.uint8]]  # for each (height, width), pixels of that size
    seconds: float  # that all this took


def megapixels(content: bytes, most: float) -> float:
    """Of an encoded photograph, by its header. Raises WrongFormat, and UserError for more than `most`."""
    if not content:
        raise UserError(f"the upload is empty (0 bytes); expected {NAMES}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            width, height = file.size
    except UnidentifiedImageError as error:
        raise WrongFormat(f"the upload is not {NAMES}; convert it first") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{_NAME} cannot be read: {str(error).splitlines()[0]}") from error
    if width * height > most * 1e6:
        raise UserError(
            f"{_NAME} has {height}x{width} pixels, {width * height / 1e6:.0f} megapixels; at most {most:g} are "
            "served. Scale it down first"
        )
    return width * height / 1e6


def decode(content: bytes, sizes: Iterable[tuple[int, int]]) -> Photograph:
    """The photograph of a `content` that `megapixels` has passed, upright, and at each of the `sizes`.

    Raises UserError where it is damaged.
    """
    started = time.perf_counter()
    try:
        pixels = pictures.pixels(pictures.rgb(pictures.decoded(io.BytesIO(content), FORMATS)))
    except pictures.Unreadable as reason:
        raise UserError(f"{_NAME} cannot be read: {reason}") from reason
    seen = {size: inference.seen(pixels, size) for size in set(sizes)}
    return Photograph(pixels, seen, time.perf_counter() - started)
