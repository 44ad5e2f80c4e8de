"""Scores from confusion matrices. NumPy only, so that the report can use them.

A *raw confusion* counts pixels by true raw id (R rows, in the order of the label set) and predicted class (C columns).
It keeps what all definitions need: IoU over all pixels that have a class; the official one, without void and labels
that the label set ignores in official scores; and that of the P categories that classes may belong to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core.labels import IGNORED, LabelSet

Counts = NDArray[np.int64]
Ratios = NDArray[np.float64]


class Scores(NamedTuple):
    pixel_accuracy: float  # 0..1, over all pixels that have a class, void included
    miou: float  # 0..1, mean of `iou` over the classes that occur in truth or prediction
    miou_official: float  # 0..1, mean of `iou_parents` likewise, of `iou_official` where there are no categories
    iou: tuple[float | None, ...]  # C values; None where a class occurs in neither
    iou_official: tuple[float | None, ...]  # C values; void's is None
    iou_parents: tuple[float | None, ...]  # P values, in the label set's order


def scores(raw_confusion: Counts, labels: LabelSet) -> Scores:
    """raw_confusion: (R, C). All pixels together, as Cityscapes defines it: never a mean of per-image scores."""
    classes = class_confusion(raw_confusion, labels)
    iou, official, parents = jaccard(classes), official_iou(raw_confusion, labels), parent_iou(raw_confusion, labels)
    total = classes.sum()
    return Scores(
        pixel_accuracy=float(np.trace(classes) / total) if total else float("nan"),
        miou=mean(iou),
        miou_official=mean(parents if labels.parents else official),
        iou=_optional(iou),
        iou_official=_optional(official),
        iou_parents=_optional(parents),
    )


def class_confusion(raw_confusion: Counts, labels: LabelSet) -> Counts:
    """(…, R, C) to (…, C, C): true class by predicted class, every pixel counted that has a class."""
    return _sum_rows(raw_confusion, [(row.class_index, i) for i, row in enumerate(labels.rows)], len(labels))


def official_confusion(raw_confusion: Counts, labels: LabelSet) -> Counts:
    """(…, R, C) to (…, C, C): the same without pixels whose label the official scores ignore; void's row is empty."""
    return _sum_rows(raw_confusion, _official_rows(labels), len(labels))


def jaccard(confusion: Counts) -> Ratios:
    """(…, C, C) to (…, C): intersection over union, TP / (TP + FP + FN); NaN where a class occurs nowhere."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    ratios: Ratios = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    return ratios


def official_iou(raw_confusion: Counts, labels: LabelSet) -> Ratios:
    """(…, R, C) to (…, C): IoU as cityscapesScripts' getIouScoreForLabel computes it; void's is NaN.

    Predicting void on a counted pixel is a miss of its class; predictions on ignored pixels do not count at all. For
    `cityscapes-8`, whose classes are categories, this is getIouScoreForCategory.
    """
    iou = jaccard(official_confusion(raw_confusion, labels))
    iou[..., list(labels.void)] = np.nan
    return iou


def parent_iou(raw_confusion: Counts, labels: LabelSet) -> Ratios:
    """(…, R, C) to (…, P): category IoU as cityscapesScripts' getIouScoreForCategory computes it. Mistaking classes of
    one category for each other costs nothing."""
    names = [parent.name for parent in labels.parents]
    # A class without category, such as void, gets the place after the last one, which has no score.
    parent = [names.index(one.parent) if one.parent else len(names) for one in labels.classes]
    by_parent = _sum_rows(raw_confusion, [(parent[c], row) for c, row in _official_rows(labels)], len(names) + 1)
    both = _sum_rows(np.swapaxes(by_parent, -1, -2), list(zip(parent, range(len(labels)), strict=True)), len(names) + 1)
    return jaccard(np.swapaxes(both, -1, -2))[..., : len(names)]


def mean(iou: Ratios) -> float:
    """The mean over classes that occur (cityscapesScripts skips NaN); NaN where none does."""
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def majority_miou(train_raw: Counts, val_raw: Counts, labels: LabelSet) -> float:
    """The miou of predicting the most frequent training class everywhere. Both: (256,) pixels per raw id."""
    best = int(np.argmax(per_class(train_raw, labels)))
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    confusion[:, best] = per_class(val_raw, labels)
    return mean(jaccard(confusion))


def rows(by_raw_id: NDArray[Any], labels: LabelSet) -> NDArray[Any]:
    """(…, 256, C) by raw id to (…, R, C) by row of the label set."""
    return by_raw_id[..., list(labels.raw_ids), :]


def per_class(raw_pixels: Counts, labels: LabelSet) -> Counts:
    """(256,) pixels per raw id to (C,) pixels per class."""
    return class_confusion(rows(raw_pixels[:, None], labels), labels)[:, 0]


def _official_rows(labels: LabelSet) -> list[tuple[int, int]]:
    """(class, row) of every label that the official scores count."""
    counted = [(row.class_index, i) for i, row in enumerate(labels.rows) if not row.label.ignored]
    return [(index, row) for index, row in counted if index not in (IGNORED, *labels.void)]


def _sum_rows(counts: Counts, moves: list[tuple[int, int]], number: int) -> Counts:
    """counts: (…, R, C). Returns (…, number, C): each row added to the one it moves to, `moves` being (to, from); rows
    that move to IGNORED are left out."""
    selector = np.zeros((number, counts.shape[-2]), np.int64)
    for to, row in moves:
        if to != IGNORED:
            selector[to, row] = 1
    summed: Counts = selector @ counts.astype(np.int64)
    return summed


def _optional(values: Ratios) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
