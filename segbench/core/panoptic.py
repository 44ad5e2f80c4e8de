"""Panoptic segmentation: which segments a scene has, and how a segment is numbered. Facts only; no network, no score.

Every pixel of a scene belongs to at most one *segment*. A class of stuff (sky) has one segment per image; a class of
things (cars) has one per object. What is what:

- Things are the classes that the label set says are (`thing`); for Cityscapes those with `hasInstances` in
  cityscapesScripts, helpers/labels.py: human and vehicle, or the eight of their classes that are scored.
- Nothing is assigned where the class is void, or where the official scores ignore the label (`ignoreInEval`:
  preparation/createPanopticImgs.py leaves those labels out). Such pixels are VOID in the truth, and a network that
  predicts a void class leaves them VOID too.
- A *group* is a patch of things that no annotator told apart (createPanopticImgs.py: `iscrowd`). The groups of a class
  in an image are one segment: the official evaluator knows one crowd per category
  (evaluation/evalPanopticSemanticLabeling.py, `crowd_labels_dict`).

One number says which segment a pixel is of, in the truth and in predictions: class · SPAN + n, or VOID. n is 0 for
stuff and for the truth's group; for the truth's instances it is raw id · 256 + plane, so that a rider and a person
never share a number; a predicted thing has any n >= 1 that is unique in its image and class.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core.labels import IGNORED, LabelSet
from segbench.core.tables import require

TASKS = (SEMANTIC, PANOPTIC) = ("semantic", "panoptic")  # what a protocol asks for
VALUE_NAMES = {SEMANTIC: "mIoU", PANOPTIC: "PQ"}  # what its searches and promotions maximise: EpochRecord.value
VOID = -1  # in a map of segments: a pixel of none
SPAN = 65536  # segment numbers per class

PER_LABEL = 1000  # a pixel of an instance file is label · 1000 + k, or the label alone: preparation/json2instanceImg.py
MOST = 254  # the largest k that a plane holds

InstancePlane = NDArray[np.uint8]  # 0: no instance, or a group; else k + 1 of the pixel's raw id


def label_of(instances: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The label ids of the pixels of an instance file."""
    return np.asarray(np.where(instances >= PER_LABEL, instances // PER_LABEL, instances).astype(np.uint8))


def plane_of(instances: NDArray[np.integer]) -> InstancePlane:
    """What is packed of the pixels of an instance file whose k are at most MOST."""
    return np.asarray(np.where(instances >= PER_LABEL, instances % PER_LABEL + 1, 0).astype(np.uint8))


def require_things(labels: LabelSet) -> None:
    """Raises ValueError if the label set has nothing to tell apart."""
    what = f"labels '{labels.name}' have no class with thing = true, whose objects task = \"panoptic\" tells apart"
    require(bool(things(labels)), what)


class Coding(NamedTuple):
    """A label set's segments by raw id."""

    base: NDArray[np.int64]  # (256,) class · SPAN, or VOID where nothing is assigned
    countable: NDArray[np.bool_]  # (256,) whether its instances are segments of their own


def things(labels: LabelSet) -> tuple[int, ...]:
    """The classes of things."""
    return tuple(index for index, one in enumerate(labels.classes) if one.thing and not one.void)


def stuff(labels: LabelSet) -> tuple[int, ...]:
    """The classes of stuff."""
    return tuple(index for index, one in enumerate(labels.classes) if not one.thing and not one.void)


@functools.lru_cache(maxsize=8)
def coding(labels: LabelSet) -> Coding:
    """How a label set's raw ids are numbered as segments."""
    base, countable = np.full(256, VOID, np.int64), np.zeros(256, np.bool_)
    for row in labels.rows:
        if row.class_index not in (IGNORED, *labels.void) and not row.label.ignored:
            base[row.label.id] = row.class_index * SPAN
            countable[row.label.id] = labels.classes[row.class_index].thing
    return Coding(base, countable)


def truth(raw: NDArray[np.uint8], instances: InstancePlane, labels: LabelSet) -> NDArray[np.int64]:
    """The segments of a scene. raw: (…, H, W) raw ids; instances: their plane, of the same shape."""
    base, countable = coding(labels)
    number = raw.astype(np.int64) * 256 + instances
    return np.asarray(base[raw] + np.where(countable[raw] & (instances > 0), number, 0))
