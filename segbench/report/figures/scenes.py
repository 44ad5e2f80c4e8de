"""Which validation images the page shows, chosen by rule, and their pictures as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from segbench.core.labels import IGNORED, LabelSet
from segbench.data import packing, pictures, segment_files
from segbench.report.figures.theme import BOTH_WRONG, MANY, WRONG, colour
from segbench.report.numbers import pixels, tables
from segbench.report.numbers.comparison import Candidate, Comparison

COUNTS = {"gap": 5, "worst": 4, "best": 4, "median": 2}  # scenes per rule, in the order they are shown
_QUALITY = 82  # of WebP
_LARGEST = (512, 1024)  # (height, width) of a picture on the page
_BUDGET = 5_000_000  # bytes of pictures: plotly and the rest of the page leave room for so many
_PALE = 0.45  # how much of the photograph is left under an error map

Pixels = NDArray[np.uint8]


class Chosen(NamedTuple):
    """A scene and why it is shown: "best", "median", "worst" or "gap"."""

    rule: str
    name: str
    scores: dict[str, float]  # architecture's name to the value of this image alone


class Pictured(NamedTuple):
    """A chosen scene with its pictures, as data URIs."""

    chosen: Chosen
    image: str
    truth: str
    masks: dict[str, str]  # by architecture's name; none where its file is gone, as in `errors`
    errors: dict[str, str]  # of few architectures: of many, the browser draws them, and so who is right of two
    disagreement: str  # between the first two architectures; "" where there are not two masks, or many
    entropy: dict[str, str]  # of few architectures, by name; none where its file is gone
    objects: dict[str, str]  # of panoptic protocols, by name, and the true ones by ""; none where a file is gone

    @property
    def bytes(self) -> int:
        """How large its pictures are, as they stand in the page."""
        layers = [
            source for layer in (self.masks, self.errors, self.entropy, self.objects) for source in layer.values()
        ]
        return sum(map(len, (self.image, self.truth, self.disagreement, *layers)))


@dataclass(frozen=True)
class Scenes:
    """`missing` names the text, under [scenes], that says why there are none: "", "confusions" or "cache"."""

    shown: tuple[Pictured, ...]
    size: tuple[int, int] = (0, 0)  # (height, width) of the pictures
    missing: str = ""


def scenes(comparison: Comparison, val: packing.Split | None) -> Scenes:
    """The chosen scenes as pictures, from the packed dataset and the promoted models' masks, as many as the page may
    hold: at least scene per rule."""
    candidates = [candidate for candidate in comparison.promoted if tables.image_values(candidate)]
    chosen = choose({candidate.name: tables.image_values(candidate) for candidate in candidates}, COUNTS)
    if not chosen:
        return Scenes((), missing="confusions")
    index = {name: i for i, name in enumerate(val.names)} if val else {}
    if val is None or any(scene.name not in index for scene in chosen):
        return Scenes((), missing="cache")
    size = _fitting(val.labels[0].shape)
    drawn: dict[str, Pictured] = {}
    spent = 0
    firsts = {next(scene.name for scene in chosen if scene.rule == rule) for rule in {scene.rule for scene in chosen}}
    for scene in sorted(chosen, key=lambda scene: scene.name not in firsts):  # these come in whatever they weigh
        place = index[scene.name]
        objects = _objects(scene.name, candidates, pixels.true_segments(val, place), val.label_set, size)
        truth = pixels.truth(val, place)
        made = _pictured(scene, candidates, val.images[place], truth, val.label_set, size, objects)
        if scene.name in firsts or spent + made.bytes <= _BUDGET:
            drawn[scene.name] = made
            spent += made.bytes
    return Scenes(tuple(drawn[scene.name] for scene in chosen if scene.name in drawn), size)


def choose(scores: Mapping[str, Mapping[str, float]], counts: Mapping[str, int]) -> list[Chosen]:
    """From architecture → scene → value: the scenes with the best, the median and the worst mean over architectures,
    and those on which two architectures differ most, as many of each as `counts` says and in its order.

    No scene is shown twice: the next in line steps in. Rules take turns, so that each gets its first. Ties go by name.
    """
    if not scores:
        return []
    common = sorted(set.intersection(*(set(own) for own in scores.values())))
    table = np.array([[own[name] for name in common] for own in scores.values()]).reshape(len(scores), len(common))
    order = sorted(range(len(common)), key=lambda i: (-table[:, i].mean(), common[i]))
    middle = sorted(order, key=lambda i: abs(order.index(i) - (len(order) - 1) // 2))
    lines = {"best": order, "median": middle, "worst": order[::-1]}
    if len(scores) > 1:
        lines["gap"] = sorted(order, key=lambda i: (-np.ptp(table[:, i]), common[i]))
    taken: dict[int, str] = {}
    for turn in range(max(counts.values())):
        for rule in ("best", "median", "worst", "gap"):
            free = next((i for i in lines.get(rule, ()) if i not in taken), None)
            if free is not None and turn < counts.get(rule, 0):
                taken[free] = rule
    chosen = [Chosen(rule, common[i], {n: float(s[common[i]]) for n, s in scores.items()}) for i, rule in taken.items()]
    return sorted(chosen, key=lambda scene: list(counts).index(scene.rule))


def _pictured(
    chosen: Chosen,
    candidates: Sequence[Candidate],
    image: Pixels,
    truth: Pixels,
    labels: LabelSet,
    size: tuple[int, int],
    objects: dict[str, str],
) -> Pictured:
    read = [(candidate, pixels.mask(candidate, chosen.name)) for candidate in candidates]
    predicted = [(candidate, mask) for candidate, mask in read if mask is not None and mask.shape == truth.shape]
    shown = _scaled(Image.fromarray(np.asarray(image)), size, smooth=True)
    errors, disagreement = ({}, "") if len(candidates) >= MANY else _derived(predicted, truth, _pale(shown), size)
    masks = {candidate.name: _png(mask, labels, size) for candidate, mask in predicted}
    unsure = {} if len(candidates) >= MANY else {c.name: pixels.entropy(c, chosen.name) for c, _ in predicted}
    entropy = {name: _webp(_shaded(shades, size)) for name, shades in unsure.items() if shades is not None}
    return Pictured(chosen, _webp(shown), _png(truth, labels, size), masks, errors, disagreement, entropy, objects)


def _objects(
    name: str,
    candidates: Sequence[Candidate],
    truth: NDArray[np.int64] | None,
    labels: LabelSet,
    size: tuple[int, int],
) -> dict[str, str]:
    """Objects told apart by shade."""
    if truth is None:
        return {}
    drawn = {"": truth, **{c.name: found for c in candidates if (found := pixels.segments(c, name)) is not None}}
    return {
        key: _lossless(_scaled(segment_files.coloured(each, labels), size, smooth=False)) for key, each in drawn.items()
    }


def _derived(
    predicted: Sequence[tuple[Candidate, Pixels]], truth: Pixels, pale: Pixels, size: tuple[int, int]
) -> tuple[dict[str, str], str]:
    """Where each is wrong, and which of the first two is right. scenes.js draws the same."""
    labelled = truth != IGNORED
    errors = {
        candidate.name: _webp(_painted(pale, [((mask != truth) & labelled, WRONG)], size))
        for candidate, mask in predicted
    }
    if len(predicted) < 2:
        return errors, ""
    (a, first), (b, second) = predicted[:2]
    right, other = first == truth, second == truth
    neither = ~right & ~other & labelled
    parts = [(right & ~other, colour(a.index)), (other & ~right, colour(b.index)), (neither, BOTH_WRONG)]
    return errors, _webp(_painted(pale, parts, size))


def _shaded(shades: Pixels, size: tuple[int, int]) -> Image.Image:
    """From dark, where the network was sure, to light."""
    return _scaled(Image.fromarray(np.ascontiguousarray(shades)), size, smooth=True)


def _fitting(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width), scaled down where a picture would be too large for a page."""
    height, width = shape
    factor = min(1.0, _LARGEST[0] / height, _LARGEST[1] / width)
    return max(round(height * factor), 1), max(round(width * factor), 1)


