"""Mask classification: Hungarian matching of predicted masks to an image's targets, and the loss of matched pairs.

The loss of Mask2Former (Cheng et al., arXiv 2112.01527, 3.3; criterion.py and matcher.py of its repository), for all
decoder layers and images at once: L layers, B images, Q queries, C classes, T targets, N = h·w pixels of the mask map,
M matches. A target is a class of the image (T = C), or a segment where those are known (its mapper's: no group is one).

The original estimates its mask terms on K = 12,544 random points of every mask: of 3·K uniform candidates the most
uncertain (least |logit|) make three quarters of the points, fresh uniform ones the rest. With many points that tends to
a mean over the mask in which its most uncertain quarter weighs three quarters and all of it weighs the last quarter.
At 256×256 the mask map has N = 4,096 pixels, fewer than the points, so we compute this limit itself, on the pixels: the
same loss at every call (training and validation agree), no interpolation, and several times less work. Targets are the
share of each class in the pixels that a mask pixel covers, which is what points spread over it would meet on average.
A pixel of no class weighs nothing: neither in the matching nor in the loss. A pixel of a class and of no target, such
as one of a group or of an instance smaller than a mask pixel, is outside of every mask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segbench.architectures.parts import present
from segbench.architectures.segmenter import Queries
from segbench.core.errors import UserError
from segbench.core.panoptic import SPAN
from segbench.data.batches import NO_CLASS
from segbench.runtime import global_batch

_CLASS, _MASK, _DICE = 2.0, 5.0, 5.0  # weights of the terms, in the loss and in the matching cost alike
_NO_OBJECT = 0.1  # weight of the class "no object" in the cross-entropy
_POINTS = 12_544  # the original's number of points: a dice sum over N pixels is scaled to it, as 1 is added to it
_FAINTEST = 1e-6  # score of a class that no query claims at a pixel: bounds the negative log-likelihood
_UNCERTAIN = 0.25  # this most uncertain part of a mask …
_ON_UNCERTAIN = 0.75  # … carries this part of the weight


class Outputs(NamedTuple):
    """What every decoder layer predicts, first to last; of a network at rest the last layer alone (L = 1)."""

    classes: Tensor  # (L, B, Q, C+1) logits; the last class is "no object"
    masks: Tensor  # (L, B, Q, H/4, W/4) logits


class Terms(NamedTuple):
    """Weighted scalars, each summed over the decoder layers; their sum is the loss."""

    classes: Tensor
    masks: Tensor
    dice: Tensor


class Targets(NamedTuple):
    """What the masks of each image should be."""

    shares: Tensor  # (B, T, h, w) float32, 0..1: each target's part of the labelled pixels that a cell covers
    classes: Tensor  # (B, T) int64, 0..C-1 where the target has a pixel
    counted: Tensor  # (B, h, w) float32, 0..1: the labelled part of a cell's pixels


class Matches(NamedTuple):
    """Matched pairs of a query and a target, of all layers and images. Tensors: (M,) int64, on the logits' device."""

    rows: Tensor  # which of the L·B·Q queries
    images: Tensor  # which of the B images
    targets: Tensor  # which of its T targets
    number: int  # targets in the images, summed over the images


def with_queries(design: Mapping[str, Any], number: int | None) -> dict[str, Any]:
    """transformers' values of a network, with this number of queries if one is given. Raises UserError below 1."""
    if number is not None and number < 1:
        raise UserError(f"queries must be at least 1, not {number}. Fix [model]")
    return {**design, "num_queries": number or design["num_queries"]}


def losses(outputs: Outputs, labels: Tensor, segments: Tensor | None, is_sharded: bool) -> dict[str, Tensor]:
    """Class, mask and dice terms of the set prediction loss, weighted 2, 5, 5 and summed over decoder layers."""
    classes, masks, dice = loss(outputs.classes, outputs.masks, labels, is_sharded, segments)
    return {"class": classes, "mask": masks, "dice": dice}


def scores(outputs: Outputs) -> Tensor:
    """(B, C, h, w), 0..Q: class probability times mask, summed over queries (MaskFormer, arXiv 2107.06278, 3.4)."""
    classes, masks = queries(outputs)
    # In channels_last memory, where resizing and argmax find a pixel's classes side by side.
    return torch.einsum("bqc,bqhw->bhwc", classes, masks).permute(0, 3, 1, 2)


