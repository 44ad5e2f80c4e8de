"""Batches from packed arrays: gathered, mapped to classes and normalised as whole tensors on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segbench.core.augment import Augment
from segbench.core.crops import Size
from segbench.core.labels import IGNORED
from segbench.data import augmentation, reader, segments
from segbench.data.packing import Split
from segbench.data.subsets import Indices
from segbench.runtime import global_batch

_LABELS, _INSTANCES = 1, 2  # their places among the planes of a split
NO_CLASS = -100  # the label of a pixel that has no class: torch's losses ignore it unless told otherwise


class Normalisation(NamedTuple):
    """The mean and standard deviation per RGB channel, of pixels scaled to 0..1, by which a network's input is
    normalised."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of most published weights


class Batch(NamedTuple):
    images: Tensor  # (B, 3, H, W) float32, normalised
    labels: Tensor  # (B, H, W) int64, classes 0..C-1, or NO_CLASS
    raw: Tensor  # (B, H, W) uint8, raw ids
    global_batch_size: int  # images of the whole batch: more than B if other processes have the rest
    loss_weight: float  # 0..1, the weight of these images in the whole batch's loss
    instances: Tensor | None = None  # (B, H, W) uint8, of panoptic protocols: see core/panoptic.py

    @property
    def is_sharded(self) -> bool:
        """Whether other processes have the rest of the batch."""
        return len(self.images) < self.global_batch_size


class Shown(NamedTuple):
    """Some images, on the CPU."""

    images: Tensor  # (n, H, W, 3) uint8 RGB
    classes: Tensor  # (n, H, W) uint8, or IGNORED
    segments: Tensor | None  # (n, H, W) int64 ids, of panoptic protocols


