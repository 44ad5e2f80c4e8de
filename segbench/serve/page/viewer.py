"""The pictures side by side, which react in the browser: what it needs of a photograph and its answer.

A class map travels as its bytes, deflated, not as a picture: some browsers blur what a page reads from a picture, so
that it cannot recognise its visitor.
"""

from __future__ import annotations

import base64
import functools
import io
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import streamlit
from numpy.typing import NDArray
from PIL import Image, ImageColor

from segbench.core.errors import UserError
from segbench.core.labels import Colour
from segbench.core.panoptic import PER_LABEL
from segbench.data import pictures
from segbench.report.text import i18n
from segbench.serve.page import texts

FORMATS = ("JPEG", "PNG", "WEBP")  # the API's
_LONGEST = 1600  # pixels of a side as shown; downloads have all of them
_QUALITY = 88
_HERE = Path(__file__).parent


def mount(data: Mapping[str, Any]) -> None:
    """Shows the viewer; `data` as `prepared` makes it."""
    language = i18n.language()
    about = "about_french" if language == "fr" else "about"
    words = {**texts.table(language)["viewer"], "means": {one["name"]: one[about] for one in data["legend"]}}
    _pictures()(key="viewer", data={**data, "language": language, "texts": words})


def declare_language() -> None:
    """Tells the browser, and so screen readers and the style sheet, which language the page is in."""
    _language()(key="spoken", data=i18n.language(), height=1)


@functools.cache
def _pictures() -> Any:
    html, css, js = ((_HERE / f"viewer.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return streamlit.components.v2.component("segbench_viewer", html=html, css=css, js=js)


@functools.cache
def _language() -> Any:
    script = "export default ({ data }) => { document.documentElement.lang = data; }"
    return streamlit.components.v2.component("segbench_language", js=script)


def photograph(content: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) RGB pixels of a photograph the API has accepted, upright. Raises UserError."""
    try:
        return pictures.pixels(pictures.rgb(pictures.decoded(io.BytesIO(content), FORMATS)))
    except pictures.Unreadable as reason:
        raise UserError(f"the photograph cannot be read: {reason}") from reason


def categories(mask: str) -> NDArray[Any]:
    """(H, W) values of a base64 PNG of the API's: categories of a palette, or numbers of 16 bits."""
    with Image.open(io.BytesIO(base64.b64decode(mask)), formats=("PNG",)) as picture:
        return np.asarray(picture)


def instance_ids(model: Mapping[str, Any]) -> Image.Image:
    """A panoptic model's objects as Cityscapes' instanceIds, as the API's own picture of them."""
    segments = model["panoptic"]["segments"]
    values, given = np.zeros(len(segments) + 1, np.uint16), Counter[int]()
    for segment in sorted(segments, key=lambda each: -each["share"]):  # the largest of a class is its first
        label = model["legend"][segment["category"]]["id"]
        k = given[segment["category"]]
        given[segment["category"]] += 1
        if not segment["thing"]:
            values[segment["number"]] = label
        elif k < PER_LABEL:
            values[segment["number"]] = label * PER_LABEL + k
    return Image.fromarray(values[categories(model["panoptic"]["map"])])


def colours(model: Mapping[str, Any]) -> list[Colour]:
    """Those of a model's classes, from the API's answer."""
    return [cast(Colour, ImageColor.getrgb(one["colour"])) for one in model["legend"]]


def prepared(digest: str, pixels: NDArray[np.uint8], report: Mapping[str, Any]) -> dict[str, Any]:
    """All that the browser needs, as JSON. `digest`: equal for equal photographs and models.

    Its legend holds every class of any model, and all class maps are in its numbers: models may have been trained on
    several label sets."""
    legend = list({(one["name"], one["colour"]): one for model in report["models"] for one in model["legend"]}.values())
    place = {(one["name"], one["colour"]): index for index, one in enumerate(legend)}
    width, height = _shown_size(pixels.shape[1], pixels.shape[0])
    agreement = report["agreement"]
    return {
        "id": digest,
        "width": width,
        "height": height,
        "photograph": _jpeg(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)),
        "models": [
            {
                "name": model["model"],
                "title": model["title"],
                "shares": _shares(model, place),
                "map": _deflated(_places(model, place)[categories(model["mask"])], (width, height)),
                "objects": _objects(model, place, (width, height)),
            }
            for model in report["models"]
        ],
        "legend": [{**one, "category": index} for index, one in enumerate(legend)],
        "disagreement": None if agreement is None else 1 - agreement["share"],
    }


def _objects(
    model: Mapping[str, Any], place: Mapping[tuple[str, str], int], size: tuple[int, int]
) -> dict[str, Any] | None:
    """A panoptic model's objects: a map of their numbers, two bytes each, lowest first; for each number, 0 among them,
    its class in the common legend and the how manieth it is there, null for stuff; and the count of each class."""
    panoptic = model.get("panoptic")
    if panoptic is None:
        return None
    own, counts = _places(model, place), [0] * len(place)
    known: list[list[int] | None] = [None] * (len(panoptic["segments"]) + 1)
    for segment in panoptic["segments"]:
        if segment["thing"]:
            kind = int(own[segment["category"]])
            counts[kind] += 1
            known[segment["number"]] = [kind, counts[kind]]
    return {"map": _deflated(categories(panoptic["map"]).astype("<u2"), size), "known": known, "counts": counts}


def _shares(model: Mapping[str, Any], place: Mapping[tuple[str, str], int]) -> list[float]:
    """A model's share of each class of the common legend."""
    shares = [0.0] * len(place)
    for index, one in zip(_places(model, place), model["legend"], strict=True):
        shares[index] = model["shares"][one["name"]]
    return shares


def _places(model: Mapping[str, Any], place: Mapping[tuple[str, str], int]) -> NDArray[np.uint8]:
    """The place in the common legend of each of a model's classes."""
    return np.array([place[one["name"], one["colour"]] for one in model["legend"]], np.uint8)


def _shown_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1, _LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _deflated(values: NDArray[Any], size: tuple[int, int]) -> str:
    """A map of that (width, height), row by row: nearest pixels, for a category has no in-between."""
    rows, columns = ((2 * np.arange(to) + 1) * of // (2 * to) for to, of in zip(size[::-1], values.shape, strict=True))
    return base64.b64encode(zlib.compress(values[rows[:, None], columns].tobytes())).decode()
