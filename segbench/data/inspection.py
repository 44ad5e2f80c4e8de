"""What is suspicious about a dataset: images that are in both splits, groups that are, classes without a pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core import metrics
from segbench.data.packing import Dataset, Split

ALIKE = 0.9  # likeness from which on two images are called near-duplicates, see `twins`
_SIDE = 24  # pixels of a thumbnail
_ROWS = 256  # validation images compared at once


class Twin(NamedTuple):
    """A validation image and the training image that it resembles most: indices, and their likeness."""

    val: int
    train: int
    likeness: float  # ALIKE..1
    equal: bool  # whether all pixels are


class Findings(NamedTuple):
    twins: tuple[Twin, ...]  # the most alike first
    shared: tuple[str, ...]  # cities, or groups, in both splits
    absent: tuple[str, ...]  # classes without a pixel in either split


def inspect(dataset: Dataset) -> Findings:
    """Looks at the packed images and at what was counted while packing."""
    shared = sorted(set(dataset.train.cities) & set(dataset.val.cities))
    return Findings(tuple(twins(dataset.train, dataset.val)), tuple(shared), absent(dataset))


def absent(dataset: Dataset) -> tuple[str, ...]:
    """The classes without a pixel in either split."""
    labels = dataset.train.label_set
    pixels = metrics.per_class(dataset.train.histogram + dataset.val.histogram, labels)
    return tuple(name for name, count in zip(labels.names, pixels.tolist(), strict=True) if not count)


def note_of(absent: Sequence[str]) -> str:
    """What the commands say of classes without a pixel."""
    return f"classes without a pixel in train or val, which are neither learnt nor scored: {', '.join(absent)}"


def twins(train: Split, val: Split) -> list[Twin]:
    """Validation images that are also among the training images, or nearly: recompressed, brightened, cropped a little.

    Likeness is the correlation of grey thumbnails, 24×24, each less the mean training thumbnail, which holds what all
    scenes share (sky above road); an image of one colour resembles none. On CamVid a copy brightened by 15 % keeps
    0.97, one saved as JPEG of quality 30 0.99, one cropped by 2 % and brightened 0.94 (lowest of 62 each); no image of
    its validation split reaches 0.71.
    """
    ours, theirs = _thumbnails(train), _thumbnails(val)
    mean = ours.mean(0)
    ours, theirs = (_unit(rows - mean) * (np.ptp(rows, axis=1, keepdims=True) > 0) for rows in (ours, theirs))
    same = {_digest(image): index for index, image in enumerate(train.images)}
    found = []
    for start in range(0, len(theirs), _ROWS):
        likeness = theirs[start : start + _ROWS] @ ours.T
        for row, best in enumerate(likeness.argmax(1).tolist()):
            equal = same.get(_digest(val.images[start + row]))
            if equal is not None:
                found.append(Twin(start + row, equal, 1.0, True))
            elif likeness[row, best] >= ALIKE:
                found.append(Twin(start + row, best, float(likeness[row, best]), False))
    return sorted(found, key=lambda twin: (not twin.equal, -twin.likeness, twin.val))


def _thumbnails(split: Split) -> NDArray[np.float32]:
    """(N, _SIDE²) grey values, 0..255."""
    made = np.empty((len(split), _SIDE, _SIDE), np.float32)
    for index, image in enumerate(split.images):
        made[index] = np.asarray(Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX))
    return made.reshape(len(split), -1)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row less its mean, of length 1, or 0 where that is constant."""
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-3))


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()
