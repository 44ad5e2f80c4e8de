"""What is sent back: class maps as pictures, and what is said of them as JSON."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core import panoptic
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID
from segbench.data import pictures, segment_files
from segbench.engine import inference
from segbench.engine.inference import Prediction
from segbench.serve.networks import Network
from segbench.serve.scheduler import Done


class Maps(NamedTuple):
    """What one network says of a photograph's pixels."""

    categories: NDArray[np.uint8]  # (H, W)
    segments: NDArray[np.int64] | None  # (h, w) ids, at the size at which a panoptic network sees photographs
    labels: LabelSet


Draw = Callable[[NDArray[np.uint8], Maps], bytes]  # a photograph and its maps to a PNG

_COMPRESSION = 1  # class maps are flat: a higher level takes several times as long to save a few per cent


class Segmented(NamedTuple):
    """One network's maps of a photograph."""

    network: Network
    maps: Maps
    picture: bytes  # the same as PNG: a mask, an overlay, label ids, or instance ids
    batch: int  # photographs in the forward pass
    queue_seconds: float
    forward_seconds: float
    encode_seconds: float  # from scores to class map to PNG


def segmented(network: Network, done: Done[Prediction], pixels: NDArray[np.uint8], draw: Draw) -> Segmented:
    """From what was computed of a photograph, (H, W, 3) `pixels`, to its maps and the picture that is asked for."""
    started = time.perf_counter()
    scores, segments = done.result
    categories = inference.class_map(scores, pixels.shape[:2]).cpu().numpy()
    maps = Maps(categories, None if segments is None else segments.cpu().numpy(), network.card.labels)
    picture = draw(pixels, maps)
    seconds = time.perf_counter() - started
    return Segmented(network, maps, picture, done.batch, done.queue_seconds, done.forward_seconds, seconds)


def mask(image: NDArray[np.uint8], maps: Maps) -> bytes:
    """A palette PNG in the legend's colours; its pixel values are the categories."""
    return _png(pictures.mask(maps.categories, maps.labels.colours))


def overlay(image: NDArray[np.uint8], maps: Maps) -> bytes:
    """The mask over the photograph, as PNG."""
    return _png(pictures.overlay(image, maps.categories, maps.labels.colours))


def label_ids(image: NDArray[np.uint8], maps: Maps) -> bytes:
    """The PNG that the dataset's own evaluator reads."""
    return _png(pictures.label_ids(maps.categories, maps.labels.typical_ids))


def instance_ids(image: NDArray[np.uint8], maps: Maps) -> bytes:
    """A 16-bit PNG as Cityscapes' instanceIds. Raises UserError where the maps hold no segments."""
    if maps.segments is None:
        raise UserError("a semantic model does not tell objects apart; ask one of a panoptic protocol")
    ids = np.asarray(segment_files.instance_ids(maps.segments, maps.labels))
    return _png(Image.fromarray(_enlarged(ids, image.shape[:2])))


def report(results: Sequence[Segmented], **seconds: float) -> bytes:
    """All networks' masks, and how far they agree, as JSON. `seconds`: of the request, by part."""
    height, width = results[0].maps.categories.shape
    content = {
        "image": {"width": width, "height": height},
        "models": [_of(result) for result in results],
        "legend": legend(results[0].network.card.labels),
        "agreement": _agreement(results),
        "milliseconds": _milliseconds(**seconds),
    }
    return json.dumps(content, ensure_ascii=False).encode()


def legend(labels: LabelSet) -> list[dict[str, Any]]:
    """What the values of a mask mean."""
    return [
        {
            "category": index,
            "name": one.name,
            "colour": "#{:02x}{:02x}{:02x}".format(*one.colour),
            "id": labels.typical_ids[index],
            "french": one.french or one.name,
            "about": one.about,
            "about_french": one.about_french,
        }
        for index, one in enumerate(labels.classes)
    ]


def _of(result: Segmented) -> dict[str, Any]:
    card = result.network.card
    categories = result.maps.categories
    counts = [np.count_nonzero(categories == category) for category in range(len(card.labels))]
    return {
        "model": result.network.name,
        "study": card.study,
        "seed": card.seed,
        "architecture": card.architecture,
        "title": card.title,
        "drawn": card.drawn,
        "legend": legend(card.labels),
        "mask": base64.b64encode(result.picture).decode(),
        "shares": {name: count / categories.size for name, count in zip(card.labels.names, counts, strict=True)},
        "panoptic": _objects(result.maps),
        "batch": result.batch,
        "milliseconds": _milliseconds(
            queue=result.queue_seconds, forward=result.forward_seconds, encode=result.encode_seconds
        ),
    }


def _objects(maps: Maps) -> dict[str, Any] | None:
    """The segments of a panoptic model: a 16-bit PNG whose values are their numbers, 1, 2, …, 0 where there is none."""
    if maps.segments is None:
        return None
    ids, places, areas = np.unique(maps.segments, return_inverse=True, return_counts=True)
    numbers = np.cumsum(ids != VOID) * (ids != VOID)
    things = panoptic.things(maps.labels)
    listed = [
        {
            "number": int(number),
            "category": int(one // SPAN),
            "thing": bool(one // SPAN in things),
            "share": float(area / maps.segments.size),
        }
        for one, number, area in zip(ids, numbers, areas, strict=True)
        if number
    ]
    numbered = numbers.astype(np.uint16)[places.reshape(maps.segments.shape)]
    picture = Image.fromarray(_enlarged(numbered, maps.categories.shape))
    return {
        "map": base64.b64encode(_png(picture)).decode(),
        "segments": listed,
        "counts": {maps.labels.names[one]: sum(each["category"] == one for each in listed) for one in things},
    }


def _enlarged(values: NDArray[np.uint16], size: tuple[int, ...]) -> NDArray[np.uint16]:
    """(h, w) values at another size, (H, W): each pixel the value that its centre lies in."""
    rows, columns = ((2 * np.arange(to) + 1) * of // (2 * to) for to, of in zip(size, values.shape, strict=True))
    enlarged: NDArray[np.uint16] = values[rows[:, None], columns]
    return enlarged


def _agreement(results: Sequence[Segmented]) -> dict[str, Any] | None:
    """Where all networks say the same, as a PNG of black and white (white: they do), and the share of such pixels;
    None for one network, and where their classes are not the same."""
    maps = [result.maps.categories for result in results]
    if len(maps) < 2 or len({result.network.card.labels for result in results}) > 1:
        return None
    same = np.logical_and.reduce([one == maps[0] for one in maps[1:]])
    return {"share": float(same.mean()), "map": base64.b64encode(_png(Image.fromarray(same))).decode()}


def _milliseconds(**seconds: float) -> Mapping[str, float]:
    return {name: round(value * 1000, 3) for name, value in seconds.items()}


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()
