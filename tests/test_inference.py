"""A promoted model is loaded from the very weights its card describes, or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segbench import architectures
from segbench.core import files
from segbench.core.crops import WHOLE
from segbench.core.errors import UserError
from segbench.core.records import Hyperparameters
from segbench.data.batches import IMAGENET
from segbench.engine import checkpoint, inference
from segbench.runtime import compute

CPU = compute.choose("cpu")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)
    checkpoint.save(model, tmp_path / "best.safetensors")
    return tmp_path / "best.safetensors"


def card_of(weights: Path) -> Any:
    return SimpleNamespace(
        architecture="deeplab",
        categories=range(8),
        model={"size": "tiny"},
        hyperparameters=Hyperparameters(1, 1, "sgd"),
        code=None,
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        passes=WHOLE,
        sha256=files.sha256(weights),
    )


def test_a_flipped_bit_in_the_weights_is_noticed(weights: Path) -> None:
    card = card_of(weights)
    inference.load(card, weights, CPU)
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1  # safetensors itself would load it
    weights.write_bytes(content)
    with pytest.raises(UserError, match="is not the file in its card") as caught:
        inference.load(card, weights, CPU)
    assert str(weights) in str(caught.value)


def test_weights_of_another_promotion_are_noticed(weights: Path) -> None:
    card = card_of(weights)
    model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 1)
    checkpoint.save(model, weights)
    with pytest.raises(UserError, match="is not the file in its card"):
        inference.load(card, weights, CPU)


def test_missing_weights_are_one_line(weights: Path) -> None:
    card = card_of(weights)
    weights.unlink()
    with pytest.raises(UserError, match=r"best\.safetensors cannot be read \(No such file or directory\)"):
        inference.load(card, weights, CPU)
