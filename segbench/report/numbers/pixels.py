"""What only pixels tell: errors by distance from a border, and the ceiling the labels' own size sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench import stats
from segbench.core import artefacts, metrics, panoptic, paths
from segbench.core.errors import UserError
from segbench.core.labels import IGNORED
from segbench.core.panoptic import PANOPTIC
from segbench.data import layouts, masks, packing, pictures, segment_files
from segbench.data.scenes import Scene
from segbench.report.numbers.comparison import Candidate, Comparison

EDGES = (1, 2, 3, 5, 9, 17)  # pixels; bands widen as errors get rare
_MOST_PIXELS = 50_000_000  # of all images together; beyond, evenly spaced images stand for the rest


class Borders(NamedTuple):
    """`counts`: architecture's name to (len(EDGES) + 1, 2) wrong and all pixels by distance from a border."""

    counts: Mapping[str, NDArray[np.int64]]
    images: int

    def near(self, edge: int) -> dict[str, float]:
        """The share of wrong pixels nearer than EDGES[edge], per architecture."""
        return {name: float(stats.trimap_errors(counts)[edge]) for name, counts in self.counts.items()}

    def share(self, edge: int) -> float:
        """The share of pixels that lie nearer than EDGES[edge]."""
        counts = next(iter(self.counts.values()))
        return float(counts[: edge + 1, 1].sum() / max(counts[:, 1].sum(), 1))


class Ceiling(NamedTuple):
    """The scores of labels scaled to the protocol's size and back, against the photographs' own."""

    miou: float
    iou: tuple[float | None, ...]  # per category
    images: int
    size: tuple[int, int]  # (height, width)


def split(comparison: Comparison) -> packing.Split | None:
    """The packed validation images the models were scored on; None where they are gone or are others now."""
    if not comparison.promoted:
        return None
    card = comparison.promoted[0].models[0].card
    folder = paths.cache() / card.cache
    try:
        train, val = (
            packing.open_split(folder / part, card.labels, card.task == PANOPTIC) for part in ("train", "val")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = packing.Dataset(train, val, card.size, folder).fingerprint == card.data_fingerprint
    return val if same else None


def mask(candidate: Candidate, name: str) -> NDArray[np.uint8] | None:
    """(H, W) classes that the candidate's first seed predicted; None where the file is gone or damaged."""
    return _kept(candidate, artefacts.MASKS, name, "P")


def entropy(candidate: Candidate, name: str) -> NDArray[np.uint8] | None:
    """(H, W), how unsure the candidate's first seed was of each pixel, 0 … 255; None where the file is gone."""
    return _kept(candidate, artefacts.ENTROPY, name, "L")


def segments(candidate: Candidate, name: str) -> NDArray[np.int64] | None:
    """(H, W) segments that the candidate's first seed predicted; None where the file is gone or damaged."""
    model = next(iter(candidate.scored or candidate.models))
    try:
        return segment_files.read_coco(model.folder / artefacts.SEGMENTS / f"{name}.png")
    except (OSError, ValueError, SyntaxError):
        return None


def true_segments(val: packing.Split, index: int) -> NDArray[np.int64] | None:
    """(H, W) segments of an image; None of semantic protocols."""
    if val.instances is None:
        return None
    return panoptic.truth(np.asarray(val.labels[index]), np.asarray(val.instances[index]), val.label_set)


def _kept(candidate: Candidate, folder: str, name: str, mode: str) -> NDArray[np.uint8] | None:
    model = next(iter(candidate.scored or candidate.models))
    try:
        with Image.open(model.folder / folder / f"{name}.png") as file:
            return np.asarray(file) if file.mode == mode else None
    except (OSError, ValueError, SyntaxError):
        return None


def truth(val: packing.Split, index: int) -> NDArray[np.uint8]:
    """(H, W) classes of an image, IGNORED where it has none."""
    of_raw = np.array(val.label_set.class_of_raw, np.uint8)
    return np.asarray(of_raw[val.labels[index]])


def borders(comparison: Comparison, val: packing.Split | None) -> Borders | None:
    """None where the images, or a mask of one of them, are gone."""
    if val is None:
        return None
    names = _some([name for name in comparison.promoted[0].models[0].names if name in val.names], val.labels[0].size)
    index = {name: i for i, name in enumerate(val.names)}
    counts = {candidate.name: np.zeros((len(EDGES) + 1, 2), np.int64) for candidate in comparison.promoted}
    for name in names:
        seen = truth(val, index[name])
        for candidate in comparison.promoted:
            predicted = mask(candidate, name)
            if predicted is None or predicted.shape != seen.shape:
                return None
            counts[candidate.name] += stats.boundary_errors(seen, predicted, (IGNORED, *val.label_set.void), EDGES)
    return Borders(counts, len(names)) if names else None


def ceiling(comparison: Comparison, val: packing.Split | None) -> Ceiling | None:
    """None where the labels at the photographs' size are not at hand, or are not those that were packed."""
    if val is None:
        return None
    card = comparison.promoted[0].models[0].card
    scenes = sources(comparison, val)
    total = _measured(scenes, val, card.size)
    if not scenes or total is None:
        return None
    scores = metrics.scores(total, card.labels)
    return Ceiling(scores.miou, scores.iou, len(scenes), card.size)


def sources(comparison: Comparison, val: packing.Split) -> list[Scene]:
    """The files that the validation images were packed from, as many as may be looked at; none where these are not at
    hand, or are not those that were packed."""
    card = comparison.promoted[0].models[0].card
    index = {name: i for i, name in enumerate(val.names)}
    for root in _roots(card.cache):
        try:
            pairs, _ = layouts.of(comparison.protocol.data).find(root, "val")
        except UserError:
            continue
        files = {scene.name: scene for scene in pairs}
        if not set(val.names) <= set(files):
            continue
        try:
            width, height = pictures.upright(files[val.names[0]].labels).size
        except pictures.Unreadable:
            continue
        names = _some(list(val.names), width * height)
        if all(_is_packed(files[name], val, index[name], card.size) for name in names):
            return [files[name] for name in names]
    return []


def _is_packed(scene: Scene, val: packing.Split, index: int, size: tuple[int, int]) -> bool:
    """Whether these labels are those that were packed, not another dataset's of the same name."""
    try:
        raw = masks.read(scene.labels, val.label_set)
    except (pictures.Unreadable, masks.Unknown):
        return False
    small = np.asarray(Image.fromarray(raw).resize((size[1], size[0]), Image.Resampling.NEAREST))
    return np.array_equal(small, val.labels[index])


def _measured(scenes: list[Scene], val: packing.Split, size: tuple[int, int]) -> NDArray[np.int64] | None:
    total = np.zeros((len(val.label_set.rows), len(val.label_set)), np.int64)
    try:
        for scene in scenes:
            total += stats.label_ceiling(masks.read(scene.labels, val.label_set), size, val.label_set)
    except (pictures.Unreadable, masks.Unknown):
        return None
    return total


def _roots(cache: str) -> list[Path]:
    """Where the photographs may lie: streets drawn into the cache, whose name the packed folder's begins with, or the
    dataset the environment names."""
    name = cache.rsplit("-", 2)[0]
    drawn = [path for path in sorted(paths.cache().glob("*")) if packing.shown_name(path) == name]
    try:
        named = paths.dataset(None)
    except UserError:
        named = None
    return [root for root in (*drawn, named) if root and root.is_dir()]


def _some(names: list[str], pixels: int) -> list[str]:
    """As many as may be looked at, evenly spaced."""
    most = max(_MOST_PIXELS // max(pixels, 1), 1)
    if len(names) <= most:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, most).round().astype(int)]
