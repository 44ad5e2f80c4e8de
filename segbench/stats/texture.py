"""Whether categories that look alike are confused: confusions inside of regions, and how alike two categories look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segbench.stats.boundary import border_distance
from segbench.stats.taxonomy import Categories

INTERIOR = 3  # pixels: nearer to a true border, an error is one of outline
BINS = 16
CUES = ("light", "red-green", "blue-yellow", "gradient")


def interior_confusions(
    truth: Categories, predicted: Categories, classes: int, void: int | None = None
) -> NDArray[np.int64]:
    """(classes, classes) pixels of one image that lie more than INTERIOR pixels from a true border: true class by
    predicted class; without `void`, in truth and in prediction."""
    counted = border_distance(truth) > INTERIOR
    if void is not None:
        counted &= (truth != void) & (predicted != void)
    cells = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def appearance(image: NDArray[np.uint8], truth: Categories, classes: int) -> NDArray[np.int64]:
    """(classes, 4, BINS) histograms of one image: the pixels of each true class by each of CUES.

    image: (H, W, 3) RGB. Light is the mean of the channels, then two opponent colours, red - green and blue minus
    their mean; texture is the length of the gradient of light, in steps that double.
    """
    red, green, blue = (image[..., i].astype(np.float64) for i in range(3))
    light = (red + green + blue) / 3
    gradient = np.hypot(*np.gradient(light))
    places = (
        light / 256,
        (red - green + 256) / 512,
        (blue - (red + green) / 2 + 256) / 512,
        np.log2(1 + gradient) / 8,
    )
    made = np.zeros((classes, len(CUES), BINS), np.int64)
    for cue, place in enumerate(places):
        cells = truth.astype(np.int64) * BINS + np.clip(place * BINS, 0, BINS - 1).astype(np.int64)
        made[:, cue] = np.bincount(cells.ravel(), minlength=classes * BINS).reshape(classes, BINS)
    return made


def similarity(histograms: NDArray[np.floating]) -> NDArray[np.float64]:
    """(…, classes, 4, BINS) histograms to (…, classes, classes): how alike two classes look, 0 … 1. The overlap of
    their histograms (Σ min, M. J. Swain, D. H. Ballard, Color indexing, IJCV 1991), mean over CUES; NaN for a class
    that does not occur."""
    totals = histograms.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.asarray(histograms / totals, np.float64)
    overlap = np.minimum(shares[..., :, None, :, :], shares[..., None, :, :, :]).sum(-1)
    return np.asarray(overlap.mean(-1))


def excess_similarity(confusions: NDArray[np.floating], alike: NDArray[np.floating]) -> NDArray[np.float64]:
    """How much more alike the confused pairs are than pairs by chance: (…, C, C) confusions and similarity to (…).

    The mean similarity of a wrong pixel's true and predicted class, minus that expected if the wrong pixels of each
    true class went to the others in proportion to their sizes. 0: looks play no part; positive: categories that look
    alike are confused more. NaN where nothing is wrong.
    """
    counts = np.asarray(confusions, np.float64)
    off = ~np.eye(counts.shape[-1], dtype=np.bool_)
    usable = off & np.isfinite(alike)
    likeness = np.where(usable, alike, 0.0)
    wrong = np.where(usable, counts, 0.0)
    sizes = counts.sum(-1)
    chance = np.where(usable, sizes[..., None, :], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = wrong.sum(-1, keepdims=True) * chance / chance.sum(-1, keepdims=True)
        expected = np.where(np.isfinite(chance), chance, 0.0)
        return np.asarray(((wrong - expected) * likeness).sum((-1, -2)) / wrong.sum((-1, -2)))
