"""The objects of a map of classes: what touches is one. The baseline of every network that tells objects apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.core import panoptic
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID

_SMALLEST = 1 / 16384  # of the image: 4 pixels of 256×256


def components(classes: NDArray[np.integer], labels: LabelSet) -> NDArray[np.int64]:
    """(B, H, W) classes, or IGNORED, to (B, H, W) segment ids as in `core/panoptic.py`.

    The pixels of a thing that touch, diagonally too, are one object; those of a class of stuff are one segment. An
    object smaller than 1/16384 of the image is dropped, its pixels are VOID: it is a stray patch more often than an
    object.
    """
    base = np.full(256, VOID)
    base[list(panoptic.stuff(labels))] = np.array(panoptic.stuff(labels), np.int64) * SPAN
    segments: NDArray[np.int64] = base[classes]
    for thing in panoptic.things(labels):
        number = _numbered(classes == thing)
        np.copyto(segments, thing * SPAN + number, where=number > 0)
    return segments


def _numbered(where: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(B, H, W) to the number of each pixel's component in its image, 1, 2, …; 0 outside and in those too small."""
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), bool)
    touching[1] = True  # within an image, never from one to the next
    found, count = ndimage.label(where, touching)
    sizes = np.bincount(found.reshape(-1), minlength=count + 1)
    kept = sizes >= _SMALLEST * where[0].size
    kept[0] = False
    running = np.cumsum(kept)  # SciPy numbers in the order of the pixels, hence image by image
    last = np.maximum.accumulate(running[found.reshape(len(found), -1).max(1)])
    earlier = np.concatenate([[0], last[:-1]])[:, None, None]
    return np.where(kept[found], np.minimum(running[found] - earlier, SPAN - 1), 0)
