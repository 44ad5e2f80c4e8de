"""Reads a mask: a picture of raw ids, or of colours that a label set turns into raw ids."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core.labels import LabelSet
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
    values, coloured = _values(path, labels)
    if coloured:
        return _of_colours(values, labels)
    counts = np.bincount(values.reshape(-1), minlength=256)
    unknown = labels.unknown(np.flatnonzero(counts).tolist())
    if unknown:
        raise Unknown("ids", {f"id {raw}": int(counts[raw]) for raw in unknown}, labels)
    return values


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
