"""Our side of the comparisons: what segbench trains and infers with, on drawn streets in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers
from segbench.architectures.segmenter import Segmenter
from segbench.core.records import Hyperparameters
from segbench.data import streets
from segbench.data.batches import IMAGENET, Normalisation, normalise
from segbench.engine import training
from segbench.runtime.compute import Compute

SIZE = (256, 256)  # height, width, the note's
BATCH = 4
HYPERPARAMETERS = Hyperparameters(1e-4, 1e-4, "adamw", {})


def photographs(batch: int = BATCH, size: tuple[int, int] = SIZE) -> Tensor:
    """(B, H, W, 3) uint8: drawn streets."""
    return torch.from_numpy(np.stack([streets.draw(seed, seed, *size)[0] for seed in range(batch)]))


def inputs(
    batch: int = BATCH, size: tuple[int, int] = SIZE, normalisation: Normalisation = IMAGENET
) -> tuple[Tensor, Tensor]:
    """The same, normalised, and their categories, (B, H, W) int64."""
    ids = np.stack([streets.draw(seed, seed, *size)[1] for seed in range(batch)])
    return normalise(photographs(batch, size), normalisation), torch.from_numpy(peers.TO_CATEGORY[ids]).long()


def train_step(model: Segmenter, images: Tensor, labels: Tensor, device: Compute) -> Callable[[], None]:
    """One training step of segbench at each call."""
    state = training.begin(model, HYPERPARAMETERS, device)
    model.train()

    def step() -> None:
        with device.autocast():
            outputs = model(images)
        loss = torch.stack(list(model.losses(outputs, labels).values())).sum()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()

    return step
