"""Objects by their centres: what Panoptic-DeepLab is taught, and how its outputs become segments.

Cheng et al., arXiv 1911.10194, section 3.2; the constants are of section 4.1 and of bowenc0221/panoptic-deeplab
(configs, post_processing/instance_post_processing.py). Lengths are the paper's at 1025×2049 pixels: `SIGMA` and the
smallest stuff scale with the image. Unlike the original, which takes one image after another, this does a whole batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.architectures.parts import present
from segbench.core import panoptic
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID

_HEIGHT, _WIDTH = 1025, 2049
_SIGMA = 8.0  # pixels, of the Gaussian around a centre
_WINDOW = 7  # pixels, whose highest value alone is a centre
_THRESHOLD = 0.1  # of the heat
_MOST = 200  # centres per image
_STUFF = 2048 / (_HEIGHT * _WIDTH)  # of the image: a smaller area of stuff is dropped
_FAR = 1e6  # where a centre is that an image lacks
_DISTANCES = 1 << 18  # from pixels to all centres, that are in memory at once: what a CPU's cache holds


class Targets(NamedTuple):
    heat: Tensor  # (B, H, W) float32, 1 at an object's centre, a Gaussian around it
    offsets: Tensor  # (B, 2, H, W) float32, pixels down and right to the centre of a pixel's object
    inside: Tensor  # (B, H, W) bool, whether a pixel is of an object


def targets(segments: Tensor) -> Targets:
    """segments: (B, H, W) int64, see `data/segments.taught`. An object's centre is the mean of its pixels' places."""
    height, width = segments.shape[1:]
    ids = present.table(segments)
    masks = present.where(segments, torch.where(ids % SPAN > 0, ids, present.NONE)).float()  # (B, T, H, W)
    down, right = (torch.arange(length, device=masks.device, dtype=torch.float32) for length in (height, width))
    area = masks.sum((2, 3))
    y, x = masks.sum(3) @ down / area.clamp(min=1), masks.sum(2) @ right / area.clamp(min=1)  # (B, T)
    rows = _bell(down - y[..., None], _SIGMA * height / _HEIGHT) * (area > 0)[..., None]
    heat = (rows[..., None] * _bell(right - x[..., None], _SIGMA * width / _WIDTH)[:, :, None]).amax(1)
    inside = masks.sum(1)
    own = torch.einsum("bthw,btk->bkhw", masks, torch.stack([y, x], 2))
    return Targets(heat, own - torch.stack([down[:, None] * inside, right * inside], 1), inside > 0)


def _bell(distance: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (distance / sigma).square())


def segments(heat: Tensor, offsets: Tensor, predicted: Tensor, labels: LabelSet) -> Tensor:
    """(B, H, W) int64 segment ids. heat: (B, H, W); offsets: (B, 2, H, W) pixels; predicted: (B, H, W) int64 classes.

    Each pixel of a thing goes to the centre nearest to where it points, and each object is of the class that most of
    its pixels have. The things of an image without a centre are VOID, and so is a small area of stuff.
    """
    found = _stuff(predicted, labels)
    of_thing = torch.zeros(len(labels), dtype=torch.bool, device=predicted.device)
    of_thing[list(panoptic.things(labels))] = True
    image, y, x = of_thing[predicted].nonzero(as_tuple=True)
    centres = _centres(heat)
    towards = torch.stack([y, x], 1) + offsets[image, :, y, x]
    nearest = _nearest(towards, image, centres)
    count = centres.shape[1]
    votes = torch.bincount((image * count + nearest) * len(labels) + predicted[image, y, x], minlength=0)
    votes = F.pad(votes, (0, len(centres) * count * len(labels) - len(votes))).view(len(centres), count, len(labels))
    ids = votes.argmax(2) * SPAN + torch.arange(1, count + 1, device=votes.device)
    ids = torch.where(centres[..., 0] < _FAR, ids, VOID)
    found[image, y, x] = ids[image, nearest]
    return found


def _stuff(predicted: Tensor, labels: LabelSet) -> Tensor:
    """(B, H, W) int64 ids of stuff; VOID elsewhere, and where an image has too little of it."""
    images, classes = len(predicted), len(labels)
    places = torch.arange(images, device=predicted.device)[:, None, None] * classes + predicted
    area = torch.bincount(places.flatten(), minlength=images * classes)
    base = torch.full((classes,), VOID, device=predicted.device)
    for index in panoptic.stuff(labels):
        base[index] = index * SPAN
    enough = area >= _STUFF * predicted[0].numel()
    return torch.where(enough, base.repeat(images), VOID)[places]


def _centres(heat: Tensor) -> Tensor:
    """(B, K, 2) float32 places of the K highest centres of each image, y and x; _FAR where it has fewer. Of equal
    neighbours the first is one. The host waits for K, once."""
    height, width = heat.shape[1:]
    _, winner = F.max_pool2d(heat[:, None], _WINDOW, 1, _WINDOW // 2, return_indices=True)
    own = torch.arange(height * width, device=heat.device)
    peaks = torch.where((winner.flatten(1) == own) & (heat.flatten(1) > _THRESHOLD), heat.flatten(1), 0)
    most = min(max(int((peaks > 0).sum(1).max()), 1), _MOST)
    height_of, place = peaks.topk(most, 1)
    return torch.where((height_of > 0)[..., None], torch.stack([place // width, place % width], 2).float(), _FAR)


def _nearest(towards: Tensor, image: Tensor, centres: Tensor) -> Tensor:
    """The number of the centre nearest to each place. towards: (P, 2); image: (P,); centres: (B, K, 2)."""
    size = max(1, _DISTANCES // centres.shape[1])
    blocks = zip(torch.split(towards, size), torch.split(image, size), strict=True)
    found = [_block(*block, centres) for block in blocks]
    return torch.cat(found) if found else image


def _block(towards: Tensor, image: Tensor, centres: Tensor) -> Tensor:
    down, right = ((centres[..., axis][image] - towards[:, axis, None]).square_() for axis in (0, 1))
    return down.add_(right).min(1).indices
