"""How errors depend on the distance from a class border: thin things and outlines, or whole regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segbench.core.labels import VOID

EDGES = (1, 2, 3, 5, 10, 20)  # pixels


def boundary_errors(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], edges: Sequence[float] = EDGES
) -> NDArray[np.int64]:
    """Wrong and all pixels of one image, by their distance from the nearest class border in the truth.

    truth, predicted: (H, W) categories 0..7. edges: ascending distances in pixels. Returns (len(edges) + 1, 2): row i
    counts pixels with edges[i-1] ≤ distance < edges[i], the first those nearer than edges[0] and the last all from
    edges[-1] on; column 0 counts the wrong ones, column 1 all. Sum over images, then divide.

    A *border pixel* has a different true category above, below, left or right of it, on both sides of the border; a
    pixel's distance is the Euclidean one between its centre and the nearest border pixel's, so 0 for these themselves.
    An image of a single category has no border: all its pixels are in the last row. The image's edge is no border.

    Void pixels in the truth are not counted, since nobody has said what is there; but the edge of a void region is a
    border like any other, since the labelled pixels beside it are as hard. Predicting void where there is a label is
    an error. The same analysis as the trimaps of Krähenbühl & Koltun, Efficient inference in fully connected CRFs,
    NeurIPS 2011 (arXiv 1210.5644), with disjoint bands; `trimap_errors` makes theirs of it.
    """
    from scipy import ndimage  # a quarter of a second, which importing the statistics need not cost

    border = _border(truth)
    distance = ndimage.distance_transform_edt(~border) if border.any() else np.full(truth.shape, np.inf)
    counted = truth != VOID
    bands = np.digitize(distance[counted], edges)
    wrong = (truth != predicted)[counted]
    found = [np.bincount(bands[chosen], minlength=len(edges) + 1) for chosen in (wrong, np.ones_like(wrong))]
    return np.stack(found, axis=1).astype(np.int64)


def trimap_errors(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(E + 1, 2) counts, as `boundary_errors` makes them, to (E + 1,) shares 0..1: how many of the pixels nearer to a
    border than each edge are wrong, the last being that of all pixels; NaN where there are no such pixels."""
    wrong, total = np.cumsum(counts, axis=0).T
    return np.asarray(np.divide(wrong, total, out=np.full(len(total), np.nan), where=total > 0))


def _border(truth: NDArray[np.integer]) -> NDArray[np.bool_]:
    border = np.zeros(truth.shape, np.bool_)
    across, down = truth[:, 1:] != truth[:, :-1], truth[1:] != truth[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border
