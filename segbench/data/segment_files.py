"""Predicted segments as files that others read: Cityscapes' instanceIds, COCO's panoptic format, and pictures.

Segments are (H, W) int64 ids as in `core/panoptic.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core import panoptic
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.core.panoptic import PER_LABEL, SPAN, VOID

Segments = NDArray[np.int64]

_LARGEST_ID = 65_535  # of a 16-bit file
_LIGHTEST = 0.6  # how far towards white the shades of a class's objects go
_GOLDEN = 0.618034  # its multiples modulo 1 are far apart, however many there are
_LINE = 255  # white, between objects of one class that touch


def coloured(segments: Segments, labels: LabelSet) -> Image.Image:
    """An RGB picture in the classes' colours: each object in a shade of its class's, with a line where it touches
    another of its class. VOID is black."""
    known, place = np.unique(segments, return_inverse=True)
    classes, number = np.divmod(known, SPAN)
    colours = np.array([*labels.colours, (0, 0, 0)], np.float64)[classes]  # VOID is class -1, the last
    rank = np.arange(len(known)) - np.searchsorted(classes, classes)
    lighter = np.where((classes >= 0) & (number > 0), rank * _GOLDEN % 1 * _LIGHTEST, 0)[:, None]
    picture = (colours + (255 - colours) * lighter).round().astype(np.uint8)[place.reshape(segments.shape)]
    for line, here, after in (
        (picture[:, :-1], segments[:, :-1], segments[:, 1:]),
        (picture[:-1], segments[:-1], segments[1:]),
    ):
        line[(here != after) & (here // SPAN == after // SPAN) & (here >= 0)] = _LINE
    return Image.fromarray(picture)


def read_coco(path: Path) -> Segments:
    """The segments that `coco_picture` wrote. Raises OSError or ValueError."""
    with Image.open(path) as file:
        if file.mode != "RGB":
            raise ValueError(f"{path} is {file.mode}, expected RGB")
        numbers = np.asarray(file).astype(np.int64) @ np.array([1, 256, 65_536])
    return np.asarray(np.where(numbers == 0, VOID, numbers - SPAN))


def require_instance_ids(labels: LabelSet) -> None:
    """Raises UserError if an instance of one of the set's things would not fit in an instanceIds file."""
    too_high = [labels.typical_ids[thing] for thing in panoptic.things(labels)]
    if max(too_high, default=0) * PER_LABEL + PER_LABEL - 1 > _LARGEST_ID:
        raise UserError(
            f"label set '{labels.name}' has a thing with label id {max(too_high)}; an instanceIds file holds label "
            f"id · {PER_LABEL} + number in 16 bits, so ids of things must be at most {_LARGEST_ID // PER_LABEL - 1}"
        )


def instance_ids(segments: Segments, labels: LabelSet) -> Image.Image:
    """A 16-bit image as json2instanceImg of cityscapesScripts makes it: label id · 1000 + k for the kth object of a
    class, the largest first, and the label id alone for stuff. VOID is 0. A class's thousandth object and smaller ones
    are left out, as the file has no number for them."""
    known, place, areas = np.unique(segments, return_inverse=True, return_counts=True)
    values = np.zeros(len(known), np.uint16)
    for index, typical in enumerate(labels.typical_ids):
        own = np.flatnonzero(known // SPAN == index)
        order = own[np.argsort(-areas[own], kind="stable")][:PER_LABEL]
        thing = index in panoptic.things(labels)
        values[order] = typical * PER_LABEL + np.arange(len(order)) if thing else typical
    return Image.fromarray(values[place].reshape(segments.shape))


def coco_picture(segments: Segments) -> Image.Image:
    """The picture of COCO's panoptic format: red + 256 · green + 256² · blue is a segment's number there, 0 is VOID."""
    numbers = _coco_ids(segments)
    return Image.fromarray(np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8))


def coco_annotation(segments: Segments, name: str, file_name: str, labels: LabelSet) -> dict[str, Any]:
    """One entry of "annotations". A segment's category is its class's typical label id, as Cityscapes numbers them."""
    from scipy import ndimage

    known, place, areas = np.unique(segments, return_inverse=True, return_counts=True)
    found = []
    for segment, area, box in zip(known, areas, ndimage.find_objects(place.reshape(segments.shape) + 1), strict=True):
        if segment != VOID:
            rows, columns = box
            found.append(
                {
                    "id": int(_coco_ids(segment)),
                    "category_id": labels.typical_ids[segment // SPAN],
                    "area": int(area),
                    "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
                    "iscrowd": 0,
                }
            )
    return {"image_id": name, "file_name": file_name, "segments_info": found}


def coco_categories(labels: LabelSet) -> list[dict[str, Any]]:
    """All of "categories"."""
    things = panoptic.things(labels)
    return [
        {
            "id": labels.typical_ids[index],
            "name": labels.names[index],
            "color": list(labels.colours[index]),
            "supercategory": labels.classes[index].parent or labels.names[index],
            "isthing": int(index in things),
        }
        for index in sorted((*things, *panoptic.stuff(labels)))
    ]


def _coco_ids(segments: Any) -> Any:
    """A class is one higher than in our ids, so that 0 is free. 254 classes fit in 24 bits."""
    return np.where(np.asarray(segments) == VOID, 0, np.asarray(segments) + SPAN)
