"""Evaluation: one pass over the images, one forward pass each, all counts on the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.core import metrics
from segbench.core.labels import CATEGORIES
from segbench.data.batches import Batch, Batches
from segbench.engine.inference import resize
from segbench.runtime import process_group
from segbench.runtime.compute import Compute


class Evaluation(NamedTuple):
    loss: float  # the architecture's own, mean over images
    nll: float  # mean pixel negative log-likelihood of the class-normalised scores, nats
    confusions: NDArray[np.int64]  # (N, 35, 8) raw confusion of each image, in the order of the batches

    @property
    def scores(self) -> metrics.Scores:
        return metrics.scores(self.confusions.sum(0))


class View(NamedTuple):
    """What an evaluation saw of one batch."""

    labels: Tensor  # (B, H, W) int64, true categories
    predicted: Tensor  # (B, H, W) int64
    log_probabilities: Tensor  # (B, C, H, W), of the class-normalised scores
    grid: tuple[int, int]  # (h, w) of the network's own scores, before they were resized


See = Callable[[View], None]


def evaluate(model: Segmenter, batches: Batches, compute: Compute, see: See | None = None) -> Evaluation:
    """Scores the model, in evaluation mode, on every image once. Calls `see` with each batch, in order."""
    return _joined([_pass(model, batches.every(1, normalisation=model.normalisation), compute, see)], batches.images)


def evaluate_together(model: Segmenter, batches: Batches, compute: Compute) -> Evaluation:
    """Like `evaluate`, with the batches distributed over the processes of the group. Every process gets the whole
    result."""
    share = batches.every(process_group.size(), process_group.rank(), model.normalisation)
    return _joined(process_group.gather(_pass(model, share, compute)), batches.images)


class _Part(NamedTuple):
    loss: float  # sum over the images
    nll: float
    confusions: list[NDArray[np.int64]]  # of each batch, (B, 35, 8)


def _pass(model: Segmenter, batches: Iterable[Batch], compute: Compute, see: See | None = None) -> _Part:
    model.eval()
    loss = torch.zeros((), device=compute.device)
    nll = torch.zeros((), device=compute.device)
    counts = []
    with torch.inference_mode():
        for batch in batches:
            with compute.autocast():
                outputs = model(batch.images)
            loss += sum(model.losses(outputs, batch.labels).values()) * len(batch.images)
            coarse = model.scores(outputs)
            scores = resize(coarse, batch.labels.shape[-2:])
            logarithms = model.log_probabilities(scores)
            nll += F.nll_loss(logarithms, batch.labels) * len(batch.images)
            predicted = scores.argmax(1)
            counts.append(_count(batch.raw, predicted))
            if see:
                see(View(batch.labels, predicted, logarithms, (coarse.shape[-2], coarse.shape[-1])))
    return _Part(float(loss), float(nll), [metrics.rows(count.cpu().numpy()) for count in counts])


def _joined(parts: list[_Part], images: int) -> Evaluation:
    """Merges the parts; their batches, which were distributed in turn, are put back in order."""
    turns = itertools.chain.from_iterable(itertools.zip_longest(*(part.confusions for part in parts)))
    confusions = np.concatenate([confusion for confusion in turns if confusion is not None])
    return Evaluation(sum(p.loss for p in parts) / images, sum(p.nll for p in parts) / images, confusions)


def _count(raw: Tensor, predicted: Tensor) -> Tensor:
    """raw: (B, H, W) uint8 ids, predicted: (B, H, W) int64 categories. Returns (B, 256, 8) int64 pixel counts."""
    images, classes = len(raw), len(CATEGORIES)
    offset = torch.arange(images, device=raw.device).view(-1, 1, 1) * (256 * classes)
    cells = raw.long().mul_(classes).add_(predicted).add_(offset)
    return torch.bincount(cells.view(-1), minlength=images * 256 * classes).view(images, 256, classes)
