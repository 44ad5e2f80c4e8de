"""Segments: which pixels a network takes for one object. Whole batches at once; ids as in `core/panoptic.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench import stats
from segbench.core import panoptic
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID

_SURE = 0.8  # OBJECT_MASK_THRESHOLD of Mask2Former's configurations


def components(predicted: Tensor, labels: LabelSet) -> Tensor:
    """Of a network that predicts classes alone: its things' connected components, as `stats.components` numbers them.

    predicted: (B, H, W) int64 classes. Returns (B, H, W) int64 segment ids. Runs in SciPy, on the host.
    """
    return torch.from_numpy(stats.components(predicted.cpu().numpy(), labels)).to(predicted.device)


def of_queries(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int], labels: LabelSet) -> Tensor:
    """Of a network whose queries each claim one object or one class of stuff: panoptic_inference of Mask2Former's
    maskformer_model.py (Cheng et al., arXiv 2112.01527), for all images at once and without asking the host.

    class_logits: (B, Q, C+1), the last class is "no object". mask_logits: (B, Q, h, w). Both of any float type.
    Returns (B, *size) int64 segment ids. Of the queries that are surer of their class than 0.8, a pixel goes to the one
    with the highest class probability times mask. A query that so loses more than a fifth of its mask is dropped, and
    what lies outside its own mask (below one half) is VOID. The stuff of a class is one segment.
    """
    score, label = class_logits.float().softmax(-1)[..., :-1].max(-1)  # (B, Q)
    score = score * (score > _SURE)  # "no object" then has less
    if score.device.type != "cpu":
        return _claimed(score, label, mask_logits, size, labels)
    # On a CPU asking which queries are sure costs nothing: the others need no mask.
    made = []
    for sure, each, own, masks in zip(score > 0, score, label, mask_logits, strict=True):
        found = _claimed(each[None, sure], own[None, sure], masks[None, sure], size, labels) if sure.any() else None
        made.append(torch.full((1, *size), VOID) if found is None else found)
    return torch.cat(made)


def _claimed(score: Tensor, label: Tensor, mask_logits: Tensor, size: tuple[int, int], labels: LabelSet) -> Tensor:
    """score, label: (B, Q) of each query, 0 where it is not sure. Returns (B, *size) segment ids."""
    # In channels_last memory, where resizing and argmax find a pixel's queries side by side.
    coarse = mask_logits.float().contiguous(memory_format=torch.channels_last)
    masks = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False).sigmoid_()
    inside = masks >= 0.5
    area = _areas(inside)
    owner = masks.mul_(score[..., None, None]).max(1).indices  # (B, H, W)
    held = inside.gather(1, owner[:, None])[:, 0]
    images, queries = score.shape
    place = torch.arange(0, images * queries, queries, device=owner.device)[:, None, None] + owner
    pixels = _histogram(2 * place + held, 2 * images * queries).view(images, queries, 2)
    won, left = pixels.sum(-1), pixels[..., 1]
    good = (score > 0) & (left > 0) & (5 * won >= 4 * area)
    first, thing = (known.to(owner.device, non_blocking=True) for known in _kinds(labels))
    number = torch.where(thing[label], (good & thing[label]).cumsum(1), 0)
    segment = torch.where(good, first[label] + number, VOID)
    return torch.where(held, segment.gather(1, owner.flatten(1)).view_as(owner), VOID)


def _areas(masks: Tensor) -> Tensor:
    """(B, Q, H, W) bool in channels_last memory to the pixels of each: (B, Q) float32, exact up to 2**24."""
    # The sum of 255 rows fits into a byte, and a CPU adds bytes fifty times as quickly as it converts and adds them.
    rows = torch.split(masks.view(torch.uint8).permute(0, 2, 3, 1).flatten(2), 255, 1)
    sums = torch.stack([part.sum(1, dtype=torch.uint8) for part in rows])  # (n, B, W·Q)
    return sums.view(len(sums), len(masks), -1, masks.shape[1]).sum((0, 2), dtype=torch.float32)


def _kinds(labels: LabelSet) -> tuple[Tensor, Tensor]:
    """For each class: its segments' first id, and whether its segments are objects."""
    first = torch.full((len(labels),), VOID)
    thing = torch.zeros(len(labels), dtype=torch.bool)
    for index in (*panoptic.stuff(labels), *panoptic.things(labels)):
        first[index] = index * SPAN
    thing[list(panoptic.things(labels))] = True
    return first, thing


def _histogram(values: Tensor, bins: int) -> Tensor:
    """How often each of 0, 1, …, bins - 1 occurs: (bins,) int64. Unlike bincount it never asks the host, which that
    does on a GPU; on a CPU bincount is the faster."""
    if values.device.type == "cpu":
        return torch.bincount(values.reshape(-1), minlength=bins)
    return values.new_zeros(bins).index_add_(0, values.reshape(-1), torch.ones_like(values).reshape(-1))
