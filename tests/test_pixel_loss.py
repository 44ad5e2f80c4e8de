"""The loss of a pixel against torch's cross-entropy, and cases worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segbench import architectures
from segbench.architectures.parts.pixel_loss import PixelLoss, effective_weights
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.core.recipe import Recipe
from segbench.data import packing
from segbench.data.batches import Batches
from tests.conftest import SIZE


@pytest.fixture
def case() -> tuple[Tensor, Tensor]:
    """Logits (2, 4, 8, 16) and labels (2, 8, 16)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 8, 16, generator=generator), torch.randint(0, 4, (2, 8, 16), generator=generator)


def test_off_is_torchs_cross_entropy(case: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(PixelLoss()(*case), F.cross_entropy(*case))
    coarse = case[0][..., ::2, ::2]
    full = F.interpolate(coarse, size=(8, 16), mode="bilinear", align_corners=False)
    assert torch.equal(PixelLoss()(coarse, case[1]), F.cross_entropy(full, case[1]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing_and_weights_are_torchs(case: tuple[Tensor, Tensor], smoothing: float) -> None:
    logits, labels = case
    assert torch.equal(PixelLoss(smoothing)(*case), F.cross_entropy(*case, label_smoothing=smoothing))
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    found = PixelLoss(smoothing, weights=weights)(*case)
    # torch's mean divides by the sum of the weights of a batch's labels; ours by the number of pixels.
    whole = F.cross_entropy(logits, labels, weights, label_smoothing=smoothing) * weights[labels].sum() / labels.numel()
    torch.testing.assert_close(found, whole)


def test_mining_by_hand() -> None:
    """One image of 4×8 pixels and two classes: at least two pixels of 32 count."""
    chance = torch.full((32,), 0.9)
    chance[:3] = torch.tensor([0.2, 0.6, 0.65])  # of the true class
    labels = torch.zeros(1, 4, 8, dtype=torch.long)
    logits = torch.stack([torch.logit(chance), torch.zeros(32)]).view(1, 2, 4, 8)
    below = [0.2, 0.6, 0.65]
    assert float(PixelLoss(ohem=0.7)(logits, labels)) == pytest.approx(-sum(map(math.log, below)) / 3, rel=1e-5)
    least = -(math.log(0.2) + math.log(0.6)) / 2  # none but the first is below 0.3: the two least likely count
    assert float(PixelLoss(ohem=0.3)(logits, labels)) == pytest.approx(least, rel=1e-5)
    sure = torch.stack([torch.full((32,), 9.0), torch.zeros(32)]).view(1, 2, 4, 8)
    together = PixelLoss(ohem=0.7)(torch.cat([logits, sure]), labels.expand(2, 4, 8))
    alone = [PixelLoss(ohem=0.7)(one, labels) for one in (logits, sure)]
    torch.testing.assert_close(together, torch.stack(alone).mean())  # no image depends on the others of its batch


def test_mining_teaches_only_hard_pixels(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case[0].requires_grad_(), case[1]
    PixelLoss(ohem=0.25)(logits, labels).backward()  # type: ignore[no-untyped-call]
    chance = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, chance < 0.25)


def test_effective_weights() -> None:
    counts = torch.tensor([900_000, 90_000, 10_000, 0])
    weights = effective_weights(counts)
    volume = 50_000  # a twentieth of the pixels
    beta = (volume - 1) / volume
    effective = [(1 - beta**n) / (1 - beta) for n in (900_000, 90_000, 10_000)]
    ratios = [float(weights[0] / weight) for weight in weights[:3]]
    assert ratios == pytest.approx([own / effective[0] for own in effective], rel=1e-3)
    assert weights[3] == 0
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1, rel=1e-5)
    # They depend on shares, so not on how many images there are.
    torch.testing.assert_close(effective_weights(counts * 30), weights, rtol=1e-3, atol=0)
    assert torch.isfinite(effective_weights(torch.tensor([1, 0]))).all()


def test_counts_of_the_training_images(drawn: Path, tmp_path: Path) -> None:
    split = packing.prepare(drawn, SIZE, tmp_path).train
    chosen = np.arange(5)
    expected = np.bincount(np.array(DEFAULT.class_of_raw)[split.labels[chosen]].ravel(), minlength=8)
    assert Batches(split, chosen, 2, torch.device("cpu")).class_counts().tolist() == expected.tolist()


@pytest.mark.parametrize("name", architectures.names())
def test_only_per_pixel_losses_take_it(name: str) -> None:
    model, _ = architectures.create(name, 8, "random", {"size": "tiny"}, 0)
    generator = torch.Generator().manual_seed(0)
    images, labels = (
        torch.randn(2, 3, 32, 64, generator=generator),
        torch.randint(0, 8, (2, 32, 64), generator=generator),
    )
    if name in ("mask2former", "eomt"):
        with pytest.raises(UserError, match="label_smoothing, class_weights and ohem change the loss of a pixel"):
            model.use(PixelLoss())
        return
    outputs = model.eval()(images)
    plain = model.losses(outputs, labels)
    model.use(PixelLoss.of(Recipe(label_smoothing=0.2, ohem=0.5), None))
    changed = model.losses(outputs, labels)
    assert all(not torch.equal(changed[term], plain[term]) for term in plain)
