"""Evaluation: one pass over the images, all counts on the device. A model's `passes` say how it sees each image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.core import metrics
from segbench.core.crops import WHOLE
from segbench.core.labels import LabelSet
from segbench.core.records import Quality
from segbench.data import segments
from segbench.data.batches import NO_CLASS, Batch, Batches
from segbench.engine import losses, panoptic, passes
from segbench.engine.passes import Pass, resize
from segbench.runtime import process_group
from segbench.runtime.compute import Compute
from segbench.stats.panoptic import Counts, quality

_MOST_SCORES = 1 << 28  # of the images of a batch at their size: 1 GB, and again as log-probabilities


class Evaluation(NamedTuple):
    loss: float  # the architecture's own, mean over images
    nll: float  # mean pixel negative log-likelihood of the class-normalised scores, nats
    confusions: NDArray[np.int64]  # (N, R, C) raw confusion of each image, in the order of the batches
    label_set: LabelSet
    segments: Counts | None = None  # of each image, of panoptic protocols

    @property
    def quality(self) -> Quality | None:
        """The panoptic scores, of panoptic protocols."""
        return quality(self.segments, self.label_set) if self.segments else None

    @property
    def value(self) -> float:
        """What `EpochRecord.value` is."""
        quality = self.quality
        return self.scores.miou if quality is None else quality.value

    @property
    def scores(self) -> metrics.Scores:
        return metrics.scores(self.confusions.sum(0), self.label_set)


class View(NamedTuple):
    """What an evaluation saw of one batch."""

    labels: Tensor  # (B, H, W) int64, true classes, NO_CLASS where there is none
    predicted: Tensor  # (B, H, W) int64
    log_probabilities: Tensor  # (B, C, H, W), of the class-normalised scores
    grid: tuple[int, int]  # (h, w) of the network's own scores, before they were resized
    segments: Tensor | None  # (B, H, W) int64 predicted ones, of panoptic protocols


See = Callable[[View], None]
_Item = TypeVar("_Item")


def evaluate(model: Segmenter, batches: Batches, compute: Compute, see: See | None = None) -> Evaluation:
    """Scores the model, in evaluation mode, on every image once. Calls `see` with each batch, in order."""
    every = batches.every(1, normalisation=model.normalisation)
    return _joined([_pass(model, every, batches.label_set, compute, see)], batches)


def evaluate_together(model: Segmenter, batches: Batches, compute: Compute) -> Evaluation:
    """Like `evaluate`, with the batches distributed over the processes of the group. Every process gets the whole
    result."""
    share = batches.every(process_group.size(), process_group.rank(), model.normalisation)
    return _joined(process_group.gather(_pass(model, share, batches.label_set, compute)), batches)


class _Part(NamedTuple):
    loss: float  # sum over the images
    nll: float  # likewise, each weighing what part of its pixels has a class
    weight: float  # sum of these weights
    confusions: list[NDArray[np.int64]]  # of each batch, (B, R, C)
    segments: list[Counts]  # likewise, of panoptic protocols


def _pass(
    model: Segmenter, batches: Iterable[Batch], label_set: LabelSet, compute: Compute, see: See | None = None
) -> _Part:
    model.eval()
    loss = torch.zeros((), device=compute.device)
    nll = torch.zeros((), device=compute.device)
    weight = torch.zeros((), device=compute.device)
    counts, objects = [], []
    with torch.inference_mode():
        for batch in _bounded(batches, model, len(label_set)):
            watch = _Watch(model, batch, label_set)
            coarse = passes.scores(model, batch.images, compute, watch.see)
            loss += watch.loss * (len(batch.images) / watch.seen)
            labelled = (batch.labels != NO_CLASS).sum()
            scores = resize(coarse, batch.labels.shape[-2:])
            logarithms = model.log_probabilities(scores)
            part = labelled / batch.labels.numel() * len(batch.images)
            of_pixels = F.nll_loss(logarithms, batch.labels, ignore_index=NO_CLASS)
            nll += torch.where(labelled > 0, of_pixels, 0.0) * part
            weight += part
            predicted = scores.argmax(1)
            counts.append(count(batch.raw, predicted, len(label_set)))
            found = None
            if batch.instances is not None:
                truth = segments.truth(batch.raw, batch.instances, label_set)
                found = model.segments(watch.outputs, predicted, label_set)
                objects.append(panoptic.count(truth, found, predicted, label_set))
            if see:
                see(View(batch.labels, predicted, logarithms, watch.grid, found))
    confusions = [metrics.rows(count.cpu().numpy(), label_set) for count in counts]
    return _Part(float(loss), float(nll), float(weight), confusions, objects)


class _Watch:
    """The architecture's own loss over the forward passes of a batch."""

    def __init__(self, model: Segmenter, batch: Batch, label_set: LabelSet) -> None:
        self._model = model
        self._batch = batch
        self._label_set = label_set
        self.outputs: Any = None  # of the latest forward pass
        self.loss = torch.zeros((), device=batch.labels.device)  # sum over the windows, or images
        self.seen = 0
        self.grid = (0, 0)  # of the network's scores over a whole image

    def see(self, one: Pass) -> None:
        """The next forward pass."""
        self.outputs = one.outputs
        labels = one.frame(self._batch.labels)
        terms = losses.of_batch(self._model, one.outputs, self._batch._replace(labels=labels), self._label_set)
        self.loss += torch.where((labels != NO_CLASS).any(), sum(terms.values()), 0.0) * len(labels)
        self.seen += len(labels)
        if self.grid == (0, 0):
            height, width = labels.shape[1:]
            rows, columns = one.scores.shape[2:]
            self.grid = (round(rows * one.size[0] / height), round(columns * one.size[1] / width))


def _bounded(batches: Iterable[Batch], model: Segmenter, classes: int) -> Iterator[Batch]:
    """The batches. Each image is a batch of its own if the model has several passes, which are made image by image, or
    if the scores of all images at their size would be too large."""
    for batch in batches:
        if model.passes == WHOLE and batch.labels.numel() * classes <= _MOST_SCORES:
            yield batch
            continue
        for i in range(len(batch.images)):
            images, labels, raw = (part[i : i + 1] for part in (batch.images, batch.labels, batch.raw))
            instances = None if batch.instances is None else batch.instances[i : i + 1]
            yield batch._replace(images=images, labels=labels, raw=raw, instances=instances)


def _joined(parts: list[_Part], batches: Batches) -> Evaluation:
    """Merges the parts; their batches, which were distributed in turn, are put back in order."""
    confusions = np.concatenate(_in_turn([part.confusions for part in parts]))
    objects = _in_turn([part.segments for part in parts])
    loss = sum(p.loss for p in parts) / batches.images
    weight = sum(p.weight for p in parts)
    nll = sum(p.nll for p in parts) / weight if weight else float("nan")
    return Evaluation(loss, nll, confusions, batches.label_set, Counts.joined(objects) if objects else None)


def _in_turn(parts: list[list[_Item]]) -> list[_Item]:
    """One of each part, then the next of each, …"""
    turns = itertools.chain.from_iterable(itertools.zip_longest(*parts))
    return [item for item in turns if item is not None]


def count(raw: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """raw: (B, H, W) uint8 ids, predicted: (B, H, W) int64 classes. Returns (B, 256, C) int64 pixel counts."""
    images = len(raw)
    offset = torch.arange(images, device=raw.device).view(-1, 1, 1) * (256 * classes)
    cells = raw.long().mul_(classes).add_(predicted).add_(offset)
    return torch.bincount(cells.view(-1), minlength=images * 256 * classes).view(images, 256, classes)
