"""What a protocol will cost on this device: time, memory and disk, from a few timed steps of each architecture.

estimating.of(protocol, architecture, sample, device, build, trials=10)  → an Estimate

Nothing of it is kept: no study is opened, and the dataset need not be packed.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from segbench.architectures.segmenter import Segmenter
from segbench.core.panoptic import PANOPTIC, label_of, plane_of
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import Hyperparameters
from segbench.core.space import extremes, merged
from segbench.data import layouts, scenes, streets
from segbench.data.batches import Batches
from segbench.data.packing import Split
from segbench.data.subsets import Indices
from segbench.engine import pace
from segbench.engine.pace import Pace, Span
from segbench.runtime import terminal
from segbench.runtime.compute import Compute

CITYSCAPES = (2975, 500)  # images of train and val, where there is no dataset to count
_DRAWN = 8  # images to train on, as often as it takes
_STEPS = 2  # of a timed epoch
# Seconds beside the epochs: of a trial, start-up and pictures; of a promotion, timing the model and publishing it; of
# a search and a promotion together, what they import beyond this command, and making the databases.
_TRIAL, _PROMOTION, _LEDGER = 0.6, 10.0, 12.0
_BOOKKEEPING = 1.02  # of the epochs' time, with checkpoints and both databases
_FLOAT = 4  # bytes


Build = Callable[[Hyperparameters], tuple[Segmenter, Any]]  # a new untrained model, and where its weights are from


class Counts(NamedTuple):
    """How many images there are."""

    train: int
    val: int


class Sample(NamedTuple):
    """A few images to time with, drawn or of the packed dataset."""

    train: Split
    val: Split
    counts: Counts
    beside: float = 0.0  # seconds of the protocol that no architecture accounts for: start-up, drawing
    bytes: int = 0  # of the packed dataset and of the drawn photographs


@dataclass(frozen=True)
class Estimate:
    """Of one architecture. Times in seconds, of one process that has the device for itself."""

    title: str
    trials: int
    epoch: Span  # of the search
    search: Span
    promotion: Span
    peak_gb: float
    largest_batch: int  # 0: unknown
    disk_gb: float  # of checkpoints, weights and models, at most

    @property
    def line(self) -> str:
        """For people, before a search starts."""
        then = f"then {_time(self.promotion.middle)} to promote"
        return f"estimated: {shown(self.search)} for {self.trials} trials, {then}; memory {self.peak_gb:.1f} GB"


def of(
    protocol: Protocol,
    architecture: Architecture,
    sample: Sample,
    compute: Compute,
    build: Build,
    *,
    trials: int,
    seconds: float = 0.0,
) -> Estimate:
    """Times the architecture for about `seconds`; `trials` of its search are left. Without seconds it takes as little
    time as it can, and leaves out the largest batch. Raises UserError and Diverged if it cannot be built or trained."""
    first = {name: extremes(values)[0] for name, values in merged(architecture.space).items()}
    hyperparameters = Hyperparameters.from_params(first, protocol.recipe_of(architecture))

    def measured(batch: int, seconds: float = 0.0) -> Pace:
        indices, augmented = _some(sample.train, _STEPS * batch), protocol.augment_of(architecture)
        train = Batches(sample.train, indices, batch, compute.device, augmented, protocol.train.crop)
        val = Batches(sample.val, _some(sample.val, batch), batch, compute.device)
        return pace.measure(build(hyperparameters)[0], hyperparameters, train, val, compute, seconds)

    model, batch = build(hyperparameters)[0], architecture.batch_size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    speed, largest = measured(batch, seconds), 0
    if seconds:
        peaks = {batch: speed.peak_gb}
        for other in (max(batch // 2, model.smallest_batch), 2 * batch):
            if len(peaks) < 2 and other != batch:
                peaks[other] = measured(other).peak_gb
        largest = pace.largest_batch(peaks, pace.free_gb(compute))
    search, final = protocol.search, protocol.final
    epoch = speed.epoch(search.train_images, search.val_images)
    whole = speed.epoch(final.train_images or sample.counts.train, final.val_images or sample.counts.val)
    # A checkpoint holds the weights, the optimizer's two moments and the best weights, and is written beside the old.
    copies = 2 * 4 + 1 + 3 * len(final.seeds)  # the search's best; the best, the last and MLflow's of each promotion
    return Estimate(
        architecture.title,
        trials,
        epoch,
        _with(epoch.times(search.epochs * _BOOKKEEPING), _TRIAL).times(trials),
        _with(whole.times(final.epochs * _BOOKKEEPING), _PROMOTION).times(len(final.seeds)),
        speed.peak_gb,
        largest,
        copies * parameters * _FLOAT / 1e9,
    )


def _some(split: Split, number: int) -> Indices:
    return np.arange(number) % len(split)


def drawn_sample(protocol: Protocol, data: Path | None) -> Sample:
    """Streets drawn at the protocol's size, to time with before there is a dataset; `data`: its root, if there is one,
    whose images are counted."""
    height, width = protocol.data.size
    is_panoptic = protocol.data.task == PANOPTIC
    own, started = protocol.data.streets, time.time()
    start_up = started - psutil.Process().create_time()  # of search, and again of promote
    size = own.size if own else (height, width)
    pairs = [streets.draw_instances(seed, seed, *size) for seed in range(_DRAWN)]
    each = (time.time() - started) / _DRAWN
    images = np.stack([np.array(Image.fromarray(image).resize((width, height))) for image, _ in pairs])
    nearest = Image.Resampling.NEAREST
    files = [np.array(Image.fromarray(ids.astype(np.int32)).resize((width, height), nearest)) for _, ids in pairs]
    labels = np.stack([label_of(ids) for ids in files])
    names = tuple(f"drawn {index}" for index in range(_DRAWN))
    ids = np.array(protocol.data.labels.raw_ids, np.uint8)
    labels = ids[labels % len(ids)]  # of the protocol's label set, whatever they mean
    split = Split(
        images=images,
        labels=labels,
        names=names,
        cities=names,
        histogram=np.zeros(256, np.int64),
        void_only=(),
        aspects=np.full(_DRAWN, size[1] / size[0]),
        digest="",
        label_set=protocol.data.labels,
        instances=plane_of(np.stack(files)) if is_panoptic else None,
    )
    counts = Counts(own.train, own.val) if own else _counted(protocol, data)
    number = counts.train + counts.val
    packed = number * height * width * (5 if is_panoptic else 4)
    pngs = number * _png_bytes(pairs[0][0]) if own else 0
    drawing = each * number / (psutil.cpu_count() or 1) if own else 0.0
    return Sample(split, split, counts, 2 * start_up + drawing + _LEDGER, packed + pngs)


def _counted(protocol: Protocol, data: Path | None) -> Counts:
    if data is None:
        return Counts(*CITYSCAPES)
    layout = layouts.of(protocol.data)
    return Counts(*(len(layout.find(data, split)[0]) for split in scenes.SPLITS))


def _png_bytes(image: NDArray[np.uint8]) -> int:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return len(buffer.getvalue())


def _with(span: Span, seconds: float) -> Span:
    return span.plus(Span(seconds, seconds, seconds))


def shown(span: Span) -> str:
    """ "12 min (11 min to 14 min)"."""
    return f"{_time(span.middle)} ({_time(span.low)} to {_time(span.high)})"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def table(estimates: list[Estimate]) -> None:
    """Prints a line for each architecture."""
    columns = ["architecture", "an epoch", "search", "promotion", "memory", "largest batch", "disk"]
    rows = [
        [
            one.title,
            shown(one.epoch),
            shown(one.search),
            shown(one.promotion),
            f"{one.peak_gb:.1f} GB",
            str(one.largest_batch or "?"),
            f"{one.disk_gb:.2f} GB",
        ]
        for one in estimates
    ]
    terminal.table("estimated, with the range of what was timed", columns, rows, right=set(range(1, len(columns))))


def total(estimates: list[Estimate], sample: Sample) -> Span:
    """Seconds of the whole protocol, with one process for everything."""
    whole = _with(Span(0, 0, 0), sample.beside)
    for one in estimates:
        whole = whole.plus(one.search).plus(one.promotion)
    return whole
