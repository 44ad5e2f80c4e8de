"""The masks that a query-based network sums to its scores: no interpretation, a faithful by-product."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from segbench.explain.probe import Probe, Scene

SHOWN = 6
_LARGEST = 64  # cells along the longer side of a stored mask


@torch.no_grad()
def strongest(probe: Probe, scene: Scene) -> list[dict[str, Any]] | None:
    """The queries that own most of the image: those whose class probability times mask is the highest of all queries at
    most pixels. None for a network without queries.

    [{"category", "score": its probability, 0..1, "share": of pixels owned, 0..1, "mask": rows of 0..9, tenths}, …]
    """
    queries = probe.model.queries(probe.model(scene.image[None]))
    if queries is None:
        return None
    score, category = queries.classes[0].max(-1)
    masks = queries.masks[0].float()
    owner = (score[:, None, None] * masks).argmax(0)
    share = torch.bincount(owner.flatten(), minlength=len(score)) / owner.numel()
    small = F.adaptive_avg_pool2d(masks, _fitting(masks.shape[-2], masks.shape[-1]))
    tenths = (small * 10).clamp(0, 9).int()
    return [
        {
            "category": int(category[query]),
            "score": round(float(score[query]), 4),
            "share": round(float(share[query]), 4),
            "mask": ["".join(map(str, row)) for row in tenths[query].tolist()],
        }
        for query in share.argsort(descending=True, stable=True)[:SHOWN].tolist()
        if share[query] > 0
    ]


def _fitting(height: int, width: int) -> tuple[int, int]:
    factor = max(height, width, _LARGEST) / _LARGEST
    return max(round(height / factor), 1), max(round(width / factor), 1)
