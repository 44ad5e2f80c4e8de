"""Panoptic quality and its relatives, as counts per image: they add up over images, so the bootstrap applies.

PQ (A. Kirillov et al., Panoptic Segmentation, CVPR 2019, arXiv 1801.00868) as cityscapesScripts computes it
(evaluation/evalPanopticSemanticLabeling.py); iIoU as its evalPixelLevelSemanticLabeling.py does. A segment is a number
as in `core/panoptic.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segbench.core import panoptic
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID
from segbench.core.records import Quality
from segbench.stats.bootstrap import mean_of_defined
from segbench.stats.ceiling import there_and_back
from segbench.stats.components import components

Values = NDArray[np.float64]
Ids = NDArray[np.int64]

SIZES = (16, 64, 256, 1024)  # pixels: the edges between the five sizes of instances
_FULL = 2048 * 1024  # pixels of the images whose instances _AVERAGE describes
# Mean pixels of an instance in Cityscapes, by label: args.avgClassSize of evalPixelLevelSemanticLabeling.py.
_AVERAGE = {
    "bicycle": 4672.3249222261,
    "caravan": 36771.8241758242,
    "motorcycle": 6298.7200839748,
    "rider": 3930.4788056518,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "car": 12794.0202738185,
    "person": 3462.4756337644,
    "truck": 27855.1264367816,
    "trailer": 16926.9763313609,
}


class Overlaps(NamedTuple):
    """How many pixels of which image are of each true segment, predicted segment and predicted class. (K,) each."""

    image: Ids
    truth: Ids
    segment: Ids
    predicted: Ids  # class of the semantic map, 0..C-1
    pixels: Ids


class Counts(NamedTuple):
    """Of N images."""

    segments: Values  # (N, C, 4): summed IoU of the matched segments, and how many are matched, invented and missed
    instances: Ids  # (N, C, 5, 2): true instances that were matched, and all, by their size
    weighted: Values  # (N, C, 3): right and missed pixels of instances, each instance of one weight; false positives

    @classmethod
    def joined(cls, parts: Sequence[Counts]) -> Counts:
        """Those of all images, in order."""
        return cls(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def counts(overlaps: Overlaps, images: int, pixels: int, labels: LabelSet) -> Counts:
    """The counts of each image; `pixels`: of one image.

    A predicted segment matches the true one of its class that it overlaps by an IoU above 1/2. The union is without
    what the prediction has on void. A prediction without a match is no error if more than half of it is void or a group
    of its class, and a group is never missed.
    """
    classes, spread = len(labels), len(labels) * SPAN + 1
    truth = _Segments.of(overlaps.image * spread + overlaps.truth + 1, overlaps.pixels, spread)
    found = _Segments.of(overlaps.image * spread + overlaps.segment + 1, overlaps.pixels, spread)
    kinds = np.isin(np.arange(classes), panoptic.things(labels))
    group = (truth.classes >= 0) & kinds[truth.classes] & (truth.number == 0)
    pairs, place = np.unique(truth.place * len(found.area) + found.place, return_inverse=True)
    common = np.bincount(place, overlaps.pixels)
    t, p = np.divmod(pairs, len(found.area))
    same = (truth.classes[t] == found.classes[p]) & (found.classes[p] >= 0)
    void = np.bincount(p, common * (truth.classes[t] < 0), len(found.area))
    excused = void + np.bincount(p, common * (same & group[t]), len(found.area))
    iou = common / (truth.area[t] + found.area[p] - common - np.where(same, void[p], 0))
    match = same & ~group[t] & (iou > 0.5)
    hit, right = np.isin(np.arange(len(truth.area)), t[match]), np.isin(np.arange(len(found.area)), p[match])
    missed = (truth.classes >= 0) & ~group & ~hit
    invented = (found.classes >= 0) & ~right & ~(excused / found.area > 0.5)

    segments = np.zeros((images, classes, 4))
    cells = (truth.image[t[match]], truth.classes[t[match]])
    np.add.at(segments[..., 0], cells, iou[match])
    np.add.at(segments[..., 1], cells, 1)
    np.add.at(segments[..., 2], (found.image[invented], found.classes[invented]), 1)
    np.add.at(segments[..., 3], (truth.image[missed], truth.classes[missed]), 1)

    instance = (truth.classes >= 0) & kinds[truth.classes] & ~group
    rows = (truth.image[instance], truth.classes[instance], np.digitize(truth.area[instance], SIZES))
    instances = np.zeros((images, classes, len(SIZES) + 1, 2), np.int64)
    np.add.at(instances[..., 0], rows, hit[instance])
    np.add.at(instances[..., 1], rows, 1)
    return Counts(segments, instances, _weighted(overlaps, truth, instance, images, pixels, labels))


class _Segments(NamedTuple):
    """All segments of the images, true or predicted, in order: (S,) each."""

    place: Ids  # (K,): which of them each overlap is of
    image: Ids
    classes: Ids  # -1 for void
    number: Ids
    area: Values  # pixels

    @classmethod
    def of(cls, ids: Ids, pixels: Ids, spread: int) -> _Segments:
        known, place = np.unique(ids, return_inverse=True)
        image, segment = np.divmod(known, spread)
        classes, number = np.divmod(segment - 1, SPAN)
        return cls(place, image, classes, number, np.bincount(place, pixels).astype(np.float64))


def _weighted(
    overlaps: Overlaps, truth: _Segments, instance: NDArray[np.bool_], images: int, pixels: int, labels: LabelSet
) -> Values:
    """(N, C, 3): of iIoU. A label whose instances have no known average size leaves its class undefined (NaN)."""
    average = np.full(256, np.nan)
    for row in labels.rows:
        average[row.label.id] = _AVERAGE.get(row.name, np.nan) * pixels / _FULL
    wanted = truth.classes[truth.place]
    correct = np.bincount(truth.place, overlaps.pixels * (overlaps.predicted == wanted), len(truth.area))
    weight = average[truth.number[instance] // 256] / truth.area[instance]
    made = np.zeros((images, len(labels), 3))
    cells = (truth.image[instance], truth.classes[instance])
    np.add.at(made[..., 0], cells, weight * correct[instance])
    np.add.at(made[..., 1], cells, weight * (truth.area - correct)[instance])
    wrong = (wanted >= 0) & (overlaps.predicted != wanted)
    np.add.at(made[..., 2], (overlaps.image[wrong], overlaps.predicted[wrong]), overlaps.pixels[wrong])
    return made


def overlap(truth: Ids, segments: Ids, predicted: NDArray[np.integer]) -> Overlaps:
    """Of one image: (H, W) segment ids, true and predicted, and (H, W) classes. `engine.panoptic` does so on a GPU."""
    columns = np.stack([truth.ravel(), segments.ravel(), predicted.ravel()]).astype(np.int64)
    starts = np.flatnonzero(np.concatenate([[True], (columns[:, 1:] != columns[:, :-1]).any(0)]))
    lengths = np.diff(starts, append=columns.shape[1])  # of rows of equal pixels, so that little is sorted
    known, place = np.unique(columns[:, starts], axis=1, return_inverse=True)
    pixels = np.bincount(place.ravel(), lengths).astype(np.int64)
    return Overlaps(np.zeros_like(pixels), known[0], known[1], known[2], pixels)


def label_ceiling(truth: Ids, size: tuple[int, int], labels: LabelSet) -> Counts:
    """What a network would reach on one image that predicts its labels of `size`, (height, width), without an error,
    and whose segments are scaled back by nearest, as `ceiling.label_ceiling` says of classes. truth: (H, W) segments
    at the photograph's size. Where the scaled labels are void the network is free, and counts as right.
    """
    height, width = truth.shape
    rows, columns = (there_and_back(full, small) for full, small in zip((height, width), size, strict=True))
    scaled = truth[rows[:, None], columns]
    found = np.where(scaled == VOID, truth, scaled)
    group = (found >= 0) & np.isin(found // SPAN, panoptic.things(labels)) & (found % SPAN == 0)
    found[group] += SPAN - 1  # no network predicts a group: it finds one object there
    classes = np.maximum(found // SPAN, 0)
    return counts(overlap(truth, found, classes), 1, truth.size, labels)


def component_ceiling(truth: Ids, classes: NDArray[np.integer], labels: LabelSet) -> Counts:
    """What connected components would reach on one image if every pixel's class was right. truth: (H, W) segments,
    classes: (H, W), true ones or IGNORED."""
    found = components(classes[None], labels)[0]
    return counts(overlap(truth, found, np.where(classes < len(labels), classes, 0)), 1, truth.size, labels)


def per_class(segments: Values) -> Values:
    """(…, C, 4) to (…, C, 3): PQ, SQ and RQ of each class; NaN where no image has a segment of it."""
    iou, hits, invented, missed = np.moveaxis(segments, -1, 0)
    half = hits + invented / 2 + missed / 2
    sq = np.where(half > 0, iou / np.where(hits > 0, hits, 1), np.nan)
    pq, rq = (np.where(half > 0, part / np.where(half > 0, half, 1), np.nan) for part in (iou, hits))
    return np.stack([pq, sq, rq], -1)


def pq(classes: Sequence[int]) -> Callable[[Values], Values]:
    """(…, C, 4) to (…): the mean PQ of these classes, absent ones left out. A statistic as those of `bootstrap`."""
    return lambda segments: mean_of_defined(per_class(segments)[..., list(classes), 0])


def iiou(classes: Sequence[int]) -> Callable[[Values], Values]:
    """(…, C, 3) to (…): the mean iIoU of these classes, those without instances left out."""

    def statistic(weighted: Values) -> Values:
        right, whole = weighted[..., list(classes), 0], weighted[..., list(classes), :].sum(-1)
        return mean_of_defined(np.divide(right, whole, out=np.full_like(right, np.nan), where=whole != 0))

    return statistic


def quality(found: Counts, labels: LabelSet) -> Quality:
    """The numbers of all images of `found` together."""
    segments, weighted = found.segments.sum(0), found.weighted.sum(0)
    things, stuff = panoptic.things(labels), panoptic.stuff(labels)
    classes = per_class(segments)
    all_pq, all_sq, all_rq = mean_of_defined(classes[[*things, *stuff]].T)
    return Quality(
        _optional(all_pq),
        _optional(all_sq),
        _optional(all_rq),
        _optional(pq(things)(segments)),
        _optional(pq(stuff)(segments)),
        _optional(iiou(things)(weighted)),
        tuple(_optional(value) for value in classes[:, 0]),
    )


def _optional(value: ArrayLike) -> float | None:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None
