"""Evaluation: one pass over images, one forward each, everything counted on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segbench import metrics
from segbench.architectures.segmenter import Segmenter
from segbench.compute import Compute
from segbench.data.batches import Batches
from segbench.inference import resize
from segbench.labels import CATEGORIES


class Evaluation(NamedTuple):
    loss: float  # the architecture's own, mean over images
    nll: float  # mean pixel negative log-likelihood of the class-normalised scores, nats
    confusions: NDArray[np.int64]  # (N, 35, 8) raw confusion of each image, in the order of the batches

    @property
    def scores(self) -> metrics.Scores:
        return metrics.scores(self.confusions.sum(0))


def evaluate(
    model: Segmenter, batches: Batches, compute: Compute, see: Callable[[Tensor], None] | None = None
) -> Evaluation:
    """Scores the model, in evaluation mode, on every image once. `see` is given each batch's (B, H, W) int64
    predicted categories, in order."""
    model.eval()
    loss = torch.zeros((), device=compute.device)
    nll = torch.zeros((), device=compute.device)
    counts = []
    with torch.inference_mode():
        for images, labels, raw in batches:
            with compute.autocast():
                outputs = model(images)
            loss += sum(model.losses(outputs, labels).values()) * len(images)
            scores = resize(model.scores(outputs), labels.shape[-2:])
            nll += F.nll_loss(model.log_probabilities(scores), labels) * len(images)
            predicted = scores.argmax(1)
            counts.append(_count(raw, predicted))
            if see:
                see(predicted)
    by_raw_id = torch.cat(counts).cpu().numpy()
    return Evaluation(float(loss) / batches.images, float(nll) / batches.images, metrics.rows(by_raw_id))


def _count(raw: Tensor, predicted: Tensor) -> Tensor:
    """raw: (B, H, W) uint8 ids, predicted: (B, H, W) int64 categories. Returns (B, 256, 8) int64 pixel counts."""
    images, classes = len(raw), len(CATEGORIES)
    offset = torch.arange(images, device=raw.device).view(-1, 1, 1) * (256 * classes)
    cells = raw.long().mul_(classes).add_(predicted).add_(offset)
    return torch.bincount(cells.view(-1), minlength=images * 256 * classes).view(images, 256, classes)
