"""What kind of errors a class map makes, counted per image, so that every measure can be resampled over images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.stats.contours import boundary_f, contours
from segbench.stats.regions import SIZES, regions
from segbench.stats.taxonomy import Categories, error_parts
from segbench.stats.texture import interior_confusions

Counts = NDArray[np.floating]
Values = NDArray[np.float64]


class Behaviour(NamedTuple):
    """Counts with any leading axes, often (N,) images or (R,) resamples; C classes."""

    parts: Counts  # (…, C, 7) pixels: hits, then taxonomy.PARTS
    found: Counts  # (…, C, 5, 2) true regions by size: found, all
    supported: Counts  # (…, C, 5, 2) predicted regions by size: supported by the truth, all
    perimeter: Counts  # (…, C, 2) of matched regions: predicted, true
    outline: Counts  # (…, C, 4) as Contours.outline
    band: Counts  # (…, C, 2) as Contours.band
    confusions: Counts  # (…, C, C) pixels inside of regions: true by predicted class

    def over(self, times: NDArray[np.integer]) -> Behaviour:
        """The sums over the images of each resample: (N, …) arrays and (R, N) draws to (R, …) arrays."""
        weights = times.astype(np.float64)
        return Behaviour(
            *((weights @ part.reshape(len(part), -1)).reshape(len(times), *part.shape[1:]) for part in self)
        )

    @property
    def total(self) -> Behaviour:
        """The sums over all images."""
        return Behaviour(*(part.sum(0) for part in self))


def behaviour(truth: Categories, predicted: Categories, classes: int, void: int | None = None) -> Behaviour:
    """Of one image. truth, predicted: (H, W) categories; `void`: the category of pixels without a label."""
    found, supported, perimeter = regions(truth, predicted, classes, void)
    outline, band = contours(truth, predicted, classes, void)
    return Behaviour(
        error_parts(truth, predicted, classes, void).astype(np.float64),
        found.astype(np.float64),
        supported.astype(np.float64),
        perimeter,
        outline.astype(np.float64),
        band.astype(np.float64),
        interior_confusions(truth, predicted, classes, void).astype(np.float64),
    )


def stacked(images: list[Behaviour]) -> Behaviour:
    """Single images as one Behaviour of (N, …) arrays."""
    return Behaviour(*(np.stack(parts) for parts in zip(*images, strict=True)))


def part_shares(counts: Behaviour) -> Values:
    """(…, C, 7): IoU and the six parts of the errors as shares of each class's union; they sum to 1, or are NaN."""
    return _ratio(counts.parts, counts.parts.sum(-1, keepdims=True))


def error_share(counts: Behaviour, part: int) -> Values:
    """(…): the mean over classes of one part, an index into (hits, *PARTS), as a share of the union."""
    return _mean(part_shares(counts)[..., part])


def found_share(counts: Behaviour, smallest: int = 0, largest: int = len(SIZES)) -> Values:
    """(…): the share of true regions found, of all classes, in the sizes `smallest` to `largest`, both included."""
    sums = counts.found[..., smallest : largest + 1, :].sum((-3, -2))
    return _ratio(sums[..., 0], sums[..., 1])


def unsupported_share(counts: Behaviour, smallest: int = 0, largest: int = len(SIZES)) -> Values:
    """(…): the share of predicted regions that the truth does not support, likewise."""
    sums = counts.supported[..., smallest : largest + 1, :].sum((-3, -2))
    return 1 - _ratio(sums[..., 0], sums[..., 1])


def fragments(counts: Behaviour) -> Values:
    """(…): predicted regions per true region. Above 1: surfaces fall to pieces; below 1: regions are lost or merge."""
    return _ratio(counts.supported[..., 1].sum((-2, -1)), counts.found[..., 1].sum((-2, -1)))


def perimeter_ratio(counts: Behaviour) -> Values:
    """(…): the outline of matched regions, predicted over true. Below 1: smoother than the truth."""
    sums = counts.perimeter.sum(-2)
    return _ratio(sums[..., 0], sums[..., 1])


def outline_f(counts: Behaviour) -> Values:
    """(…): boundary F, mean over classes."""
    return _mean(boundary_f(counts.outline))


def boundary_iou(counts: Behaviour) -> Values:
    """(…): Boundary IoU, mean over classes."""
    return _mean(_ratio(counts.band[..., 0], counts.band[..., 1]))


def _ratio(part: NDArray[np.floating], whole: NDArray[np.floating]) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, np.float64)


def _mean(per_class: Values) -> Values:
    """Over the classes that occur; NaN where none does."""
    defined = np.isfinite(per_class)
    return _ratio(np.where(defined, per_class, 0.0).sum(-1), defined.sum(-1))
