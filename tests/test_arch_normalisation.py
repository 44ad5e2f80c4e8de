"""Pixels are normalised as the network declares it: in training, evaluation, inference, the speed test and the card."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.core import files
from segbench.core.augment import Augment
from segbench.core.crops import WHOLE
from segbench.core.records import Hyperparameters
from segbench.data import packing
from segbench.data.batches import IMAGENET, Batches, Normalisation, normalise
from segbench.engine import checkpoint, inference, speed, training
from segbench.runtime import compute
from tests.conftest import SIZE

CPU = compute.choose("cpu")
HALF = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)  # (x - 127) / 128, EfficientNet-Lite's


@pytest.fixture(scope="module")
def data(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


def test_it_is_the_declared_mean_and_deviation() -> None:
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    torch.testing.assert_close(normalise(images, HALF), ((images.float() - 127) / 128).permute(0, 3, 1, 2))


@pytest.mark.parametrize("augmented", [None, Augment(flip=0.5, colour=0.3)], ids=["plain", "augmented"])
def test_training_and_evaluation_use_it(data: packing.Dataset, augmented: Augment | None) -> None:
    train, val = (Batches(split, np.arange(4), 4, CPU.device, augmented) for split in (data.train, data.val))
    seen: dict[Normalisation, list[Tensor]] = {IMAGENET: [], HALF: []}
    for normalisation in (IMAGENET, HALF):
        model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)
        model.normalisation = normalisation
        model.register_forward_pre_hook(lambda _, inputs, to=seen[normalisation]: to.append(inputs[0]))
        list(training.fit(training.begin(model, Hyperparameters(1e-3, 0, "adamw"), CPU), train, val, epochs=1, seed=0))
    assert len(seen[HALF]) == 2  # one batch of each
    for half, imagenet in zip(*(seen[n] for n in (HALF, IMAGENET)), strict=True):
        mean, std, other_mean, other_std = (torch.tensor(v).view(3, 1, 1) for v in (*HALF, *IMAGENET))
        torch.testing.assert_close(half, (imagenet * other_std + other_mean - mean) / std, atol=1e-5, rtol=0)


def test_inference_uses_the_cards_and_the_card_is_the_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)
    checkpoint.save(model, tmp_path / "w.safetensors")
    about: Any = {"architecture": "deeplab", "categories": range(8), "model": {"size": "tiny"}}
    about["sha256"] = files.sha256(tmp_path / "w.safetensors")
    about["passes"] = WHOLE
    card: Any = SimpleNamespace(
        **about, code=None, hyperparameters=Hyperparameters(1, 1, "sgd"), mean=HALF.mean, std=HALF.std
    )
    loaded = inference.load(card, tmp_path / "w.safetensors", CPU)
    assert loaded.normalisation == HALF
    inputs: list[Tensor] = []
    loaded.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    image = np.full((32, 64, 3), 255, np.uint8)
    inference.predict(loaded, torch.from_numpy(image)[None], CPU)
    inference.segment(loaded, image, (32, 64), CPU)
    monkeypatch.setattr(speed, "_SECONDS_PER_PART", 0.0)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.full((1, 32, 64, 3), 255, dtype=torch.uint8))
    speed.measure(loaded, (32, 64), 1, CPU)
    white = [given for given in inputs if given.any()]  # the others are for counting
    assert len(white) > 4
    assert all(torch.allclose(given, torch.ones(())) for given in white)  # (255 - 127) / 128
