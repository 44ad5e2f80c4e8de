"""How sure a network is of each pixel, as counts per image; and the one temperature that calibrates it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.core.labels import LabelSet
from segbench.data.batches import NO_CLASS, Batches
from segbench.engine import evaluation
from segbench.runtime.compute import Compute
from segbench.stats.calibration import BINS, ENTROPIES

_STRIDE = 4  # every fourth pixel down and across: neighbours tell a temperature little new
_USUAL = 256  # pixels a side; of larger images as many pixels tell as much, in as much memory
_COLDEST, _HOTTEST = 0.05, 20.0


class Counts(NamedTuple):
    """Of one batch, on the CPU; pixels without a label are left out."""

    bins: Tensor  # (B, BINS, 3) by confidence: pixels, right ones, summed confidence
    entropies: Tensor  # (B, ENTROPIES, 2) by entropy: right pixels, wrong ones


def count(log_probabilities: Tensor, labels: Tensor, labelled: Tensor, temperature: float = 1.0) -> Counts:
    """log_probabilities: (B, C, H, W), divided by `temperature` and normalised again. labels: (B, H, W) categories;
    labelled: (B, H, W) bool, the pixels that count."""
    tempered = tempered_by(log_probabilities, temperature)
    best, predicted = tempered.max(1)
    confidence, right = best.exp().double(), predicted == labels
    images = torch.arange(len(labels), device=labels.device)[:, None, None]
    place = images * BINS + (confidence * BINS).long().clamp_(max=BINS - 1)
    by_confidence = [
        _sums(place, weights, labelled, len(labels) * BINS)
        for weights in (torch.ones_like(confidence), right.double(), confidence)
    ]
    place = images * ENTROPIES + (entropy(tempered) * ENTROPIES).long().clamp_(max=ENTROPIES - 1)
    by_entropy = [_sums(place, side.double(), labelled, len(labels) * ENTROPIES) for side in (right, ~right)]
    return Counts(
        torch.stack(by_confidence, -1).view(len(labels), BINS, 3),
        torch.stack(by_entropy, -1).view(len(labels), ENTROPIES, 2),
    )


def tempered_by(log_probabilities: Tensor, temperature: float) -> Tensor:
    """(B, C, …) log-probabilities, softer for temperatures above 1, sharper below; the order of classes stays."""
    return log_probabilities if temperature == 1 else torch.log_softmax(log_probabilities / temperature, dim=1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """(B, C, …) to (B, …): the entropy of each pixel over its largest possible value, 0 (sure) … 1 (all alike)."""
    spread = -(log_probabilities.exp() * log_probabilities.clamp(min=-1e4)).sum(1)
    return spread / math.log(log_probabilities.shape[1])


def labelled(labels: Tensor, label_set: LabelSet) -> Tensor:
    """(…) bool: the pixels that have a class, and not a void one."""
    return ~torch.isin(labels, torch.tensor([NO_CLASS, *label_set.void], device=labels.device))


def fit_temperature(model: Segmenter, batches: Batches, compute: Compute) -> float:
    """The temperature with the lowest pixel NLL on these images (C. Guo et al., On calibration of modern neural
    networks, ICML 2017), within 0.05 … 20; 1 if none of their pixels has a label."""
    from scipy import optimize

    seen: list[Tensor] = []
    labels: list[Tensor] = []

    def keep(view: evaluation.View) -> None:
        step = _STRIDE * max(min(view.labels.shape[1:]) // _USUAL, 1)
        sparse = view.log_probabilities[..., ::step, ::step].permute(0, 2, 3, 1)
        truth = view.labels[..., ::step, ::step]
        counted = labelled(truth, batches.label_set)
        seen.append(sparse[counted].float().cpu())
        labels.append(truth[counted].cpu())

    evaluation.evaluate(model, batches, compute, keep)
    rows, truth = torch.cat(seen), torch.cat(labels)
    if not len(truth):
        return 1.0

    def nll(logarithm: float) -> float:
        return float(torch.nn.functional.nll_loss(tempered_by(rows, math.exp(logarithm)), truth))

    ends = (math.log(_COLDEST), math.log(_HOTTEST))
    return math.exp(float(optimize.minimize_scalar(nll, bounds=ends, method="bounded", options={"xatol": 1e-3}).x))


def _sums(place: Tensor, weights: Tensor, counted: Tensor, cells: int) -> Tensor:
    return torch.bincount(place[counted], weights[counted], minlength=cells).cpu()
