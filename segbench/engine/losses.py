"""The loss of a batch: of its segments where they are known and the network learns them, else of its classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.core.labels import LabelSet
from segbench.data import segments
from segbench.data.batches import Batch


def of_batch(model: Segmenter, outputs: Any, batch: Batch, labels: LabelSet) -> dict[str, Tensor]:
    """The terms of the architecture's own loss, by name."""
    if batch.instances is None or not model.learns_segments:
        return model.losses(outputs, batch.labels)
    truth = segments.truth(batch.raw, batch.instances, labels)
    return model.segment_losses(outputs, batch.labels, segments.taught(truth, batch.labels, labels))
