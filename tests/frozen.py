"""The losses and scores of the note's protocol as they were before label sets were data, written out: what must stay
equal bit by bit. Never change these formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

CATEGORY = [0] * 7 + [1] * 4 + [2] * 6 + [3] * 4 + [4] * 2 + [5] + [6] * 2 + [7] * 8  # of raw ids 0..33
IGNORED = {*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 255}  # by the official scores
OF_RAW = torch.tensor([*CATEGORY, *[255] * 221, 7])


def per_pixel(logits: Tensor, labels: Tensor) -> Tensor:
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, labels)


def matching(class_logits: Tensor, mask_logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """class_logits: (L, B, Q, C+1), mask_logits: (L, B, Q, h, w)."""
    classes = class_logits.shape[-1] - 1
    one_hot = (labels[:, None] == torch.arange(classes)[:, None, None]).float()
    targets = F.adaptive_avg_pool2d(one_hot, mask_logits.shape[-2:])
    with torch.no_grad():
        shares = targets.flatten(2).transpose(1, 2)
        cost = torch.stack([_cost(c, m, shares) for c, m in zip(class_logits, mask_logits, strict=True)])
        cost = cost.masked_fill((shares.sum(1) == 0)[:, None], torch.inf)
    rows, images, found, present = _assign(cost.numpy())
    logits = mask_logits.flatten(0, 2).index_select(0, rows).flatten(1).float()
    wanted = targets.flatten(0, 1).index_select(0, images * classes + found).flatten(1)
    weight = _weight(logits.detach())
    mask = F.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="sum")
    chance = logits.sigmoid() * weight
    overlap = 2 * 12_544 * (chance * wanted).sum(-1) + 1
    area = 12_544 * (chance.sum(-1) + (wanted * weight).sum(-1)) + 1
    number = max(present, 1.0)
    return {
        "class": _classes(class_logits, rows, found),
        "mask": 5.0 * mask / number,
        "dice": 5.0 * (1 - overlap / area).sum() / number,
    }


def _cost(class_logits: Tensor, mask_logits: Tensor, wanted: Tensor) -> Tensor:
    logits = mask_logits.flatten(2).float()
    chance = logits.sigmoid()
    pixels = logits.shape[-1]
    mask = (F.softplus(logits).sum(-1, keepdim=True) - logits @ wanted) / pixels
    area = chance.sum(-1, keepdim=True) + wanted.sum(1, keepdim=True)
    scale = 12_544 / pixels
    dice = 1 - (2 * scale * (chance @ wanted) + 1) / (scale * area + 1)
    return 5.0 * mask + 5.0 * dice - 2.0 * class_logits.float().softmax(-1)[..., :-1]


def _assign(cost: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor, int]:
    layers, images, queries, _ = cost.shape
    present = [np.flatnonzero(np.isfinite(cost[0, image, 0])) for image in range(images)]
    assigned = []
    for layer in range(layers):
        for image, classes in enumerate(present):
            taken, given = linear_sum_assignment(cost[layer, image][:, classes])
            rows = (layer * images + image) * queries + taken
            assigned.append(np.stack([rows, np.full_like(rows, image), classes[given]]))
    rows, of_images, found = torch.from_numpy(np.concatenate(assigned, axis=1))
    return rows, of_images, found, sum(map(len, present))


def _classes(class_logits: Tensor, rows: Tensor, found: Tensor) -> Tensor:
    logits = class_logits.flatten(0, 2).float()
    no_object = logits.shape[-1] - 1
    wanted = torch.full((len(logits),), no_object)
    wanted.scatter_(0, rows, found)
    weight = torch.ones(no_object + 1)
    weight[no_object] = 0.1
    present = len(rows) + 0.1 * (len(logits) - len(rows))
    return 2.0 * len(class_logits) * F.cross_entropy(logits, wanted, weight, reduction="sum") / present


def _weight(logits: Tensor) -> Tensor:
    pixels = logits.shape[1]
    uncertainty = logits.abs()
    edge = uncertainty.kthvalue(max(round(0.25 * pixels), 1), keepdim=True).values
    uncertain = (uncertainty <= edge).float()
    return (1 - 0.75) / pixels + 0.75 / uncertain.sum(-1, keepdim=True) * uncertain


def scores(raw: NDArray[Any], predicted: NDArray[Any]) -> tuple[float, float, float]:
    """(N, H, W) each. Returns mIoU over the 8 categories, the official one over 7, and pixel accuracy."""
    truth = OF_RAW.numpy()[raw]
    counted = ~np.isin(raw, list(IGNORED))
    everywhere, official = _confusion(truth, predicted), _confusion(truth[counted], predicted[counted])
    iou, iou_official = _jaccard(everywhere), _jaccard(official)
    iou_official[0] = np.nan
    return float(np.nanmean(iou)), float(np.nanmean(iou_official)), float(np.trace(everywhere) / everywhere.sum())


def _confusion(truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.int64]:
    return np.bincount((truth * 8 + predicted).ravel(), minlength=64).reshape(8, 8)


def _jaccard(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    hits = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
