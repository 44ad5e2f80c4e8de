"""Counts segments on the device: what every panoptic score of a batch is computed from (`stats/panoptic.py`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN
from segbench.stats import panoptic
from segbench.stats.panoptic import Counts, Overlaps


def count(truth: Tensor, segments: Tensor, predicted: Tensor, labels: LabelSet) -> Counts:
    """The counts of each image, on the host.

    truth, segments: (B, H, W) int64 segment ids (`core/panoptic.py`); predicted: (B, H, W) int64 classes, 0..C-1.
    """
    overlaps = overlap(truth, segments, predicted, len(labels))
    return panoptic.counts(overlaps, len(truth), truth[0].numel(), labels)


def overlap(truth: Tensor, segments: Tensor, predicted: Tensor, classes: int) -> Overlaps:
    """How many pixels of each image are of each true segment, predicted segment and predicted class.

    The device finds rows of equal pixels, a few in a hundred; the host adds up those that are alike.
    """
    import pandas as pd  # half a second, which a semantic training does not need

    spread = classes * SPAN + 1
    image = torch.arange(len(truth), device=truth.device)[:, None, None]
    # ((image · spread + truth + 1) · spread + segment + 1) · classes + predicted, in few passes over the pixels
    first = (image * spread * spread + spread + 1) * classes
    key = torch.add(segments, truth, alpha=spread)
    torch.add(predicted, key, alpha=classes, out=key).add_(first)
    runs, lengths = torch.stack(torch.unique_consecutive(key, return_counts=True)).cpu().numpy()
    place, known = pd.factorize(runs)
    areas = np.bincount(place, lengths).astype(np.int64)
    rest, of_class = np.divmod(known, classes)
    rest, segment = np.divmod(rest, spread)
    images, true = np.divmod(rest, spread)
    return Overlaps(images, true - 1, segment - 1, of_class, areas)
