"""Which validation images the page shows, chosen by rule, and their pictures as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench import pictures, places
from segbench.data import packed
from segbench.labels import CATEGORY_OF_RAW
from segbench.report import tables
from segbench.report.ledgers import Ledgers, Side

_JPEG_QUALITY = 88
_CATEGORY = np.array(CATEGORY_OF_RAW, np.uint8)


class Chosen(NamedTuple):
    """A scene and why it is shown: "best", "median", "worst" or "gap"."""

    rule: str
    name: str
    scores: dict[str, float]  # architecture's name to mIoU of this image alone


class Pictured(NamedTuple):
    """A chosen scene with its pictures."""

    chosen: Chosen
    image: str  # data URI
    truth: str
    masks: dict[str, str]  # architecture's name to data URI; none where its file is gone


@dataclass(frozen=True)
class Scenes:
    """`missing` names the text, under [scenes], that says why there are none: "", "confusions" or "cache"."""

    shown: tuple[Pictured, ...]
    missing: str = ""


def scenes(ledgers: Ledgers) -> Scenes:
    """The chosen scenes as pictures, from the packed dataset and the promoted models' masks."""
    sides = [side for side in ledgers.promoted if tables.image_miou(side)]
    chosen = choose({side.name: tables.image_miou(side) for side in sides})
    if not chosen:
        return Scenes((), "confusions")
    split = _split(sides[0])
    index = {name: i for i, name in enumerate(split.names)} if split else {}
    if split is None or any(one.name not in index for one in chosen):
        return Scenes((), "cache")
    shown = []
    for one in chosen:
        at = index[one.name]
        masks = {side.name: uri for side in sides if (uri := _mask(side, one.name))}
        truth = _png(_CATEGORY[split.labels[at]])
        shown.append(Pictured(one, _jpeg(split.images[at]), truth, masks))
    return Scenes(tuple(shown))


def choose(scores: dict[str, dict[str, float]]) -> list[Chosen]:
    """From architecture → scene → mIoU: the scenes with the best, the median and the worst mean over architectures,
    then the one on which two architectures differ most. No scene twice: the next in line steps in. Ties go by name."""
    if not scores:
        return []
    common = sorted(set.intersection(*(set(one) for one in scores.values())))
    table = np.array([[one[name] for name in common] for one in scores.values()])
    order = sorted(range(len(common)), key=lambda i: (-table[:, i].mean(), common[i]))
    middle = sorted(order, key=lambda i: abs(order.index(i) - (len(order) - 1) // 2))
    lines = {"best": order, "median": middle, "worst": order[::-1]}
    if len(scores) > 1:
        lines["gap"] = sorted(order, key=lambda i: (-np.ptp(table[:, i]), common[i]))
    taken: dict[int, str] = {}
    for rule, line in lines.items():
        free = next((i for i in line if i not in taken), None)
        if free is not None:
            taken[free] = rule
    return [Chosen(rule, common[i], {n: float(s[common[i]]) for n, s in scores.items()}) for i, rule in taken.items()]


def _split(side: Side) -> packed.Split | None:
    """The packed validation split the models were scored on; None where it is gone or holds other images now."""
    card = side.models[0].card
    folder = places.cache() / card.cache
    try:
        train, val = packed.open_split(folder / "train"), packed.open_split(folder / "val")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = packed.Dataset(train, val, card.size, folder).fingerprint == card.data_fingerprint
    return val if same else None


def _mask(side: Side, name: str) -> str:
    """The mask of the side's first seed. The file is a palette PNG already, and is embedded as it is."""
    path: Path = side.scored[0].folder / "masks" / f"{name}.png"
    return _uri(path.read_bytes(), "png") if path.is_file() else ""


def _jpeg(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return _uri(buffer.getvalue(), "jpeg")


def _png(categories: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    pictures.mask(categories).save(buffer, "PNG", optimize=True)
    return _uri(buffer.getvalue(), "png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
