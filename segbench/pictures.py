"""Category maps as pictures: the note's colours, overlays, label ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.labels import COLOURS, TYPICAL_ID

_OVERLAY = 0.55  # how much of the mask shows


def mask(categories: NDArray[np.uint8]) -> Image.Image:
    """(H, W) categories as a palette image: its colours are the legend's, its pixel values the categories themselves."""
    picture = Image.frombytes("P", categories.shape[::-1], categories.tobytes())
    picture.putpalette([channel for colour in COLOURS for channel in colour])
    return picture


def overlay(image: NDArray[np.uint8], categories: NDArray[np.uint8]) -> Image.Image:
    """image: (H, W, 3) RGB, categories: (H, W). The mask laid over the image."""
    colours = np.array(COLOURS, np.float32)[categories]
    return Image.fromarray((image * (1 - _OVERLAY) + colours * _OVERLAY).astype(np.uint8))


def label_ids(categories: NDArray[np.uint8]) -> Image.Image:
    """(H, W) categories as the label ids that the official Cityscapes evaluator reads: each category's typical label."""
    return Image.fromarray(np.array(TYPICAL_ID, np.uint8)[categories])
