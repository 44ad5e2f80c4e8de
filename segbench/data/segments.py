"""The true segments of a batch, on its device; see core/panoptic.py for what a segment's number means."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from segbench.core import panoptic
from segbench.core.labels import IGNORED, LabelSet
from segbench.core.panoptic import SPAN, VOID


def truth(raw: Tensor, instances: Tensor, labels: LabelSet) -> Tensor:
    """(B, H, W) int64 segments. raw: (B, H, W) uint8 raw ids; instances: their plane, (B, H, W) uint8."""
    coding = panoptic.coding(labels)
    base, countable = (torch.from_numpy(table).to(raw.device) for table in coding)
    counted = looked_up(countable, raw) & (instances > 0)
    return looked_up(base, raw) + torch.where(counted, raw.int() * 256 + instances, 0)


def looked_up(table: Tensor, raw: Tensor) -> Tensor:
    """What a (256,) table has for each of some uint8 ids. `table[raw.int()]` takes three to five times as long."""
    return table.index_select(0, raw.int().flatten()).view(raw.shape)


def most(planes: Iterable[tuple[Tensor, Tensor]], smallest: int, labels: LabelSet) -> int:
    """The most segments that an image has of what networks train on, without instances of fewer than `smallest` pixels.
    planes: of each image its raw ids and its plane of instances, (H, W) uint8."""
    classes = torch.tensor([-1 if index == IGNORED else index for index in labels.class_of_raw])
    largest = 0
    for raw, instances in planes:
        found = taught(truth(raw[None], instances[None], labels), looked_up(classes, raw[None]), labels)
        ids, pixels = np.unique(found[found >= 0].numpy(), return_counts=True)
        largest = max(largest, int(((pixels >= smallest) | (ids % SPAN == 0)).sum()))
    return largest


def taught(segments: Tensor, classes: Tensor, labels: LabelSet) -> Tensor:
    """The segments that a network trains on: (B, H, W) int64, VOID where there is none.

    segments: (B, H, W) int64, as `truth`; classes: (B, H, W) int64, or negative where a pixel has none.
    Stuff is what semantic training takes it for, every labelled pixel, and so is a void class; of things only instances
    are taught. A group is no target, as in Mask2Former's mapper (mask_former_panoptic_dataset_mapper.py).
    """
    things = torch.zeros(len(labels), dtype=torch.bool)
    things[list(panoptic.things(labels))] = True
    of_thing = things.to(classes.device, non_blocking=True)[classes.clamp(min=0)]
    instance = (segments >= 0) & (segments % SPAN > 0)
    found = torch.where(of_thing, torch.where(instance, segments, VOID), classes * SPAN)
    return torch.where(classes < 0, VOID, found)