class Batches:
    """Some images of a split, as batches on a device; `shuffled` batches are augmented if `augmented` is given, and
    hold crops of this size if `crop` is. The device holds the images, or they are read from disk where they do not
    fit."""

    def __init__(
        self,
        split: Split,
        indices: Indices,
        batch_size: int,
        device: torch.device,
        augmented: Augment | None = None,
        crop: Size | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.device = device
        self._augment = augmented or (Augment() if crop else None)
        self._rows = reader.source(split.planes, indices, device, split.digests)
        self._panoptic = split.instances is not None
        self._aspects = split.aspects[indices]
        self.label_set = split.label_set
        of_raw = [NO_CLASS if index == IGNORED else index for index in split.label_set.class_of_raw]
        self._classes = torch.tensor(of_raw, dtype=torch.int64, device=device)
        labels = (raw.cpu().numpy() for raw in self._rows.rows(_LABELS))
        self._crops = augmentation.Crops(crop, labels, split.label_set) if crop else None

    @property
    def images(self) -> int:
        """The number of images of one pass."""
        return len(self._aspects)

    @property
    def steps(self) -> int:
        """The number of batches of one pass."""
        return len(_chunks(torch.arange(self.images), self.batch_size))

    def class_counts(self) -> Tensor:
        """(C,) int64 on the CPU: how many pixels of all images are of each class, before augmentation."""
        each = [torch.bincount(ids.flatten().int(), minlength=256) for ids in self._rows.rows(_LABELS)]
        raw = torch.stack(each).sum(0).cpu()
        classes = self._classes.cpu()
        counts = torch.zeros(len(self.label_set.names), dtype=torch.int64)
        known = (classes >= 0) & (classes < len(counts))
        return counts.index_add_(0, classes[known], raw[known])

    def most_segments(self, smallest: int) -> int:
        """The most segments of an image, 0 where no instances are known; see `segments.most`."""
        if not self._panoptic:
            return 0
        planes = zip(self._rows.rows(_LABELS), self._rows.rows(_INSTANCES), strict=True)
        return segments.most(planes, smallest, self.label_set)

    def some(self, number: int) -> Shown:
        """Up to `number` images, evenly spread, always the same."""
        chosen = torch.linspace(0, self.images - 1, min(number, self.images)).long()
        of_raw = torch.tensor(self.label_set.class_of_raw, dtype=torch.uint8)
        images, raw, *instances = (plane.cpu() for plane in next(self._rows.gather([chosen])))
        truth = segments.truth(raw, instances[0], self.label_set) if instances else None
        return Shown(images, segments.looked_up(of_raw, raw), truth)

    def __iter__(self) -> Iterator[Batch]:
        """All batches, in the order of the split."""
        return self.every(1)

    def every(self, step: int, first: int = 0, normalisation: Normalisation = IMAGENET) -> Iterator[Batch]:
        """Every `step`-th batch from number `first` on, in the order of the split."""
        parts = _chunks(torch.arange(self.images), self.batch_size)[first::step]
        with contextlib.closing(self._rows.gather(parts)) as gathered:
            for chosen, pixels in zip(parts, gathered, strict=True):
                yield self._batch(pixels, chosen, len(chosen), 1.0, normalisation)

    def shuffled(self, seed: int, epoch: int, normalisation: Normalisation = IMAGENET) -> Iterator[Batch]:
        """All batches in an order determined by (seed, epoch) alone, so that a resumed epoch is the same. Of several
        processes, each gets its part of every batch."""
        order = np.random.default_rng([seed, epoch]).permutation(self.images)
        views = None
        if self._augment:
            views = augmentation.draw(self._augment, self._aspects, seed, epoch, self._crops)
        batches = _chunks(torch.from_numpy(order), self.batch_size)
        parts, weights = zip(*(global_batch.part(batch) for batch in batches), strict=True)
        with contextlib.closing(self._rows.gather(parts)) as gathered:
            for batch, part, loss_weight, pixels in zip(batches, parts, weights, gathered, strict=True):
                yield self._batch(pixels, part, len(batch), loss_weight, normalisation, views)

    def _batch(
        self,
        pixels: list[Tensor],
        chosen: Tensor,
        global_batch_size: int,
        loss_weight: float,
        normalisation: Normalisation,
        views: augmentation.Views | None = None,
    ) -> Batch:
        images, raw, *instances = pixels
        if views is None or self._augment is None:
            images = normalise(images, normalisation)
        elif self._crops:
            images, [raw, *instances] = self._cut(self._crops, images, [raw, *instances], views, chosen, normalisation)
        else:
            seen = views.of(chosen, self._on_device)
            images = augmentation.recoloured(self._augment, images.float(), seen, self._on_device)
            border = self.label_set.border
            images, raw = augmentation.reframed(
                self._augment, normalise(images, normalisation), raw, seen.frame, border
            )
            instances = [augmentation.reframed_instances(self._augment, each, seen.frame) for each in instances]
        return Batch(images, segments.looked_up(self._classes, raw), raw, global_batch_size, loss_weight, *instances)

    def _cut(
        self,
        crops: augmentation.Crops,
        images: Tensor,
        planes: list[Tensor],
        views: augmentation.Views,
        chosen: Tensor,
        normalisation: Normalisation,
    ) -> tuple[Tensor, list[Tensor]]:
        """The crops of the images, normalised, and of the planes, the first of which are the labels."""
        assert self._augment
        fills = [self.label_set.border, *[0] * (len(planes) - 1)]
        cut = augmentation.cut(images, planes, fills, views.frame[chosen], crops.size, self._augment.border)
        seen = views.of(chosen, self._on_device)
        images = normalise(augmentation.recoloured(self._augment, cut.images, seen, self._on_device), normalisation)
        if cut.outside is not None:
            images.masked_fill_(cut.outside[:, None], 0)  # the mean colour
        return images, cut.planes

    def _on_device(self, gathered: Tensor) -> Tensor:
        """Copies through pinned memory, without waiting: a training step never synchronises."""
        if self.device.type == "cuda" and gathered.device.type == "cpu":
            gathered = gathered.pin_memory()
        return gathered.to(self.device, non_blocking=True)


def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32, normalised, in channels_last memory."""
    mean, std = (torch.tensor(values, device=images.device) for values in normalisation)
    # Of a whole row at once: a CPU takes three to ten times as long where each operand has three values.
    scale, shift = (values.repeat(images.shape[2]) for values in (std.mul(255).reciprocal(), mean.div(std)))
    return images.float().flatten(2).mul_(scale).sub_(shift).view(images.shape).permute(0, 3, 1, 2)


def _chunks(order: Tensor, size: int) -> list[Tensor]:
    """Batches of `size`; a single last image joins the batch before it, since BatchNorm cannot train on one image."""
    chunks = list(torch.split(order, size))
    if size > 1 and len(chunks) > 1 and len(chunks[-1]) == 1:
        chunks[-2:] = [torch.cat(chunks[-2:])]
    return chunks
