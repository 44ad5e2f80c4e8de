"""The page of a dataset, which `prepare` writes: its classes, and what its splits share, with pictures; or, where the
dataset cannot be used, which files are to blame, and where the labels are that the label set does not have."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from segbench.core import metrics, paths
from segbench.core.labels import Class
from segbench.core.protocol import Protocol
from segbench.data import dataset, inspection, layouts, masks, pictures, scenes
from segbench.data.packing import Dataset, Split
from segbench.data.scenes import Problem
from segbench.report import write
from segbench.report.page import render
from segbench.report.text import i18n
from segbench.report.text.i18n import class_name, decimals, language, listed, text

_PAIRS = 24  # near-duplicates shown; the others are counted
_SAMPLES = 4  # scenes of each split
_LARGEST = 320  # pixels of a picture's longer side
_QUALITY = 80  # of WebP
_FILES = 100  # unusable files listed; the others are counted
_STRANGE = 12  # masks shown that hold labels not in the set
_MARK = np.array((255, 0, 255), np.uint8)  # such pixels, over the darkened photograph


class _Row(NamedTuple):
    """One class: its share of all labelled pixels."""

    colour: str
    name: str
    about: str
    train: str
    val: str


class _Strange(NamedTuple):
    """A value of masks that the label set does not have."""

    value: str
    colour: str  # "": it is an id
    pixels: str
    masks: str
    example: str


class _Pair(NamedTuple):
    """Two pictures side by side, as data URIs, and what is written below."""

    left: str
    right: str
    caption: str


def written(protocol: Protocol, data: Dataset, findings: inspection.Findings, lang: str) -> Path:
    """Writes reports/<protocol>.dataset.html (.dataset.fr.html in French) and returns it. Raises UserError."""
    with i18n.speaking(lang):
        labels, (height, width) = data.train.label_set, data.size
        counts = {"train": len(data.train), "val": len(data.val)}
        return _write(
            protocol,
            lead=text("dataset.lead", **counts, height=height, width=width, set=labels.title),
            verdict=_verdict(findings),
            rows=_rows(data),
            twins=[_twin(data, twin) for twin in findings.twins[:_PAIRS]],
            scenes=[pair for split in (data.train, data.val) for pair in _samples(split)],
            files=(),
        )


def refused(protocol: Protocol, root: Path, problems: Sequence[Problem], lang: str) -> Path:
    """Writes the page of a dataset that cannot be used, and returns it. Raises UserError."""
    with i18n.speaking(lang):
        labels, strange = protocol.data.labels, dataset.strange(problems)
        verdict = [text("dataset.strange_lead", number=len(strange), set=labels.title)] if strange else []
        more = max(0, len(problems) - _FILES)
        return _write(
            protocol,
            lead=text("dataset.refused", number=len(problems)),
            verdict=verdict,
            strange=[_strange(each) for each in strange],
            marked=_marked(protocol, root, strange),
            files=problems[:_FILES],
            more=text("dataset.more", number=more) if more else "",
        )


def _write(protocol: Protocol, **content: Any) -> Path:
    ending = "html" if language() == "en" else f"{language()}.html"
    path = paths.reports() / f"{protocol.name}.dataset.{ending}"
    html = render.template("dataset.html").render(
        text=text,
        language=language(),
        style=Markup(render.read("style.css")),
        title=text("dataset.title", protocol=protocol.title),
        banner=text("page.drawn") if protocol.drawn else "",
        **content,
    )
    write.whole(path, html)
    return path


def _strange(each: dataset.Strange) -> _Strange:
    kind, _, rest = each.value.partition(" ")  # "id 34", "colour [1, 2, 3]"
    colour = f"rgb({rest[1:-1]})" if kind == "colour" else ""
    value = f"{text('dataset.colour')} {rest}" if colour else each.value
    return _Strange(value, colour, decimals(each.pixels, 0), decimals(each.masks, 0), each.example.file)


def _marked(protocol: Protocol, root: Path, strange: Sequence[dataset.Strange]) -> list[_Pair]:
    """The examples: the photograph, and where its mask holds what the label set lacks."""
    layout = layouts.of(protocol.data)
    known = {scene.name: scene for split in scenes.SPLITS for scene in layout.find(root, split)[0]}
    made: list[_Pair] = []
    for problem in dict.fromkeys(each.example for each in strange):
        if len(made) == _STRANGE:
            break
        try:
            image = np.asarray(pictures.rgb(pictures.upright(known[problem.scene].image)))
            where = masks.unknown(known[problem.scene].labels, protocol.data.labels)
        except pictures.Unreadable:
            continue
        if where.shape == image.shape[:2]:
            marked = np.where(where[..., None], _MARK, image // 3)
            made.append(_Pair(_webp(image), _webp(marked), problem.file))
    return made


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
