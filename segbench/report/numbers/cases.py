"""Typical errors, chosen by rule: of each kind and architecture the worst case and the median one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segbench.report.numbers import pixels
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.measures import Measured, Side
from segbench.stats.taxonomy import CODES, NEIGHBOURS, PARTS, Categories, boundary_width, error_map

RULES = ("worst", "median")

Box = tuple[slice, slice]


class Case(NamedTuple):
    """One class in one scene: where an architecture makes an error of one kind."""

    candidate: Candidate
    part: str  # of PARTS
    rule: str  # of RULES
    scene: str
    category: int
    pixels: int  # of such errors, of this class in this scene


def chosen(measured: Measured, sides: Sequence[Side]) -> list[Case]:
    """Of all classes and scenes where the first seed makes an error of a kind: the one with the most pixels of it, and
    the one in the middle. In order of kind, then architecture. Ties go by scene and class."""
    found = []
    for place, part in enumerate(PARTS, start=1):
        for side in sides:
            counts = side.errors[0].model.parts[:, :, place].astype(int)
            ranked = sorted(np.argwhere(counts > 0).tolist(), key=lambda at: (-counts[at[0], at[1]], *at))
            if ranked:
                for rule, (image, category) in zip(RULES, (ranked[0], ranked[len(ranked) // 2]), strict=True):
                    where = (measured.names[image], category, int(counts[image, category]))
                    found.append(Case(side.candidate, part, rule, *where))
    return found


def box(case: Case, truth: Categories) -> Box | None:
    """The part of the scene around the largest such error; None where the mask is gone. truth: (H, W) categories."""
    from scipy import ndimage

    predicted = pixels.mask(case.candidate, case.scene)
    if predicted is None or predicted.shape != truth.shape:
        return None
    codes = error_map(truth == case.category, predicted == case.category, boundary_width(truth.shape))
    labels, _ = ndimage.label(codes == CODES[case.part], NEIGHBOURS)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if not sizes.any():
        return None
    around = ndimage.find_objects(labels)[sizes.argmax() - 1]
    side = max(min(truth.shape) // 3, *((2 * (ends.stop - ends.start)) for ends in around))
    rows, columns = (_centred(ends, side, length) for ends, length in zip(around, truth.shape, strict=True))
    return rows, columns


def _centred(ends: slice, side: int, length: int) -> slice:
    """`side` pixels around the middle of `ends`, moved to lie inside of `length`."""
    start = min(max((ends.start + ends.stop - side) // 2, 0), max(length - side, 0))
    return slice(start, min(start + side, length))
