"""Scores from confusion matrices. NumPy only, so that the report can use them.

A *raw confusion* counts pixels by true raw id (rows, in the order of labels.LABELS) and predicted category (columns).
It keeps what both definitions need: the note's 8 categories, and the official ones that skip `ignoreInEval` labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core.labels import CATEGORIES, LABELS, RAW_IDS, VOID

Counts = NDArray[np.int64]
Ratios = NDArray[np.float64]

_CATEGORY_OF_ROW = np.array([label.category for label in LABELS])
_COUNTED = np.array([not label.ignored for label in LABELS])


class Scores(NamedTuple):
    pixel_accuracy: float  # 0..1, over all pixels, void included
    miou: float  # 0..1, mean of `iou` over the categories that occur in truth or prediction
    miou_official: float  # 0..1, mean of `iou_official` likewise
    iou: tuple[float | None, ...]  # 8 values, void first; None where a category occurs in neither
    iou_official: tuple[float | None, ...]  # 8 values; void's is None


def scores(raw_confusion: Counts) -> Scores:
    """raw_confusion: (35, 8). All pixels together, as Cityscapes defines it: never a mean of per-image scores."""
    categories = category_confusion(raw_confusion)
    iou, official = jaccard(categories), official_iou(raw_confusion)
    total = categories.sum()
    return Scores(
        pixel_accuracy=float(np.trace(categories) / total) if total else float("nan"),
        miou=mean(iou),
        miou_official=mean(official),
        iou=_optional(iou),
        iou_official=_optional(official),
    )


def category_confusion(raw_confusion: Counts) -> Counts:
    """(…, 35, 8) to (…, 8, 8): true category by predicted category, every pixel counted."""
    return _sum_rows(raw_confusion, np.ones(len(LABELS), bool))


def official_confusion(raw_confusion: Counts) -> Counts:
    """(…, 35, 8) to (…, 8, 8): the same without pixels whose label is ignored in evaluation; void's row is empty."""
    return _sum_rows(raw_confusion, _COUNTED)


def jaccard(confusion: Counts) -> Ratios:
    """(…, C, C) to (…, C): intersection over union, TP / (TP + FP + FN); NaN where a class occurs nowhere."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    ratios: Ratios = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    return ratios


def official_iou(raw_confusion: Counts) -> Ratios:
    """(…, 35, 8) to (…, 8): category IoU as cityscapesScripts' getIouScoreForCategory computes it; void's is NaN.

    Predicting void on a counted pixel is a miss of its category; predictions on ignored pixels do not count at all.
    """
    iou = jaccard(official_confusion(raw_confusion))
    iou[..., VOID] = np.nan
    return iou


def mean(iou: Ratios) -> float:
    """The mean over classes that occur (cityscapesScripts skips NaN); NaN where none does."""
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def majority_miou(train_raw: Counts, val_raw: Counts) -> float:
    """The miou of predicting the most frequent training category everywhere. Both: (256,) pixels per raw id."""
    best = int(np.argmax(_per_category(train_raw)))
    confusion = np.zeros((len(CATEGORIES), len(CATEGORIES)), np.int64)
    confusion[:, best] = _per_category(val_raw)
    return mean(jaccard(confusion))


def rows(by_raw_id: NDArray[Any]) -> NDArray[Any]:
    """(…, 256, 8) by raw id to (…, 35, 8) by row of labels.LABELS."""
    return by_raw_id[..., list(RAW_IDS), :]


def _per_category(raw_pixels: Counts) -> Counts:
    return np.bincount(_CATEGORY_OF_ROW, weights=raw_pixels[list(RAW_IDS)], minlength=len(CATEGORIES)).astype(np.int64)


def _sum_rows(raw_confusion: Counts, counted: NDArray[np.bool_]) -> Counts:
    selector = np.zeros((len(CATEGORIES), len(LABELS)), np.int64)
    selector[_CATEGORY_OF_ROW[counted], np.flatnonzero(counted)] = 1
    summed: Counts = selector @ raw_confusion.astype(np.int64)
    return summed


def _optional(values: Ratios) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
