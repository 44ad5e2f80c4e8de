"""The true segments of a batch, on its device; see core/panoptic.py for what a segment's number means."""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.core import panoptic
from segbench.core.labels import LabelSet


def truth(raw: Tensor, instances: Tensor, labels: LabelSet) -> Tensor:
    """(B, H, W) int64 segments. raw: (B, H, W) uint8 raw ids; instances: their plane, (B, H, W) uint8."""
    coding = panoptic.coding(labels)
    base, countable = (torch.from_numpy(table).to(raw.device) for table in coding)
    ids = raw.int()
    number = torch.where(countable[ids] & (instances > 0), ids * 256 + instances, 0)
    return base[ids] + number
