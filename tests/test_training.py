"""Training: deterministic, honest about divergence, and it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.records import EpochRecord, Hyperparameters, from_json, to_json
from segbench.data import packing
from segbench.data.batches import Batches
from segbench.engine import training
from segbench.engine.evaluation import evaluate
from segbench.runtime import compute
from tests.conftest import SIZE

CHOSEN = Hyperparameters(3e-3, 1e-4, "adamw", {})
CPU = compute.choose("cpu")


@pytest.fixture(scope="module")
def data(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def train(data: packing.Dataset) -> Batches:
    return Batches(data.train, np.arange(16), 8, CPU.device)


@pytest.fixture(scope="module")
def val(data: packing.Dataset) -> Batches:
    return Batches(data.val, np.arange(8), 8, CPU.device)


def records(
    name: str, train: Batches, val: Batches, epochs: int, chosen: Hyperparameters = CHOSEN
) -> list[EpochRecord]:
    model, _ = architectures.create(name, 8, "random", {"size": "tiny"}, 0)
    return list(training.fit(training.begin(model, chosen, CPU), train, val, epochs=epochs, seed=0))


@pytest.mark.parametrize("name", architectures.names())
def test_same_seed_same_records(name: str, train: Batches, val: Batches) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = records(name, train, val, 2)
    assert torch.equal(state, torch.random.get_rng_state())  # global generators are left as they were
    torch.manual_seed(2)
    second = records(name, train, val, 2)
    assert [r.without_timings() for r in first] == [r.without_timings() for r in second]
    assert [record.epoch for record in first] == [1, 2]
    assert first[1].train_loss < first[0].train_loss
    parts = dataclasses.asdict(first[0].seconds)
    total = parts.pop("total")
    assert 0.5 * total < sum(parts.values()) <= total
    assert from_json(EpochRecord, to_json(first[0])) == first[0]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_trains(optimizer: str, train: Batches, val: Batches) -> None:
    found = records("deeplab", train, val, 2, dataclasses.replace(CHOSEN, optimizer=optimizer))
    assert found[1].train_loss < found[0].train_loss


def test_an_unknown_optimizer_trains_nothing() -> None:
    model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)
    with pytest.raises(UserError, match="no optimizer 'lion'; it must be one of adam, adamw, sgd"):
        training.begin(model, dataclasses.replace(CHOSEN, optimizer="lion"), CPU)


class Sick(Segmenter):
    """Scores by pixel brightness and turns to nothing after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.steps = steps

    def forward(self, images: Tensor) -> Any:
        return images.mean(1, keepdim=True).expand(-1, 8, -1, -1) * self.weight

    def losses(self, outputs: Any, labels: Tensor) -> dict[str, Tensor]:
        self.steps -= 1
        return {"only": outputs.float().mean() * (float("nan") if self.steps < 0 else 1.0)}

    def scores(self, outputs: Any) -> Tensor:
        return outputs.float()


def test_divergence_ends_with_the_epoch(train: Batches, val: Batches) -> None:
    state = training.begin(Sick(steps=5), CHOSEN, CPU)  # two training and one validation step an epoch
    stream = training.fit(state, train, val, epochs=9, seed=0)
    assert next(stream).epoch == 1
    with pytest.raises(training.Diverged, match="validation loss is nan in epoch 2"):
        next(stream)


def test_batch_norm_needs_two_images(data: packing.Dataset, val: Batches) -> None:
    alone = Batches(data.train, np.arange(16), 1, CPU.device)
    with pytest.raises(UserError, match="needs batch_size and train_images of at least 2, not 1"):
        records("deeplab", alone, val, 1)


def test_evaluation_does_not_depend_on_the_batch_size(data: packing.Dataset) -> None:
    model, _ = architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)
    plain = compute.choose("cpu", "fp32")
    small, large = (evaluate(model, Batches(data.val, np.arange(8), size, plain.device), plain) for size in (3, 8))
    np.testing.assert_array_equal(small.confusions, large.confusions)
    assert small.nll == pytest.approx(large.nll, rel=1e-5)
    assert small.confusions.shape == (8, 35, 8)
    assert small.confusions.sum() == 8 * SIZE[0] * SIZE[1]


def test_uniform_scores_cost_log_eight_nats(val: Batches) -> None:
    assert evaluate(Sick(steps=9), val, CPU).nll == pytest.approx(np.log(8), rel=1e-5)


def test_devices_that_are_not_there() -> None:
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(UserError, match=f"no device '{name}' here"):
            compute.choose(name)