def queries(outputs: Outputs) -> Queries:
    """The last layer's."""
    return Queries(outputs.classes[-1].float().softmax(-1)[..., :-1], outputs.masks[-1].float().sigmoid())


def log_probabilities(scores: Tensor) -> Tensor:
    """log(s_c / Σ s): the scores are sums of probabilities, so their shares are the class distribution."""
    scores = scores.clamp(min=_FAINTEST)
    return scores.log() - scores.sum(1, keepdim=True).log()


def loss(
    class_logits: Tensor, mask_logits: Tensor, labels: Tensor, is_sharded: bool = False, segments: Tensor | None = None
) -> Terms:
    """The set prediction loss; one copy to the host and one back are its only synchronisations, but for the number of
    segments.

    class_logits: (L, B, Q, C+1), the last class is "no object". mask_logits: (L, B, Q, h, w). Both of any float type.
    labels: (B, H, W) int64, 0..C-1 or NO_CLASS; a class that an image lacks is no target there.
    is_sharded: whether other processes have the rest of the batch, see `global_batch`.
    segments: (B, H, W) int64, the targets instead of the classes, see `data/segments.taught`.
    """
    targets = targets_of(labels, class_logits.shape[-1] - 1, (mask_logits.shape[-2], mask_logits.shape[-1]), segments)
    matches = match(class_logits, mask_logits, targets)
    # index_select, as its gradient is written row by row; that of general indexing is accumulated element by element.
    logits = mask_logits.flatten(0, 2).index_select(0, matches.rows).flatten(1).float()
    places = matches.images * targets.classes.shape[1] + matches.targets
    masks = targets.shares.flatten(0, 1).index_select(0, places).flatten(1)
    classes = targets.classes.flatten().index_select(0, places)
    counts = targets.counted.flatten(1).index_select(0, matches.images)
    number = global_batch.spread(matches.number, len(labels), labels.device, is_sharded)
    terms = _mask_terms(logits, masks, counts, number)
    return Terms(_class_term(class_logits, matches.rows, classes, is_sharded), *terms)


def targets_of(labels: Tensor, classes: int, size: tuple[int, int], segments: Tensor | None = None) -> Targets:
    """What (B, H, W) int64 labels ask of masks of this size: a mask for each class, or for each of the `segments` but
    instances smaller than a cell."""
    if segments is None:
        ids = torch.arange(classes, device=labels.device).expand(len(labels), -1)
        pixels, of = labels, ids
    else:
        cell = math.ceil(labels[0].numel() / (size[0] * size[1]))
        ids = present.table(segments, cell)
        pixels, of = segments, ids.clamp(min=0) // SPAN
    counted = F.adaptive_avg_pool2d((labels != NO_CLASS).float(), size)
    shares = F.adaptive_avg_pool2d(present.where(pixels, ids).float(), size) / counted.clamp(min=_FAINTEST)[:, None]
    return Targets(shares, of, counted)


@torch.no_grad()
def match(class_logits: Tensor, mask_logits: Tensor, targets: Targets) -> Matches:
    """For each layer and image the one-to-one assignment of queries to the image's targets of least total cost.

    class_logits: (L, B, Q, C+1). mask_logits: (L, B, Q, h, w). A cost that is not finite is taken only where no other
    is left.
    """
    masks = (targets.shares * targets.counted[:, None]).flatten(2).transpose(1, 2)  # (B, N, T)
    # Layer by layer, so that the float32 copies stay small.
    weight = targets.counted.flatten(1)[:, None]  # (B, 1, N)
    layers = zip(class_logits, mask_logits, strict=True)
    cost = torch.stack([_cost(c, m, targets.classes, masks, weight) for c, m in layers])
    worst = torch.finfo(torch.float32).max
    cost = cost.nan_to_num(nan=worst, posinf=worst, neginf=worst)
    cost = cost.masked_fill((masks.sum(1) == 0)[:, None], torch.inf)  # tells the host which targets are absent
    assigned, number = _assign(cost.cpu().numpy())
    rows, images, places = torch.from_numpy(assigned).to(cost.device, non_blocking=True)
    return Matches(rows, images, places, number)


