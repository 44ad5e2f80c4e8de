"""How fast a network trains on this device: a few epochs of a few batches, which are then thrown away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import torch

from segbench.architectures.segmenter import Segmenter
from segbench.core.records import EpochRecord, Hyperparameters
from segbench.data.batches import Batches
from segbench.engine import training
from segbench.runtime import memory
from segbench.runtime.compute import Compute

_LEAST, _MOST = 3, 20  # timed epochs
_FREE = 0.9  # of the memory that is free, so much may be planned with


class Span(NamedTuple):
    """A quantity with its uncertainty: from the fastest and the slowest of what was timed."""

    low: float
    middle: float
    high: float

    @classmethod
    def over(cls, values: list[float]) -> Span:
        return cls(min(values), statistics.median(values), max(values))

    def times(self, factor: float) -> Span:
        return Span(*(value * factor for value in self))

    def plus(self, other: Span) -> Span:
        return Span(*(own + more for own, more in zip(self, other, strict=True)))


class Pace(NamedTuple):
    """Seconds of one image, at the batch size that was measured."""

    training: Span
    evaluation: Span
    peak_gb: float  # of the device on CUDA, of the process on a CPU

    def epoch(self, train: int, val: int) -> Span:
        """Seconds of an epoch on so many images."""
        return self.training.times(train).plus(self.evaluation.times(val))


def measure(
    model: Segmenter, hyperparameters: Hyperparameters, train: Batches, val: Batches, compute: Compute, seconds: float
) -> Pace:
    """Trains a model, which is used up, on a few batches: for about `seconds`, at least three epochs, after one that is
    not timed. Raises UserError and Diverged like `training.fit`."""
    state = training.begin(model, hyperparameters, compute)
    fit = training.fit(state, train, val, epochs=_MOST + 1, seed=0)
    peak = next(fit).peak_memory_gb
    ends, records = time.perf_counter() + seconds, []
    for record in fit:
        records.append(record)
        if len(records) >= _LEAST and time.perf_counter() > ends:
            break
    return Pace(
        Span.over([_training_seconds(record) / train.images for record in records]),
        Span.over([record.seconds.evaluation / val.images for record in records]),
        max(peak, *(record.peak_memory_gb for record in records)),
    )


def _training_seconds(record: EpochRecord) -> float:
    return record.seconds.total - record.seconds.evaluation - record.seconds.bookkeeping


def largest_batch(peaks: Mapping[int, float], free: float) -> int:
    """The largest batch size that fits: the larger one measured, or it times a power of two. Memory grows by the image.

    peaks: the peak memory, in GB, of training with each of two batch sizes; free: GB beyond what the larger took. 0
    where memory did not grow from one to the other, or only one was measured.
    """
    smaller, larger = min(peaks), max(peaks)
    growth = (peaks[larger] - peaks[smaller]) / max(larger - smaller, 1)
    if growth <= 0:
        return 0
    batch = larger
    while 2 * batch <= larger + _FREE * free / growth:
        batch *= 2
    return batch


def free_gb(compute: Compute) -> float:
    """The memory that is free, in GB: on the device, or for this process."""
    if compute.device.type == "cuda":
        return torch.cuda.mem_get_info(compute.device)[0] / 1e9
    return memory.available() / 1e9
