"""The networks in memory, and the lanes they compute on: one thread for each device, so that no two forward passes
share its cores or its memory."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from segbench.architectures.segmenter import Segmenter
from segbench.core import artefacts
from segbench.core.crops import WHOLE
from segbench.core.panoptic import PANOPTIC
from segbench.core.records import ModelCard
from segbench.engine import inference
from segbench.engine.inference import Prediction
from segbench.ledger import models
from segbench.ledger.models import Promoted
from segbench.runtime import compute
from segbench.runtime.compute import Compute
from segbench.stats import bootstrap

Answer = TypeVar("Answer")

_GAIN = 1.03  # how much more a larger batch must compute in the same time to be worth its wait


@dataclass(frozen=True, eq=False)
class Network:
    """A promoted model, ready to compute on every lane."""

    name: str  # its study's, with the seed where several were promoted
    card: ModelCard
    fingerprint: str  # of its card and weights: equal fingerprints give equal class maps on one kind of device
    copies: tuple[Segmenter, ...]  # one for each lane
    largest: int  # the batch that computes fastest
    interval: tuple[float, float] | None  # of its mIoU: 95 %, over the validation images; None where unknown


class Lane:
    """One device and the thread that computes on it."""

    def __init__(self, number: int, device: str) -> None:
        self._number = number
        # The thread chooses its device itself: how a CPU treats denormal numbers is each thread's own setting.
        self._thread = ThreadPoolExecutor(1, f"lane{number}")
        self.compute: Compute = self._thread.submit(compute.choose, device).result()

    async def __call__(self, network: Network, images: Sequence[NDArray[np.uint8]]) -> Sequence[Prediction]:
        """Of each (H, W, 3) image, which has the network's size."""
        return await self.run(self._forward, network.copies[self._number], network.card, np.stack(images))

    async def run(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Calls `function` in the lane's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*arguments))

    def load(self, promoted: Promoted) -> Segmenter:
        """Reads a model's weights. Raises UserError where they are damaged."""
        return inference.load(promoted.card, promoted.weights, self.compute)

    def warm_up(self, model: Segmenter, card: ModelCard, largest: int) -> int:
        """Computes batches of every size up to the one that computes most images a second, and returns that size. The
        first that gains too little over a smaller one, or by the times of those before it would, ends the search: it
        would cost latency for nothing."""
        best, seconds = 1, {1: self._seconds(model, card, 1)}
        for batch in [*(2**n for n in range(1, largest.bit_length()) if 2**n < largest), largest]:
            wanted = seconds[best] / best * batch / _GAIN
            if _expected(seconds, batch) > wanted:
                break
            seconds[batch] = self._seconds(model, card, batch)
            if seconds[batch] > wanted:
                break
            best = batch
        for other in sorted({*range(1, best)} - {*seconds}):  # cuDNN chooses its algorithms anew for every size
            self._forward(model, card, np.zeros((other, *card.size, 3), np.uint8))
        return best

    def close(self) -> None:
        """Ends the thread after what it computes now."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _seconds(self, model: Segmenter, card: ModelCard, batch: int) -> float:
        images = np.zeros((batch, *card.size, 3), np.uint8)
        took = []
        for _ in range(2):  # the first warms up; where that takes no time, the quicker of two is the less disturbed
            started = time.perf_counter()
            self._forward(model, card, images)
            took.append(time.perf_counter() - started)
        return min(took)

    def _forward(self, model: Segmenter, card: ModelCard, images: NDArray[np.uint8]) -> Sequence[Prediction]:
        labels = card.labels if card.task == PANOPTIC else None
        with torch.inference_mode():
            made = inference.predictions(model, torch.from_numpy(images), self.compute, labels)
            if self.compute.device.type == "cuda":
                torch.cuda.synchronize(self.compute.device)
            return made


def _expected(seconds: Mapping[int, float], batch: int) -> float:
    """What a pass of `batch` images would take, by the line through the two largest batches that were measured."""
    if len(seconds) < 2:
        return 0.0
    (few, quick), (many, slow) = sorted(seconds.items())[-2:]
    return slow + (slow - quick) / (many - few) * (batch - many)


def interval(promoted: Promoted) -> tuple[float, float] | None:
    """The ends of the 95 % interval of a model's mIoU; None where its per-image confusions are missing."""
    counts, _ = models.confusions(promoted.folder / artefacts.CONFUSIONS, promoted.card.labels)
    if counts is None:
        return None
    [found] = bootstrap.interval([counts], bootstrap.miou(promoted.card.labels))
    return (found.low, found.high) if math.isfinite(found.low) else None


def fingerprint(card: ModelCard, precision: str) -> str:
    """Of a model's weights and of what decides how they are used."""
    used: tuple[object, ...] = (
        card.sha256,
        card.architecture,
        card.model,
        card.hyperparameters.model,
        card.size,
        card.mean,
        card.std,
    )
    used = (*used, card.passes) if card.passes != WHOLE else used
    return hashlib.sha256(repr((*used, precision)).encode()).hexdigest()[:16]
