"""Crops: slices of the images where nothing else changes, else what plain sampling shows; never one class alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from segbench.core import protocol as protocols
from segbench.core.augment import Augment
from segbench.core.crops import Passes, Train
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.core.records import Hyperparameters
from segbench.data import augmentation, packing
from segbench.data.augmentation import crops as places
from segbench.data.augmentation.crops import Crops
from segbench.data.batches import Batches
from segbench.engine import training
from segbench.experiment import objective
from segbench.runtime import process_group
from segbench.runtime.compute import choose
from tests.test_augmentation import ALL, CPU, EVERYTHING, by_sum
from tests.test_passes import Striding

CROP = (40, 72)
SIZE = (64, 128)


@pytest.fixture(scope="module")
def opened(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


def epoch(
    data: packing.Dataset, augment: Augment | None = None, size: int = 8, seed: int = 0, number: int = 0
) -> list[tuple[Tensor, Tensor]]:
    batches = Batches(data.train, np.arange(24), size, CPU, augment, CROP).shuffled(seed, number)
    return [(batch.images, batch.raw) for batch in batches]


def test_a_crop_is_a_slice_of_the_image(opened: packing.Dataset) -> None:
    whole = next(iter(Batches(opened.train, np.arange(24), 24, CPU)))
    frames = augmentation.draw(Augment(), opened.train.aspects, 0, 0, crops_of(opened)).frame
    [(images, raw)] = epoch(opened, size=24)
    order = np.random.default_rng([0, 0]).permutation(24)
    for image, ids, index in zip(images, raw, order, strict=True):
        left, top = (frames[index, :, 2] + 1) / 2 * torch.tensor([128, 64]) - torch.tensor([72, 40]) / 2
        rows, columns = (slice(round(float(a)), round(float(a)) + n) for a, n in ((top, 40), (left, 72)))
        assert torch.equal(ids, whole.raw[index, rows, columns])
        torch.testing.assert_close(image, whole.images[index, :, rows, columns], atol=1e-3, rtol=0)


def crops_of(data: packing.Dataset) -> Crops:
    return Crops(CROP, data.train.labels, DEFAULT)


@pytest.mark.parametrize("border", ["void", "reflect"])
def test_one_sampling_shows_what_sampling_the_whole_image_would(border: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, *SIZE, 3), dtype=torch.uint8, generator=generator)
    raw = torch.randint(1, 34, (16, *SIZE), generator=generator).to(torch.uint8)
    asked = Augment(flip=0.5, scale=(0.4, 2.5), rotate=20, policy="randaugment", border=border)
    maker = Crops(CROP, raw.numpy(), DEFAULT)
    frame = augmentation.draw(asked, np.full(16, 2.0), 1, 2, maker).frame
    made = augmentation.cut(images, [raw], [0], frame, CROP, border)
    grid = F.affine_grid(frame, [16, 1, *CROP], align_corners=False)
    mode = "zeros" if border == "void" else "reflection"
    sampled = F.grid_sample(images.permute(0, 3, 1, 2).float(), grid, "bilinear", mode, align_corners=False)
    nearest = F.grid_sample(raw[:, None].float(), grid, "nearest", mode, align_corners=False)[:, 0]
    same = made.planes[0] == nearest
    assert same.float().mean() > 0.999  # where a point lies on the edge between two pixels, rounding decides
    inside = torch.ones_like(raw[:, :40, :72], dtype=torch.bool)
    if border == "void":
        assert made.outside is not None
        assert 0.02 < made.outside.float().mean() < 0.6
        assert not made.planes[0][made.outside].any()
        edge = 1 - torch.tensor([1 / 128, 1 / 64])  # the outermost half pixel is blended with what lies beyond it
        inside = (grid.abs() < edge).all(-1)
    difference = (made.images.permute(0, 3, 1, 2) - sampled).abs().amax(1)
    assert difference[inside].max() < 0.1


@pytest.mark.parametrize("asked", [None, ALL, EVERYTHING], ids=["plain", "three", "everything"])
def test_a_crop_follows_from_seed_epoch_and_image(
    asked: Augment | None, opened: packing.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sums(**changed: int) -> list[float]:
        return by_sum([images for images, _ in epoch(opened, asked, **changed)])

    whole = sums(size=24)
    assert sums(size=5) == pytest.approx(whole, abs=0.1)
    assert sums(number=1) != pytest.approx(whole, abs=0.1)
    assert sums(seed=1) != pytest.approx(whole, abs=0.1)
    first, again = epoch(opened, asked), epoch(opened, asked)  # as of a resumed epoch
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    parts = []
    monkeypatch.setattr(process_group, "size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(process_group, "rank", lambda rank=rank: rank)
        parts += [images for images, _ in epoch(opened, asked)]
    assert by_sum(parts) == pytest.approx(whole, abs=0.1)


def test_what_is_scored_is_never_cut(opened: packing.Dataset) -> None:
    [batch] = Batches(opened.val, np.arange(8), 8, CPU, ALL, CROP)
    assert batch.images.shape == (8, 3, *SIZE)


ROAD, SKY = 7, 23  # raw ids


def painted(road: int) -> NDArray[np.uint8]:
    """(64, 128) ids: road in the first columns, then sky."""
    ids = np.full((64, 128), SKY, np.uint8)
    ids[:, :road] = ROAD
    return ids


def starts(maker: Crops, number: int) -> NDArray[np.float64]:
    """(number,) the left column of crops of many epochs."""
    drawn = [maker.centres(np.ones(1), np.random.default_rng(seed))[0] for seed in range(number)]
    return (np.concatenate(drawn) + 1) / 2 * 128 - CROP[1] / 2


def test_no_class_has_more_than_three_quarters_where_that_can_be() -> None:
    left = starts(Crops(CROP, [painted(64)], DEFAULT), 200)
    assert set(left) == set(range(10, 47))  # those of 0..56 where neither has more than 54 of 72 columns
    assert places.largest_share(painted(96)) == 0.75


def test_without_such_a_place_the_least_uniform_one_is_taken() -> None:
    left = starts(Crops(CROP, [painted(10)], DEFAULT), 40)
    assert np.mean(left < 10) > 0.8  # at most 10 of 72 columns are road: the farther left, the better
    assert places.largest_share(np.full((4, 4), 255, np.uint8)) == 1


@given(zoom=st.floats(0.3, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_crop_lies_inside_the_image_or_the_image_inside_it(zoom: float, seed: int) -> None:
    x, y = Crops(CROP, [painted(64)], DEFAULT).centres(np.array([zoom]), np.random.default_rng(seed))
    for centre, side, image in ((x, CROP[1] / zoom, 128), (y, CROP[0] / zoom, 64)):
        low, high = (float(centre[0]) + 1) / 2 * image - side / 2, (float(centre[0]) + 1) / 2 * image + side / 2
        assert (low > -1e-6 and high < image + 1e-6) or (low < 1e-6 and high > image - 1e-6)


def test_a_resumed_training_on_crops_goes_on_bit_by_bit(opened: packing.Dataset) -> None:
    train = Batches(opened.train, np.arange(12), 4, CPU, EVERYTHING, CROP)
    val = Batches(opened.val, np.arange(4), 4, CPU)
    compute, chosen = choose("cpu", "fp32"), Hyperparameters(1e-2, 0, "adamw")

    def begun() -> training.State:
        model = Striding()
        model.passes = Passes(CROP, (24, 56))
        return training.begin(model, chosen, compute)

    straight, stopped, resumed = begun(), begun(), begun()
    expected = list(training.fit(straight, train, val, epochs=2, seed=3))
    next(training.fit(stopped, train, val, epochs=2, seed=3))
    resumed.restore({name: tensor.clone() for name, tensor in stopped.tensors().items()}, 1)
    [record] = training.fit(resumed, train, val, epochs=2, seed=3)
    assert record.without_timings() == expected[1].without_timings()
    assert all(torch.equal(a, b) for a, b in zip(straight.tensors().values(), resumed.tensors().values(), strict=True))


class Rigid(Striding):
    """Takes square images alone."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] != images.shape[3]:
            raise RuntimeError("expected a square")
        return super().forward(images)


def test_a_size_that_a_network_cannot_take_is_one_line(protocol: Path) -> None:
    crop = protocols.load(protocol)
    asked = replace(crop, train=Train((32, 48)))
    own = protocols.load_architecture(protocol, "deeplab")
    objective._require_sizes(Striding(), asked, own)
    with pytest.raises(
        UserError, match=r"^deeplab cannot take images of 32x48 \(expected a square\); change \[train\]"
    ):
        objective._require_sizes(Rigid(), asked, own)
    objective._require_sizes(Rigid(), replace(crop, train=Train((32, 32))), own)
