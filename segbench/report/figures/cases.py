"""Typical errors as small pictures: a part of the photograph, the truth and the masks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core.labels import LabelSet
from segbench.data import packing, pictures
from segbench.report.numbers import cases, pixels
from segbench.report.numbers.cases import Case
from segbench.report.numbers.comparison import Candidate

_SIDE = 160  # pixels of the longer side, as shown
_QUALITY = 80  # of WebP


class Pictured(NamedTuple):
    """A case with its pictures as data URIs."""

    case: Case
    image: str
    truth: str
    masks: dict[str, str]  # by architecture's name


def pictured(found: Sequence[Case], candidates: Sequence[Candidate], val: packing.Split) -> list[Pictured]:
    """Those whose masks and packed images are there."""
    index = {name: i for i, name in enumerate(val.names)}
    made = []
    for case in found:
        if case.scene not in index:
            continue
        truth = pixels.truth(val, index[case.scene])
        box = cases.box(case, truth)
        if box is not None:
            masks = {c.name: pixels.mask(c, case.scene) for c in candidates}
            cut = {name: _mask(mask[box], val.label_set) for name, mask in masks.items() if mask is not None}
            image = _picture(np.asarray(val.images[index[case.scene]])[box])
            made.append(Pictured(case, image, _mask(truth[box], val.label_set), cut))
    return made


def _picture(part: NDArray[np.uint8]) -> str:
    factor = max(_SIDE / max(part.shape[:2]), 1.0)
    size = (round(part.shape[1] * factor), round(part.shape[0] * factor))
    photograph = Image.fromarray(np.ascontiguousarray(part)).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    photograph.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return _uri(buffer, "webp")


def _mask(part: NDArray[np.uint8], labels: LabelSet) -> str:
    buffer = io.BytesIO()
    pictures.mask(np.ascontiguousarray(part), labels.colours).save(buffer, "PNG", optimize=True)
    return _uri(buffer, "png")


def _uri(buffer: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
