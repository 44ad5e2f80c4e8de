"""How errors depend on the distance from a class border: whether outlines are wrong, or whole regions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

EDGES = (1, 2, 3, 5, 10, 20)  # pixels


def boundary_errors(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    uncounted: Collection[int],
    edges: Sequence[float] = EDGES,
) -> NDArray[np.int64]:
    """Counts wrong pixels and all pixels of one image by distance from the nearest class border in the truth.

    truth, predicted: (H, W) classes. uncounted: values of the truth that are void. edges: ascending distances, pixels.
    Returns (len(edges) + 1, 2): row i counts pixels with edges[i-1] ≤ distance < edges[i], the first those nearer than
    edges[0] and the last all from edges[-1] on; column 0 counts the wrong ones, column 1 all. Sum over images, then
    divide.

    A *border pixel* has a different true class above, below, left or right of it, on both sides of the border; a
    pixel's distance is the Euclidean distance between its centre and the nearest border pixel's, 0 for a border pixel.
    An image of a single class has no border: all its pixels are in the last row. The image's edge is not a border.

    Void pixels are not counted, because they have no label; but the edge of a void region is a border like any other,
    because the labelled pixels beside it are as hard. Predicting void for a labelled pixel is an error. This is the
    trimap analysis of Krähenbühl & Koltun, Efficient inference in fully connected CRFs, NeurIPS 2011
    (arXiv 1210.5644), with disjoint bands; `trimap_errors` converts it to theirs.
    """
    distance = border_distance(truth)
    counted = ~np.isin(truth, list(uncounted))
    bands = np.digitize(distance[counted], edges)
    wrong = (truth != predicted)[counted]
    counts = [np.bincount(bands[chosen], minlength=len(edges) + 1) for chosen in (wrong, np.ones_like(wrong))]
    return np.stack(counts, axis=1).astype(np.int64)


def trimap_errors(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(E + 1, 2) counts of `boundary_errors` to (E + 1,) shares 0..1: the share of wrong pixels among those nearer to a
    border than each edge, the last among all pixels; NaN if there are no such pixels."""
    wrong, total = np.cumsum(counts, axis=0).T
    return np.asarray(np.divide(wrong, total, out=np.full(len(total), np.nan), where=total > 0))


def border_distance(truth: NDArray[np.integer]) -> NDArray[np.float64]:
    """(H, W) distances in pixels from the nearest border pixel of `boundary_errors`; infinite without one."""
    from scipy import ndimage  # takes a quarter of a second, so not when the statistics are imported

    border = _border(truth)
    return np.asarray(ndimage.distance_transform_edt(~border) if border.any() else np.full(truth.shape, np.inf))


def _border(truth: NDArray[np.integer]) -> NDArray[np.bool_]:
    border = np.zeros(truth.shape, np.bool_)
    across, down = truth[:, 1:] != truth[:, :-1], truth[1:] != truth[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border