def _scaled(picture: Image.Image, size: tuple[int, int], smooth: bool) -> Image.Image:
    if picture.size == (size[1], size[0]):
        return picture
    return picture.resize((size[1], size[0]), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)


def _pale(picture: Image.Image) -> Pixels:
    """(H, W, 3): the photograph as a light grey ghost of itself, for colours to stand out on."""
    grey = np.asarray(picture.convert("L"), np.float64)
    light = 255 - (255 - grey) * _PALE
    return np.repeat(light.round().astype(np.uint8)[..., None], 3, axis=2)


def _painted(ground: Pixels, parts: Sequence[tuple[NDArray[np.bool_], str]], size: tuple[int, int]) -> Image.Image:
    painted = ground.copy()
    for where, tint in parts:
        scaled = np.asarray(_scaled(Image.fromarray(where), size, smooth=False))
        painted[scaled] = ImageColor.getrgb(tint)[:3]
    return Image.fromarray(painted)


def _webp(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return _uri(buffer.getvalue(), "webp")


def _lossless(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=4)
    return _uri(buffer.getvalue(), "webp")


def _png(classes: Pixels, labels: LabelSet, size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    _scaled(pictures.mask(classes, labels.colours), size, smooth=False).save(buffer, "PNG", optimize=True)
    return _uri(buffer.getvalue(), "png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
