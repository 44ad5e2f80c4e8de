"""Which segments the images of a batch have: what a network with instances is taught, as a table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.core.panoptic import SPAN

NONE = -2  # fills up a table of ids: no pixel is of it


def table(segments: Tensor, smallest: int = 1) -> Tensor:
    """The ids in each image, ascending, then NONE. segments: (B, H, W) int64, see `core/panoptic.py`.

    Returns (B, T) int64, T the most of an image, at least 1. Instances of fewer than `smallest` pixels are left out.
    The host waits for T, once.
    """
    ordered = segments.flatten(1).int().sort(1).values  # an image's segments one after the other
    lasts = F.pad(ordered[:, smallest - 1 :], (0, smallest - 1), value=NONE) == ordered  # for `smallest` pixels
    starts = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)
    kept = starts & (ordered >= 0) & (lasts | (ordered % SPAN == 0))
    place = kept.cumsum(1)
    most = max(int(place[:, -1].max()), 1)
    ids = ordered.new_full((len(ordered), most + 1), NONE)
    ids.scatter_(1, torch.where(kept, place - 1, most), ordered)  # what is not kept falls into a column to drop
    return ids[:, :most].long()


def where(segments: Tensor, ids: Tensor) -> Tensor:
    """(B, T, H, W) bool: which pixels are of each segment of a table."""
    return segments[:, None] == ids[:, :, None, None]
