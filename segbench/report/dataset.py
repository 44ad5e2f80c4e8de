"""The page of a dataset, which `prepare` writes: its classes, and what its splits share, with pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from segbench.core import metrics, paths
from segbench.core.labels import Class
from segbench.core.protocol import Protocol
from segbench.data import inspection, pictures
from segbench.data.packing import Dataset, Split
from segbench.report import write
from segbench.report.page import render
from segbench.report.text import i18n
from segbench.report.text.i18n import class_name, decimals, language, listed, text

_PAIRS = 24  # near-duplicates shown; the others are counted
_SAMPLES = 4  # scenes of each split
_LARGEST = 320  # pixels of a picture's longer side
_QUALITY = 80  # of WebP


class _Row(NamedTuple):
    """One class: its share of all labelled pixels."""

    colour: str
    name: str
    about: str
    train: str
    val: str


class _Pair(NamedTuple):
    """Two pictures side by side, as data URIs, and what is written below."""

    left: str
    right: str
    caption: str


def written(protocol: Protocol, data: Dataset, findings: inspection.Findings, lang: str) -> Path:
    """Writes reports/<protocol>.dataset.html (.dataset.fr.html in French) and returns it. Raises UserError."""
    ending = "html" if lang == "en" else f"{lang}.html"
    path = paths.reports() / f"{protocol.name}.dataset.{ending}"
    with i18n.speaking(lang):
        write.whole(path, _rendered(protocol, data, findings))
    return path


def _rendered(protocol: Protocol, data: Dataset, findings: inspection.Findings) -> str:
    labels, (height, width) = data.train.label_set, data.size
    lead = text("dataset.lead", train=len(data.train), val=len(data.val), height=height, width=width, set=labels.title)
    return render.template("dataset.html").render(
        text=text,
        language=language(),
        style=Markup(render.read("style.css")),
        title=text("dataset.title", protocol=protocol.title),
        banner=text("page.drawn") if protocol.drawn else "",
        lead=lead,
        verdict=_verdict(findings),
        rows=_rows(data),
        twins=[_twin(data, twin) for twin in findings.twins[:_PAIRS]],
        scenes=[pair for split in (data.train, data.val) for pair in _samples(split)],
    )


def _verdict(findings: inspection.Findings) -> list[str]:
    """What to look at, gravest first."""
    said = []
    if findings.twins:
        equal = sum(twin.equal for twin in findings.twins)
        said.append(text("dataset.twins", number=len(findings.twins), equal=equal))
    else:
        said.append(text("dataset.no_twins"))
    if findings.shared:
        said.append(text("dataset.shared", number=len(findings.shared), list=listed(list(findings.shared[:5]))))
    if findings.absent:
        said.append(text("dataset.absent", list=listed(list(findings.absent))))
    return said


def _rows(data: Dataset) -> list[_Row]:
    labels = data.train.label_set
    counts = [metrics.per_class(split.histogram, labels) for split in (data.train, data.val)]
    shares = [count / max(int(count.sum()), 1) for count in counts]
    return [
        _Row(
            f"rgb{one.colour}",
            class_name(one),
            _about(one),
            *(f"{decimals(100 * part[i], 2)}\u00a0%" for part in shares),
        )
        for i, one in enumerate(labels.classes)
    ]


def _about(one: Class) -> str:
    words = one.about_french if language() == "fr" else one.about
    return words or ", ".join(label.name for label in one.labels if label.name)


def _twin(data: Dataset, twin: inspection.Twin) -> _Pair:
    names = f"{data.val.names[twin.val]} · {data.train.names[twin.train]}"
    likeness = text("dataset.likeness", value=decimals(twin.likeness, 2))
    return _Pair(_webp(data.val.images[twin.val]), _webp(data.train.images[twin.train]), f"{names} · {likeness}")


def _samples(split: Split) -> list[_Pair]:
    """Evenly spread scenes and their classes."""
    of_raw = np.array(split.label_set.class_of_raw, np.uint8)
    made = []
    for index in np.linspace(0, len(split) - 1, min(_SAMPLES, len(split))).round().astype(int).tolist():
        mask = pictures.mask(of_raw[split.labels[index]], split.label_set.colours).convert("RGB")
        made.append(_Pair(_webp(split.images[index]), _webp(np.asarray(mask)), split.names[index]))
    return made


def _webp(pixels: NDArray[np.uint8]) -> str:
    picture, buffer = Image.fromarray(np.asarray(pixels)), io.BytesIO()
    picture.thumbnail((_LARGEST, _LARGEST))
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