def _cost(class_logits: Tensor, mask_logits: Tensor, classes: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
    """One layer's (B, Q, T) float32 cost of giving query q target t. classes: (B, T); weight: (B, 1, N), 0..1; masks:
    (B, N, T), part of it."""
    logits = mask_logits.flatten(2).float()  # (B, Q, N)
    chance = logits.sigmoid()
    pixels = logits.shape[-1]
    # BCE(x, t) = softplus(x) - x·t, so that the sum over pixels is one matrix product.
    mask = (F.softplus(logits).mul_(weight).sum(-1, keepdim=True) - logits @ masks) / pixels
    overlap = chance @ masks
    area = chance.mul_(weight).sum(-1, keepdim=True) + masks.sum(1, keepdim=True)
    scale = _POINTS / pixels
    dice = 1 - (2 * scale * overlap + 1) / (scale * area + 1)
    probability = class_logits.float().softmax(-1).gather(2, classes[:, None].expand(-1, logits.shape[1], -1))
    return _MASK * mask + _DICE * dice - _CLASS * probability


def _assign(cost: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """cost: (L, B, Q, T) float32, infinite for absent targets. Gives (3, M) rows, images, targets; and the number of
    targets."""
    from scipy.optimize import linear_sum_assignment  # training alone needs it

    layers, images, queries, _ = cost.shape
    there = [np.flatnonzero(np.isfinite(cost[0, image, 0])) for image in range(images)]
    assigned = [np.empty((3, 0), np.int64)]
    for layer in range(layers):
        for image, targets in enumerate(there):
            taken, given = linear_sum_assignment(cost[layer, image][:, targets])
            rows = (layer * images + image) * queries + taken
            assigned.append(np.stack([rows, np.full_like(rows, image), targets[given]]))
    return np.concatenate(assigned, axis=1), sum(map(len, there))


def _class_term(class_logits: Tensor, rows: Tensor, classes: Tensor, is_sharded: bool) -> Tensor:
    """Cross-entropy of every query, "no object" where unmatched: per layer a weighted mean, summed over the layers."""
    logits = class_logits.flatten(0, 2).float()  # (L·B·Q, C+1)
    no_object = logits.shape[-1] - 1
    wanted = torch.full((len(logits),), no_object, device=logits.device)
    wanted.scatter_(0, rows, classes)
    weight = torch.ones(no_object + 1, device=logits.device)
    weight[no_object] = _NO_OBJECT
    # Each layer has as many matches, hence the same sum of weights: the mean over all is the mean of the layers' means.
    matched = len(rows)
    weighing = matched + _NO_OBJECT * (len(logits) - matched)
    weights = global_batch.spread(weighing, class_logits.shape[1], class_logits.device, is_sharded)
    return _CLASS * len(class_logits) * F.cross_entropy(logits, wanted, weight, reduction="sum") / weights


def _mask_terms(logits: Tensor, wanted: Tensor, counted: Tensor, targets: Tensor | float) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice of matched masks, each divided by `targets`. The rest: (M, N) float32."""
    weight = _weight(logits.detach(), counted)
    mask = F.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="sum")
    chance = logits.sigmoid() * weight
    overlap = 2 * _POINTS * (chance * wanted).sum(-1) + 1
    area = _POINTS * (chance.sum(-1) + (wanted * weight).sum(-1)) + 1
    return _MASK * mask / targets, _DICE * (1 - overlap / area).sum() / targets


def _weight(logits: Tensor, counted: Tensor) -> Tensor:
    """logits: (M, N), counted: (M, N), the labelled part of each. Returns (M, N) weights that favour a mask's least
    certain pixels; they sum to 1 over a mask if all of its pixels are labelled."""
    matches, pixels = logits.shape
    if not matches:
        return logits
    uncertainty = logits.abs().masked_fill(counted == 0, torch.inf)
    edge = uncertainty.kthvalue(max(round(_UNCERTAIN * pixels), 1), keepdim=True).values
    uncertain = (uncertainty <= edge).float()  # all of equal logits, so that the weights never depend on an order
    favoured = (1 - _ON_UNCERTAIN) / pixels + _ON_UNCERTAIN / uncertain.sum(-1, keepdim=True) * uncertain
    return favoured * counted
