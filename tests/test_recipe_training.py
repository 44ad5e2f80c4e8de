"""What a recipe does to a training: rates, groups, norms of gradients, averages; and resuming stays exact."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.recipe import OFF, Recipe
from segbench.core.records import EpochRecord, Hyperparameters
from segbench.data import packing
from segbench.data.batches import Batches
from segbench.engine import optimizers, resume, schedule, training
from segbench.engine.averaging import Average
from segbench.engine.evaluation import evaluate
from segbench.runtime import compute
from tests.conftest import SIZE

CPU = compute.choose("cpu")
EPOCHS = 3  # of two steps
ALL = Recipe(
    **{"schedule": "poly", "warmup": 0.4, "backbone_lr": 0.5, "layer_decay": 0.9, "no_decay": True},
    **{"clip_norm": 0.5, "ema": 0.9},
)
PIXELS = {"label_smoothing": 0.1, "class_weights": "effective", "ohem": 0.7}
MASKS = ("mask2former", "eomt")


@pytest.fixture(scope="module")
def images(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Batches, Batches]:
    data = packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))
    return Batches(data.train, np.arange(8), 4, CPU.device), Batches(data.val, np.arange(4), 4, CPU.device)


def tiny(name: str) -> Segmenter:
    return architectures.create(name, 8, "random", {"size": "tiny"}, 0)[0]


def chosen(recipe: Recipe, optimizer: str = "adamw") -> Hyperparameters:
    return Hyperparameters(3e-3, 1e-2, optimizer, {}, recipe)


def trained(
    name: str, images: tuple[Batches, Batches], recipe: Recipe, epochs: int = EPOCHS, optimizer: str = "adamw"
) -> tuple[training.State, list[EpochRecord]]:
    state = training.begin(tiny(name), chosen(recipe, optimizer), CPU)
    return state, list(training.fit(state, *images, epochs=epochs, seed=0))


def torchs_rates(
    make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], steps: int
) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [2, 7, 372])
def test_schedules_are_torchs(steps: int) -> None:
    lr = torch.optim.lr_scheduler
    cases = {
        Recipe(): lambda o: lr.ConstantLR(o, 1.0),
        Recipe("poly", 0.9): lambda o: lr.PolynomialLR(o, steps, 0.9),
        Recipe("poly", 1.0): lambda o: lr.PolynomialLR(o, steps, 1.0),
        Recipe("cosine"): lambda o: lr.CosineAnnealingLR(o, steps),
        Recipe("poly", warmup=0.5): lambda o: lr.LambdaLR(
            o, lambda k: (1 - k / steps) ** 0.9 * min(1, (k + 1) / (steps / 2))
        ),
    }
    for recipe, make in cases.items():
        found = [schedule.factor(recipe, step, steps) for step in range(steps)]
        assert found == pytest.approx(torchs_rates(make, steps), abs=1e-12), recipe


def test_warm_up_by_hand() -> None:
    found = [schedule.factor(Recipe(warmup=0.5), step, 8) for step in range(8)]
    assert found == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_off_is_what_was_trained_before_there_were_recipes(images: tuple[Batches, Batches]) -> None:
    """The loop that recipes were added to, in its essence."""
    state, records = trained("deeplab", images, OFF, 1)
    model = tiny("deeplab").train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2, fused=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch in images[0].shuffled(0, 0, model.normalisation):
            with CPU.autocast():
                outputs = model(batch.images)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(model.losses(outputs, batch.labels).values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state.model.state_dict()[name]), name
    assert len(state.optimizer.param_groups) == 1
    assert records[0].lr == 3e-3


def test_records_hold_rate_and_gradient(images: tuple[Batches, Batches]) -> None:
    _, records = trained("segformer", images, Recipe("poly", 1.0))
    assert [record.lr for record in records] == pytest.approx([3e-3 * (1 - step / 6) for step in (1, 3, 5)])
    assert all(0 < record.grad_norm <= record.grad_norm_max < math.inf for record in records)  # type: ignore[operator]


def test_norm_and_clipping_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (
        [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))] for _ in range(2)
    )
    for own, other in zip(ours[:2], theirs[:2], strict=True):  # the third has no gradient
        own.grad = torch.randn(own.shape, generator=generator)
        other.grad = own.grad.clone()
    expected = nn.utils.clip_grad_norm_(theirs, 0.1)
    whole = torch.cat([p.grad.flatten() for p in ours if p.grad is not None]).norm()
    torch.testing.assert_close(optimizers.clipped_norm(ours, 0.0), whole)  # 0 changes no gradient
    torch.testing.assert_close(optimizers.clipped_norm(ours, 0.1), expected)
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(own.grad, other.grad)
    assert optimizers.mean_and_max([torch.tensor(1.0), torch.tensor(3.0)]) == (2.0, 3.0)


def test_clipping_bounds_a_step_of_sgd(images: tuple[Batches, Batches]) -> None:
    for largest in (1e-3, 1e9):
        before = tiny("deeplab")
        state, records = trained("deeplab", images, Recipe(clip_norm=largest), 1, "sgd")
        moved = [
            (a - b).detach().square().sum() for a, b in zip(before.parameters(), state.model.parameters(), strict=True)
        ]
        # Two steps of SGD with momentum 0.9 and weight decay: at most 2.9 clipped gradients, and the decay.
        decay = 3 * 1e-2 * float(torch.cat([p.detach().flatten() for p in before.parameters()]).norm())
        within = float(torch.stack(moved).sum().sqrt()) <= 3e-3 * (2.9 * largest + decay)
        assert within
        assert records[0].grad_norm is not None
        assert records[0].grad_norm > 1e-3  # before clipping


HEADS = {
    "deeplab": {"classifier", "aux_classifier"},
    "deeplabv3plus": {"classifier", "aux_classifier"},
    "efficientvit": {"inputs", "blocks", "out"},
    "eomt": {"query", "upscale_block", "mask_head", "class_predictor"},
    "internimage": {"project", "fuse", "out"},
    "lraspp": {"classifier"},
    "mask2former": {"transformer_module", "class_predictor", "decoder", "layernorm"},
    "panoptic_deeplab": {"classifier", "aux_classifier", "objects"},
    "segformer": {"decode_head"},
}


@pytest.mark.parametrize("name", architectures.names())
def test_backbones(name: str) -> None:
    """Each parameter is in one layer or in the head, and the layers are in the order of the forward pass."""
    model = tiny(name)
    layers = [{id(p) for p in layer.parameters()} for layer in model.backbone()]
    assert len(layers) >= 3
    assert all(layers)
    assert sum(map(len, layers)) == len(set.union(*layers))
    ids = [id(p) for p in model.parameters()]
    order = [statistics.median(ids.index(i) for i in layer) for layer in layers]
    assert order == sorted(order)
    rest = {key for key, p in model.named_parameters() if id(p) not in set.union(*layers)}
    prefix = (
        "network.",
        "network.model.",
        "network.model.pixel_level_module.",
        "network.model.pixel_level_module.encoder.swin.",
    )
    roots = set()
    for key in rest:
        for start in reversed(prefix):
            if key.startswith(start):
                roots.add(key.removeprefix(start).split(".")[0])
                break
    assert roots == HEADS[name]


def test_rates_by_layer() -> None:
    model = tiny("eomt")
    factors = {
        id(p): group["factor"]
        for group in optimizers.groups(model, chosen(Recipe(backbone_lr=0.1, layer_decay=0.5)))
        for p in group["params"]
    }
    layers = model.backbone()
    assert len(layers) == 5  # the patches' embedding and four blocks
    for index, layer in enumerate(layers):
        assert {factors[id(p)] for p in layer.parameters()} == {0.1 * 0.5 ** (5 - index)}
    assert factors[id(model.network.query.weight)] == 1.0


@pytest.mark.parametrize("name", architectures.names())
def test_groups_hold_every_parameter_once(name: str) -> None:
    model = tiny(name)
    groups = optimizers.groups(model, chosen(ALL))
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert groups == optimizers.groups(model, chosen(ALL))  # in the same order
    names = {id(p): key for key, p in model.named_parameters()}
    free = {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}
    decayed = set(names.values()) - free
    assert all("bias" in key or "norm" in key for key in free if key.endswith((".bias", "norm.weight")))
    assert not any(key.endswith(".bias") or "norm" in key or "position" in key for key in decayed), decayed
    assert len(optimizers.groups(model, chosen(OFF))) == 1


class Plain(Segmenter):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


def test_a_recipe_that_the_architecture_does_not_fit(images: tuple[Batches, Batches]) -> None:
    cases = {
        Recipe(backbone_lr=0.1): "backbone_lr and layer_decay need to know the backbone",
        Recipe(layer_decay=0.9): "backbone_lr and layer_decay need to know the backbone",
        Recipe(ohem=0.7): "label_smoothing, class_weights and ohem change the loss of a pixel",
    }
    for recipe, message in cases.items():
        with pytest.raises(UserError, match=message):
            training.require_trainable(Plain(), chosen(recipe), images[0], 2)


def test_a_recipe_that_the_number_of_steps_does_not_fit(images: tuple[Batches, Batches]) -> None:
    one = Batches.__new__(Batches)
    one.__dict__.update(images[0].__dict__, batch_size=8)  # one batch
    model = tiny("deeplab")
    cases = {
        Recipe("poly"): r'\[recipe\] schedule = "poly" needs at least 2 steps; this training has 1 step$',
        Recipe(ema=0.9): r"\[recipe\] ema averages over steps and needs at least 2; this training has 1 step$",
        Recipe(warmup=0.1): r"warmup = 0.1 is less than one step; this training has 1 step: raise it to 1 or 0",
    }
    for recipe, message in cases.items():
        with pytest.raises(UserError, match=message):
            training.require_trainable(model, chosen(recipe), one, 1)
        with pytest.raises(UserError, match=message):
            next(training.fit(training.begin(tiny("deeplab"), chosen(recipe), CPU), one, images[1], epochs=1, seed=0))


def test_the_average_by_hand() -> None:
    model = Plain()
    average = Average(model, 0.15)
    weights = [1.0]
    for step, value in enumerate((3.0, 5.0)):
        model.weight.data.fill_(value)
        average.update(model, step)
        decay = min(0.15, (1 + step) / (10 + step))
        weights.append(decay * weights[-1] + (1 - decay) * value)
    assert float(average.model.state_dict()["weight"][0, 0]) == pytest.approx(weights[-1])
    assert not any(p.requires_grad for p in average.model.parameters())


def test_the_average_is_evaluated_and_kept(tmp_path: Path, images: tuple[Batches, Batches]) -> None:
    state, session, records = kept(tmp_path, "deeplab", images, Recipe(ema=0.99))
    assert state.average is not None
    assert any(
        not torch.equal(a, b) for a, b in zip(state.model.parameters(), state.evaluated.parameters(), strict=True)
    )
    assert evaluate(state.average.model, images[1], CPU).scores.miou == records[-1].miou
    assert evaluate(state.model, images[1], CPU).loss != records[-1].val_loss
    other = tiny("deeplab")
    other.load_state_dict(session.best.weights)
    assert evaluate(other, images[1], CPU).scores.miou == session.best.record.miou


def kept(
    folder: Path, name: str, images: tuple[Batches, Batches], recipe: Recipe, stop: int = EPOCHS
) -> tuple[training.State, resume.TrainingSession, list[EpochRecord]]:
    """Trains in `folder`, from what is kept there, and leaves after `stop` epochs."""
    state = training.begin(tiny(name), chosen(recipe), CPU)
    session = resume.TrainingSession(folder, "a")
    session.restore(state)
    records = []
    for record in session.epochs(state, training.fit(state, *images, epochs=EPOCHS, seed=0)):
        records.append(record)
        if record.epoch == stop:
            break
    return state, session, records


@pytest.mark.parametrize("name", ["deeplab", "segformer", "eomt"])
def test_resumed_equals_uninterrupted(
    name: str, tmp_path: Path, images: tuple[Batches, Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of the warm-up: 0.4 of six steps, of two an epoch."""
    monkeypatch.setattr(resume, "SHARE", float("inf"))
    recipe = ALL if name in MASKS else dataclasses.replace(ALL, **PIXELS)  # type: ignore[arg-type]
    whole, session, records = kept(tmp_path / "whole", name, images, recipe)
    for stop in (1, 2):
        kept(tmp_path / str(stop), name, images, recipe, stop)
        torch.manual_seed(stop)
        state, again, found = kept(tmp_path / str(stop), name, images, recipe)
        assert [r.without_timings() for r in found] == [r.without_timings() for r in records]
        ours, theirs = state.tensors(), whole.tensors()
        assert ours.keys() == theirs.keys()
        assert any(key.startswith("average.") for key in ours)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert all(torch.equal(again.best.weights[key], session.best.weights[key]) for key in again.best.weights)


