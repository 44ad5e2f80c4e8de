"""Panoptic quality and its relatives, as counts per image: they add up over images, so the bootstrap applies.

PQ (A. Kirillov et al., Panoptic Segmentation, CVPR 2019, arXiv 1801.00868) as cityscapesScripts computes it
(evaluation/evalPanopticSemanticLabeling.py); iIoU as its evalPixelLevelSemanticLabeling.py does. A segment is a number
as in `core/panoptic.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import panoptic
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID

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
