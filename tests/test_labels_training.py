"""Training and scoring on any label set: the note's stays as it was, bit by bit; pixels without a class never count."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench import architectures
from segbench.architectures.parts import matching
from segbench.architectures.parts.per_pixel import Outputs, PerPixel
from segbench.core.augment import Augment
from segbench.core.labels import DEFAULT, IGNORED, LabelSet, shipped
from segbench.core.records import EpochRecord, Hyperparameters
from segbench.data import packing
from segbench.data.batches import NO_CLASS, Batches
from segbench.engine import training
from segbench.engine.evaluation import evaluate
from segbench.engine.inference import resize
from segbench.runtime import compute
from tests import frozen
from tests.conftest import SIZE

CHOSEN = Hyperparameters(3e-3, 1e-4, "adamw", {})
CPU = compute.choose("cpu")
NINETEEN = shipped("cityscapes-19")


@pytest.fixture(scope="module")
def data(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


def batches(data: packing.Dataset, labels: LabelSet, augment: Augment | None = None) -> tuple[Batches, Batches]:
    train, val = (dataclasses.replace(split, label_set=labels) for split in (data.train, data.val))
    return Batches(train, np.arange(12), 4, CPU.device, augment), Batches(val, np.arange(6), 4, CPU.device)


def trained(data: packing.Dataset, name: str, labels: LabelSet, losses: Any = None) -> tuple[Any, EpochRecord]:
    model, _ = architectures.create(name, len(labels), "random", {"size": "tiny"}, 0)
    if losses:
        model.losses = losses
    train, val = batches(data, labels)
    [record] = training.fit(training.begin(model, CHOSEN, CPU), train, val, epochs=1, seed=0)
    return model, record


def digest(model: nn.Module) -> str:
    """Of all its tensors' bits."""
    parts = [f"{name} {value.cpu().numpy().tobytes().hex()}" for name, value in model.state_dict().items()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def frozen_per_pixel(outputs: Any, labels: Tensor) -> dict[str, Tensor]:
    terms = {"main": frozen.per_pixel(outputs.main, labels)}
    return terms if outputs.aux is None else {**terms, "aux": 0.5 * frozen.per_pixel(outputs.aux, labels)}


def frozen_matching(outputs: Any, labels: Tensor) -> dict[str, Tensor]:
    return frozen.matching(outputs.classes, outputs.masks, labels)


@pytest.mark.parametrize(("name", "losses"), [("deeplab", frozen_per_pixel), ("mask2former", frozen_matching)])
def test_the_notes_protocol_is_what_it_was_bit_by_bit(data: packing.Dataset, name: str, losses: Any) -> None:
    now, record = trained(data, name, DEFAULT)
    before, same = trained(data, name, DEFAULT, losses)
    assert digest(now) == digest(before)
    assert record.without_timings() == same.without_timings()
    _, val = batches(data, DEFAULT)
    loss, nll, raws, maps = 0.0, torch.zeros(()), [], []
    total = torch.zeros(())
    with torch.inference_mode():
        for batch in val:
            assert torch.equal(batch.labels, frozen.OF_RAW[batch.raw.int()])
            with CPU.autocast():
                outputs = now.eval()(batch.images)
            total += sum(losses(outputs, batch.labels).values()) * len(batch.images)
            scores = resize(now.scores(outputs), batch.labels.shape[-2:])
            nll += F.nll_loss(now.log_probabilities(scores), batch.labels) * len(batch.images)
            raws.append(batch.raw.numpy())
            maps.append(scores.argmax(1).numpy())
    loss = float(total) / val.images
    assert (record.val_loss, record.val_nll) == (loss, float(nll) / val.images)
    expected = frozen.scores(np.concatenate(raws), np.concatenate(maps))
    assert (record.miou, record.miou_official, record.pixel_accuracy) == expected


@pytest.mark.parametrize("name", ["deeplab", "mask2former"])
def test_nineteen_classes_train_and_are_scored(data: packing.Dataset, name: str) -> None:
    model, record = trained(data, name, NINETEEN)
    assert len(record.iou) == 19
    assert np.isfinite([record.train_loss, record.val_loss, record.val_nll, record.miou, record.miou_official]).all()
    _, val = batches(data, NINETEEN)
    found = evaluate(model, val, CPU)
    assert found.confusions.shape == (6, 35, 19)
    assert found.confusions.sum() == 6 * SIZE[0] * SIZE[1]  # pixels without a class are in the raw confusion, too
    batch = next(iter(val))
    with torch.inference_mode():
        with CPU.autocast():
            outputs = model.eval()(batch.images)
        scores = resize(model.scores(outputs), SIZE)
    counted = batch.labels != NO_CLASS
    assert 0 < counted.float().mean() < 1
    picked = model.log_probabilities(scores).gather(1, batch.labels.clamp(min=0)[:, None])[:, 0]
    split = dataclasses.replace(data.val, label_set=NINETEEN)
    alone = evaluate(model, Batches(split, np.arange(4), 4, CPU.device), CPU)
    assert alone.nll == pytest.approx(-picked[counted].mean().item(), rel=1e-5)


def outputs_of(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(2, 2, 6, 5) class logits, (2, 2, 6, 4, 6) mask logits, (2, 16, 24) labels of 4 classes, the upper half void."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(2, 2, 6, 5, generator=generator)
    masks = torch.randn(2, 2, 6, 4, 6, generator=generator)
    labels = torch.randint(0, 4, (2, 4, 6), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    labels[:, :8] = NO_CLASS
    return classes, masks, labels


def test_matching_does_not_see_pixels_without_a_class() -> None:
    classes, masks, labels = outputs_of(0)
    masks.requires_grad_()
    before = torch.stack(matching.loss(classes, masks, labels)).sum()
    (gradient,) = torch.autograd.grad(before, masks)
    assert not gradient[..., :2, :].any()
    assert gradient[..., 2:, :].any()
    other = masks.detach().clone()
    other[..., :2, :] = 50 * torch.randn(other[..., :2, :].shape, generator=torch.Generator().manual_seed(1))
    after = torch.stack(matching.loss(classes, other, labels)).sum()
    torch.testing.assert_close(after, before.detach())


def test_shares_are_of_the_labelled_pixels_of_a_cell() -> None:
    labels = torch.full((1, 4, 4), 2)
    labels[0, :, 0] = NO_CLASS
    labels[0, :2, 1] = 1
    shares, _, counted = matching.targets_of(labels, 3, (1, 1))
    assert counted.item() == 0.75
    assert shares.flatten().tolist() == pytest.approx([0, 2 / 12, 10 / 12])


def test_cross_entropy_is_a_mean_over_pixels_with_a_class() -> None:
    logits = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    labels = outputs_of(0)[2]
    found = PerPixel(nn.Identity(), channels_last=False).losses(Outputs(logits), labels)["main"]
    torch.testing.assert_close(found, F.cross_entropy(logits[:, :, 8:], labels[:, 8:]))


@pytest.mark.parametrize("name", ["deeplab", "mask2former"])
def test_images_without_any_class_leave_the_loss_finite(data: packing.Dataset, name: str) -> None:
    empty = np.zeros_like(data.train.labels)  # raw id 0, of no class
    void = dataclasses.replace(data.train, labels=empty, label_set=NINETEEN)
    model, _ = architectures.create(name, 19, "random", {"size": "tiny"}, 0)
    train, val = Batches(void, np.arange(8), 4, CPU.device), batches(data, NINETEEN)[1]
    [record] = training.fit(training.begin(model, CHOSEN, CPU), train, val, epochs=1, seed=0)
    assert record.train_loss == 0
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    nothing = evaluate(model, train, CPU)
    assert nothing.loss == 0
    assert np.isnan(nothing.nll)
    assert np.isnan(nothing.scores.miou)


def test_what_lies_outside_of_an_image_is_void(data: packing.Dataset) -> None:
    bdd = shipped("bdd100k-19")  # raw id 0 is road
    small = Augment(scale=(0.5, 0.5))
    train, _ = batches(data, bdd, small)
    outside = torch.cat([batch.raw.flatten() for batch in train.shuffled(0, 0)]) == bdd.border
    assert bdd.class_of_raw[bdd.border] == IGNORED
    assert outside.float().mean() > 0.7  # three quarters of each view