def running(model: nn.Module) -> list[torch.Tensor]:
    return [t for key, t in model.state_dict().items() if "running" in key]


def test_batch_norms_that_keep_their_statistics(images: tuple[Batches, Batches]) -> None:
    before = tiny("deeplab")
    for mode, scales_move in (("eval", True), ("frozen", False)):
        state, _ = trained("deeplab", images, Recipe(batchnorm=mode), 1)
        assert all(torch.equal(a, b) for a, b in zip(running(before), running(state.model), strict=True))
        norms = [
            (a, b)
            for a, b in zip(before.modules(), state.model.modules(), strict=True)
            if isinstance(a, nn.BatchNorm2d)
        ]
        assert any(not torch.equal(a.weight, b.weight) for a, b in norms) is scales_move
    alone = Batches.__new__(Batches)
    alone.__dict__.update(images[0].__dict__, batch_size=1)
    training.require_trainable(before, chosen(Recipe(batchnorm="eval")), alone, 1)  # one image is enough then
    with pytest.raises(UserError, match="needs batch_size and train_images of at least 2"):
        training.require_trainable(before, chosen(OFF), alone, 1)


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_trains_with_everything_on(name: str, images: tuple[Batches, Batches]) -> None:
    recipe = ALL if name in MASKS else dataclasses.replace(ALL, **PIXELS)  # type: ignore[arg-type]
    state, records = trained(name, images, recipe, 2)
    assert [record.epoch for record in records] == [1, 2]
    initial = tiny(name)
    # What finds objects learns only where a batch knows them.
    asked = {k: p for k, p in state.model.named_parameters() if not k.startswith("network.objects.")}
    moved = {k for k, p in asked.items() if not torch.equal(p, initial.get_parameter(k))}
    assert len(moved) > 0.9 * len(asked)
