"""Maps of scenes as small pictures: what a region's prediction leans on, and a network's query masks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

Pixels = NDArray[np.uint8]

_WIDTH = 384  # of a picture, in pixels; photographs are enlarged or reduced to it
_QUALITY = 80  # of WebP
_FOR, _AGAINST = (217, 95, 2), (43, 131, 186)  # orange and blue
_STRONGEST = 0.75  # opacity of the strongest tile
_DARK = 0.25  # how much of the photograph is left outside of a query's mask
_BOX = "#ffffff"


def region(photograph: Pixels, box: Sequence[int]) -> str:
    """The photograph with the region's box."""
    return _webp(_boxed(_scaled(photograph), photograph.shape, box))


def tiles(photograph: Pixels, box: Sequence[int], shape: Sequence[int], values: Sequence[float]) -> str:
    """The values of tiles over a grey photograph: orange speaks for the category, blue against it."""
    grid = np.asarray(values, np.float64).reshape(shape[0], shape[1])
    strongest = float(np.abs(grid).max()) or 1.0
    ground = _scaled(photograph).convert("L").convert("RGB")
    alpha = np.kron(np.abs(grid) / strongest * _STRONGEST * 255, np.ones((8, 8))).round().astype(np.uint8)
    tint = np.where(np.kron(grid, np.ones((8, 8)))[..., None] > 0, _FOR, _AGAINST).astype(np.uint8)
    painted = Image.fromarray(np.dstack([tint, alpha]), "RGBA").resize(ground.size, Image.Resampling.NEAREST)
    ground.paste(painted.convert("RGB"), mask=painted.getchannel("A"))
    return _webp(_boxed(ground, photograph.shape, box))


def query(photograph: Pixels, rows: Sequence[str]) -> str:
    """The photograph, dark outside of the mask; `rows`: its cells in tenths."""
    ground = _scaled(photograph)
    cells = np.array([[int(cell) for cell in row] for row in rows], np.float64) / 9
    mask = Image.fromarray((cells * 255).astype(np.uint8)).resize(ground.size, Image.Resampling.BILINEAR)
    dark = Image.eval(ground, lambda value: int(value * _DARK))
    return _webp(Image.composite(ground, dark, mask))


def _scaled(photograph: Pixels) -> Image.Image:
    height, width = photograph.shape[:2]
    return Image.fromarray(np.asarray(photograph)).resize(
        (_WIDTH, max(round(_WIDTH * height / width), 1)), Image.Resampling.LANCZOS
    )


def _boxed(picture: Image.Image, shape: Sequence[int], box: Sequence[int]) -> Image.Image:
    down, across = picture.height / shape[0], picture.width / shape[1]
    top, left, bottom, right = box
    corners = (left * across, top * down, right * across - 1, bottom * down - 1)
    ImageDraw.Draw(picture).rectangle(corners, outline=ImageColor.getrgb(_BOX), width=2)
    return picture


def _webp(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
