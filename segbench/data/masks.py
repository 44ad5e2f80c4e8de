"""Reads a mask: a picture of raw ids, or of colours that a label set turns into raw ids; and a picture of instances."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core.labels import LabelSet
from segbench.core.panoptic import MOST, PER_LABEL, InstancePlane, label_of, plane_of
from segbench.data import pictures
from segbench.data.archives import File

_SHOWN = 5  # unknown values of a mask
_UNKNOWN = 256  # in the table of colours


class Unknown(Exception):
    """A mask holds values that the label set does not have: `counts`, from the value in words to its pixels."""

    def __init__(self, kind: str, counts: dict[str, int], labels: LabelSet) -> None:
        shown = ", ".join(f"{value} ({pixels} pixels)" for value, pixels in list(counts.items())[:_SHOWN])
        more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
        expected = labels.ids_in_words if kind == "ids" else "its labels' mask colours"
        super().__init__(f"{kind} that '{labels.name}' does not have: {shown}{more}; expected {expected}")
        self.counts = counts


def read(path: File, labels: LabelSet) -> NDArray[np.uint8]:
    """(H, W) raw ids. Pictures of one channel hold ids; pictures in colour, and palettes where every label has a mask
    colour, hold colours. Raises pictures.Unreadable, and Unknown."""
    return counted(path, labels)[0]


def counted(path: File, labels: LabelSet) -> tuple[NDArray[np.uint8], dict[int, int]]:
    """As `read`; and how many pixels have each id that occurs."""
    values, coloured = _values(path, labels)
    ids = _of_colours(values, labels) if coloured else values
    histogram = Image.fromarray(ids).histogram()  # Pillow's takes half of `bincount`'s time
    counts = {raw: pixels for raw, pixels in enumerate(histogram) if pixels}
    unknown = labels.unknown(list(counts))
    if unknown:
        raise Unknown("ids", {f"id {raw}": counts[raw] for raw in unknown}, labels)
    return ids, counts


def unknown(path: File, labels: LabelSet) -> NDArray[np.bool_]:
    """(H, W) where a mask holds a value that the label set does not have. Raises pictures.Unreadable."""
    values, coloured = _values(path, labels)
    if coloured:
        return np.asarray(_table(labels)[_codes(values)] == _UNKNOWN)
    return ~np.isin(values, labels.raw_ids)


def _values(path: File, labels: LabelSet) -> tuple[NDArray[np.uint8], bool]:
    """A mask's (H, W) ids and False, or its (H, W, 3) colours and True. Raises pictures.Unreadable."""
    picture = pictures.upright(path)
    coloured = all(row.label.mask for row in labels.rows)
    if picture.mode == "L" or (picture.mode == "P" and not coloured):
        return np.asarray(picture), False
    if not coloured:
        expected = "expected 8-bit label ids (is this a colour or instance file?)"
        raise pictures.Unreadable(f"its pixels are {picture.mode}; {expected}")
    return np.asarray(pictures.rgb(picture)), True


def instances(path: File, labels: NDArray[np.uint8]) -> InstancePlane:
    """(H, W) plane of an instance file, whose pixels are label · 1000 + k, or the label alone. Raises
    pictures.Unreadable if it is none, if its labels are not `labels`, or if a k is above panoptic.MOST."""
    ids: NDArray[Any] | None = pictures.plain(path)
    if ids is None or ids.ndim > 2:
        picture = pictures.upright(path)
        if picture.mode not in ("I;16", "I;16B", "I", "L"):
            raise pictures.Unreadable(f"its pixels are {picture.mode}; expected 16-bit ids, label * 1000 + instance")
        ids = np.asarray(picture)
    if ids.shape != labels.shape:
        sizes = f"it is {ids.shape[0]}x{ids.shape[1]}, labels are {labels.shape[0]}x{labels.shape[1]}"
        raise pictures.Unreadable(f"{sizes} (height x width); expected the same")
    if ids.dtype not in (np.uint8, np.uint16):
        if ids.min() < 0 or ids.max() > 65535:
            raise pictures.Unreadable(f"ids are {ids.min()}..{ids.max()}; expected 0..65535")
        ids = ids.astype(np.uint16)
    label, plane = _instance_tables()
    if (odd := label.take(ids) != labels).any():
        raise pictures.Unreadable(_mismatch(ids[odd], labels[odd]))
    return np.asarray(plane.take(ids))


def _mismatch(ids: NDArray[Any], labels: NDArray[np.uint8]) -> str:
    """Why the ids of these pixels cannot be used, with these labels."""
    fits = label_of(ids) == labels
    if fits.any():
        found = ids[fits].max()
        return (
            f"it has instance {found % PER_LABEL} of label {found // PER_LABEL} (id {found}); expected at most {MOST}"
        )
    example = f"such as id {ids[0]} where the label is {labels[0]}"
    return f"{len(ids)} pixels do not have their label, {example}; are labels and instances of the same export?"


@functools.cache
def _instance_tables() -> tuple[NDArray[np.uint16], InstancePlane]:
    """Id 0..65535 to its label, or 65535 if it cannot be used, and to its value in the plane if it can."""
    ids = np.arange(65536)
    label = np.where(ids >= PER_LABEL, ids // PER_LABEL, ids)
    k = np.where(ids >= PER_LABEL, ids % PER_LABEL, -1)
    return np.where(k <= MOST, label, 65535).astype(np.uint16), plane_of(ids)


def _of_colours(pixels: NDArray[np.uint8], labels: LabelSet) -> NDArray[np.uint8]:
    codes = _codes(pixels)
    ids = _table(labels)[codes]
    if (missing := ids == _UNKNOWN).any():
        found, counts = np.unique(codes[missing], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        codes_and_counts = zip(found[order].tolist(), counts[order].tolist(), strict=True)
        words = {f"colour [{c >> 16}, {c >> 8 & 255}, {c & 255}]": pixels for c, pixels in codes_and_counts}
        raise Unknown("colours", words, labels)
    return np.asarray(ids.astype(np.uint8))


def _codes(pixels: NDArray[Any]) -> NDArray[np.int32]:
    """(…, 3) colours as one number each."""
    red, green, blue = (pixels[..., i].astype(np.int32) for i in range(3))
    return np.asarray(red << 16 | green << 8 | blue)


@functools.lru_cache(maxsize=2)
def _table(labels: LabelSet) -> NDArray[np.int16]:
    """(2**24,) colour to raw id."""
    table = np.full(1 << 24, _UNKNOWN, np.int16)
    for row in labels.rows:
        table[int(_codes(np.array(row.label.mask)))] = row.label.id
    return table
