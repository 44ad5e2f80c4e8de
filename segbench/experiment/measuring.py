"""What is measured of a promoted model beside its scores: the kinds of its errors, and how sure it is.

Both are counts per image in a file beside the card (`ledger.measured`), from which the report explains the scores.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segbench.architectures.segmenter import Segmenter
from segbench.core import artefacts
from segbench.core.labels import LabelSet
from segbench.core.protocol import Protocol
from segbench.data import pictures, segment_files, subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset, Split
from segbench.data.subsets import Subset
from segbench.engine import reliability
from segbench.engine.evaluation import View
from segbench.ledger import measured
from segbench.runtime import terminal
from segbench.runtime.compute import Compute
from segbench.stats import behaviour, grid_ceiling
from segbench.stats.texture import appearance

_MOST_PIXELS = 15_000_000  # whose errors are told apart, which takes 3 s a megapixel: 228 images of 256×256
_SHADES = 32  # of an entropy map: finer ones cannot be seen, and would take four times the space


@dataclass(frozen=True)
class Temperature:
    """Fitted on the search's selection images, never on the final ones."""

    value: float
    images: int
    held_out: bool  # whether the full training did not train on them


def fit_temperature(
    model: Segmenter, data: Dataset, protocol: Protocol, final: Subset, batch_size: int, compute: Compute
) -> Temperature | None:
    """`final`: the images that the full training trained on, and the final ones. None if the selection images are final
    ones: nothing is then left to fit it on."""
    chosen = subsets.draw_search(data, protocol.search)
    if chosen.val_split == "val":
        return None
    batches = Batches(subsets.split_of(data, chosen), chosen.val, batch_size, compute.device)
    value = reliability.fit_temperature(model, batches, compute)
    return Temperature(value, len(chosen.val), not np.isin(chosen.val, final.train).any())


@dataclass
class Watcher:
    """Watches an evaluation of the final images: writes masks, segments and entropy maps, and counts how sure the model
    is."""

    folder: Path
    names: Sequence[str]  # of the images, in order
    label_set: LabelSet
    temperature: Temperature | None
    grid: tuple[int, int] = (0, 0)  # of the network's scores
    _counts: list[tuple[reliability.Counts, reliability.Counts]] = field(default_factory=list)
    _done: int = 0

    def __post_init__(self) -> None:
        for name in (artefacts.MASKS, artefacts.ENTROPY, artefacts.SEGMENTS):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def see(self, view: View) -> None:
        """The next batch. Raises OSError."""
        self.grid = view.grid
        labelled = reliability.labelled(view.labels, self.label_set)
        tempered = self.temperature.value if self.temperature else 1.0
        each = [reliability.count(view.log_probabilities, view.labels, labelled, t) for t in (1.0, tempered)]
        self._counts.append((each[0], each[1]))
        unsure = (reliability.entropy(view.log_probabilities) * (_SHADES - 1)).round() * (255 / (_SHADES - 1))
        names = self.names[self._done : self._done + len(view.labels)]
        for name, mask, shades in zip(names, _bytes(view.predicted), _bytes(unsure), strict=True):
            _save(pictures.mask(mask, self.label_set.colours), self.folder / artefacts.MASKS / f"{name}.png")
            _save(Image.fromarray(shades), self.folder / artefacts.ENTROPY / f"{name}.png")
        for name, segments in zip(names, [] if view.segments is None else view.segments.cpu().numpy(), strict=False):
            _save(segment_files.coco_picture(segments), self.folder / artefacts.SEGMENTS / f"{name}.png")
        self._done += len(view.labels)

    def write(self) -> None:
        """What it counted, into the folder. Raises OSError."""
        plain, tempered = zip(*self._counts, strict=True)
        found = measured.Reliability(
            tuple(self.names),
            torch.cat([part.bins for part in plain]).numpy(),
            torch.cat([part.entropies for part in plain]).numpy(),
            torch.cat([part.bins for part in tempered]).numpy(),
            self.temperature.value if self.temperature else float("nan"),
            self.temperature.images if self.temperature else 0,
            bool(self.temperature and self.temperature.held_out),
        )
        measured.write_reliability(self.folder / artefacts.RELIABILITY, found)


def write_errors(folder: Path, split: Split, names: Sequence[str], grid: tuple[int, int], title: str) -> None:
    """Tells the errors of the masks in `folder` apart. split: the packed images that `names` are of; grid: that of the
    network's scores. Of many images, evenly spaced ones stand for the rest. Raises OSError."""
    index = {name: i for i, name in enumerate(split.names)}
    chosen = _spread(names, _MOST_PIXELS // split.labels[0].size)
    # Void classes, and pixels of no class, are one class behind the others, which is judged nowhere.
    classes, void = len(split.label_set) + 1, len(split.label_set)
    judged = np.full(256, void, np.uint8)
    kept = [i for i in range(void) if i not in split.label_set.void]
    judged[kept] = kept
    of_raw = judged[np.array(split.label_set.class_of_raw)]
    of_model, of_grid, looks = [], [], []
    with terminal.progress(f"{title}, errors", len(chosen)) as advance:
        for name in chosen:
            truth = of_raw[split.labels[index[name]]]
            with Image.open(folder / artefacts.MASKS / f"{name}.png") as file:
                predicted = judged[np.asarray(file)]
            of_model.append(behaviour.behaviour(truth, predicted, classes, void))
            of_grid.append(behaviour.behaviour(truth, grid_ceiling(truth, grid, classes), classes, void))
            looks.append(appearance(np.asarray(split.images[index[name]]), truth, classes))
            advance()
    errors = measured.Errors(
        tuple(chosen), behaviour.stacked(of_model), behaviour.stacked(of_grid), grid, np.stack(looks)
    )
    measured.write_errors(folder / artefacts.ERRORS, errors)


def is_complete(folder: Path) -> bool:
    """Whether both files of this version are there."""
    return bool(
        measured.read_errors(folder / artefacts.ERRORS)
        and measured.read_reliability(folder / artefacts.RELIABILITY)
        and (folder / artefacts.ENTROPY).is_dir()
    )


def _spread(names: Sequence[str], most: int) -> list[str]:
    if len(names) <= max(most, 1):
        return list(names)
    return [names[i] for i in np.linspace(0, len(names) - 1, max(most, 1)).round().astype(int)]


def _bytes(planes: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return planes.to(device="cpu", dtype=torch.uint8).numpy()


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)
