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
from torch import Tensor

from segbench.core.labels import LabelSet
from segbench.data import pictures
from segbench.engine import inference
from segbench.serve.networks import Network
from segbench.serve.scheduler import Done

# A photograph, its class map and what the classes are, to a PNG.
Draw = Callable[[NDArray[np.uint8], NDArray[np.uint8], LabelSet], bytes]

_COMPRESSION = 1  # class maps are flat: a higher level takes several times as long to save a few per cent


class Segmented(NamedTuple):
    """One network's class map of a photograph."""

    network: Network
    categories: NDArray[np.uint8]  # (H, W)
    picture: bytes  # the same as PNG: a mask, an overlay, or label ids
    batch: int  # photographs in the forward pass
    queue_seconds: float
    forward_seconds: float
    encode_seconds: float  # from scores to class map to PNG


def segmented(network: Network, done: Done[Tensor], pixels: NDArray[np.uint8], draw: Draw) -> Segmented:
    """From the scores of a photograph, (H, W, 3) `pixels`, to its class map and the picture of it that is asked for."""
    started = time.perf_counter()
    categories = inference.class_map(done.result, pixels.shape[:2]).cpu().numpy()
    picture = draw(pixels, categories, network.card.labels)
    seconds = time.perf_counter() - started
    return Segmented(network, categories, picture, done.batch, done.queue_seconds, done.forward_seconds, seconds)


def mask(image: NDArray[np.uint8], categories: NDArray[np.uint8], labels: LabelSet) -> bytes:
    """A palette PNG in the legend's colours; its pixel values are the categories."""
    return _png(pictures.mask(categories, labels.colours))


def overlay(image: NDArray[np.uint8], categories: NDArray[np.uint8], labels: LabelSet) -> bytes:
    """The mask over the photograph, as PNG."""
    return _png(pictures.overlay(image, categories, labels.colours))


def label_ids(image: NDArray[np.uint8], categories: NDArray[np.uint8], labels: LabelSet) -> bytes:
    """The PNG that the dataset's own evaluator reads."""
    return _png(pictures.label_ids(categories, labels.typical_ids))


def report(results: Sequence[Segmented], **seconds: float) -> bytes:
    """All networks' masks, and how far they agree, as JSON. `seconds`: of the request, by part."""
    height, width = results[0].categories.shape
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
    counts = [np.count_nonzero(result.categories == category) for category in range(len(card.labels))]
    return {
        "model": result.network.name,
        "study": card.study,
        "seed": card.seed,
        "architecture": card.architecture,
        "title": card.title,
        "drawn": card.drawn,
        "legend": legend(card.labels),
        "mask": base64.b64encode(result.picture).decode(),
        "shares": {name: count / result.categories.size for name, count in zip(card.labels.names, counts, strict=True)},
        "batch": result.batch,
        "milliseconds": _milliseconds(
            queue=result.queue_seconds, forward=result.forward_seconds, encode=result.encode_seconds
        ),
    }


def _agreement(results: Sequence[Segmented]) -> dict[str, Any] | None:
    """Where all networks say the same, as a PNG of black and white (white: they do), and the share of such pixels;
    None for one network, and where their classes are not the same."""
    maps = [result.categories for result in results]
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
