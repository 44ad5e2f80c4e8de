"""Augmentations: what torchvision and plain indexing would do, and the same whatever the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segbench.core.augment import Augment
from segbench.core.errors import UserError
from segbench.core.protocol import Protocol, fingerprint, load, load_architecture
from segbench.data import augmentation, packing
from segbench.data.batches import Batches
from segbench.runtime import process_group
from tests.conftest import PROTOCOL, SIZE, write_protocol

CPU = torch.device("cpu")
ALL = Augment(flip=0.5, scale=(0.5, 2.0), colour=0.4)
EVERYTHING = Augment(0.5, (0.5, 2.0), 0.4, 15.0, 0.3, 1.5, 0.1, "randaugment", "reflect")


def reframed(images: Tensor, raw: Tensor, frame: list[list[float]]) -> tuple[Tensor, Tensor]:
    return augmentation.reframed(ALL, images, raw, torch.tensor([frame]), 0)


def scene(height: int = 12, width: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, height, width, generator=generator)
    return images, torch.randint(1, 34, (1, height, width), generator=generator).to(torch.uint8)


def test_unchanged_and_mirrored_views_are_exact() -> None:
    images, raw = scene()
    for frame, expected in (
        ([[1.0, 0, 0], [0, 1, 0]], (images, raw)),
        ([[-1.0, 0, 0], [0, 1, 0]], (images.flip(-1), raw.flip(-1))),
    ):
        seen, labels = reframed(images, raw, frame)
        torch.testing.assert_close(seen, expected[0], atol=1e-5, rtol=0)
        assert torch.equal(labels, expected[1])


def test_a_closer_view_is_a_crop_enlarged() -> None:
    images, raw = scene()
    seen, labels = reframed(images, raw, [[0.5, 0, -0.5], [0, 0.5, 0.5]])  # the lower left quarter
    assert torch.equal(labels, raw[:, 6:, :10].repeat_interleave(2, 1).repeat_interleave(2, 2))
    crop = F.interpolate(images[:, :, 6:, :10], scale_factor=2, mode="bilinear", align_corners=False)
    inner = (..., slice(1, -1), slice(1, -1))  # at its border a crop lacks the neighbours that the image has
    torch.testing.assert_close(seen[inner], crop[inner], atol=1e-5, rtol=0)


def test_a_farther_view_has_a_border_of_void() -> None:
    images, raw = scene()
    seen, labels = reframed(images, raw, [[2.0, 0, 0], [0, 2, 0]])
    assert int((labels > 0).sum()) == 6 * 10  # all labels of `raw` are above 0
    assert not labels[:, :3].any()
    assert not seen[..., :2, :].any()  # 0 after normalisation: the mean colour
    assert seen[..., 4:8, 6:14].all()


@given(seed=st.integers(0, 50), epoch=st.integers(0, 50))
def test_draws_stay_in_their_ranges(seed: int, epoch: int) -> None:
    drawn = augmentation.draw(ALL, np.full(64, 2.0), seed, epoch)
    mirror, step = torch.sign(drawn.frame[:, 0, 0]), drawn.frame[:, 1, 1]
    assert 10 < int((mirror < 0).sum()) < 54
    torch.testing.assert_close(drawn.frame[:, 0, 0], mirror * step)
    assert 0.5 <= float(step.min()) < 0.8 < 1.25 < float(step.max()) <= 2
    assert (drawn.frame[:, :, 2].abs() <= (1 - step).abs()[:, None] + 1e-6).all()  # never beyond the image
    assert 0.6 <= float(drawn.light.min()) < float(drawn.light.max()) <= 1.4


@pytest.fixture(scope="module")
def opened(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


def by_sum(batches: list[Tensor]) -> list[float]:
    return sorted(round(float(image.double().sum()), 2) for batch in batches for image in batch)


@pytest.mark.parametrize("asked", [ALL, EVERYTHING], ids=["three", "everything"])
def test_an_image_is_seen_alike_in_any_batch_and_process(
    asked: Augment, opened: packing.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def epoch(size: int, number: int = 3) -> list[Tensor]:
        return [b.images for b in Batches(opened.train, np.arange(24), size, CPU, asked).shuffled(0, number)]

    whole = by_sum(epoch(24))
    assert by_sum(epoch(5)) == pytest.approx(whole, abs=0.1)
    assert by_sum(epoch(24, 4)) != pytest.approx(whole, abs=0.1)
    parts = []
    monkeypatch.setattr(process_group, "size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(process_group, "rank", lambda rank=rank: rank)
        parts += epoch(8)
    assert by_sum(parts) == pytest.approx(whole, abs=0.1)


def test_what_is_scored_is_never_augmented(opened: packing.Dataset) -> None:
    plain, augmented = (Batches(opened.val, np.arange(8), 4, CPU, asked) for asked in (None, ALL))
    for one, other in zip(plain, augmented, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_the_protocol_asks_for_it_and_its_fingerprint_tells(tmp_path: Path) -> None:
    asked = "[augment]\nflip = 0.5\nscale = [0.5, 2]\ncolour = 0.4\n"
    folder = write_protocol(tmp_path / "augmented", PROTOCOL + asked)
    protocol = load(folder)
    assert protocol.augment == ALL
    deeplab = load_architecture(folder, "deeplab")

    def print_of(changed: Protocol) -> str:
        return fingerprint(changed, deeplab)

    others = [replace(protocol, augment=other) for other in (None, Augment(), Augment(flip=0.5))]
    assert len({print_of(protocol), *map(print_of, others)}) == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("flip = 1.5", "flip is a share, 0..1, not 1.5"),
        ("scale = [2, 1]", "scale must be [low, high] with 0.1 <= low <= high <= 10.0"),
        ("scale = 2", "augment.scale must be [low, high], found 2"),
        ("colour = 1", "colour must be 0 or more and below 1"),
        ("contrast = 1", "contrast must be 0 or more and below 1"),
        ("rotate = 90", "rotate is in degrees, 0..45, not 90"),
        ("blur = 11", "blur is in pixels, 0..10, not 11"),
        ("noise = 2", "noise is a share of white, 0..1, not 2"),
        ('policy = "autoaugment"', "policy must be one of none, randaugment, trivialaugment, not 'autoaugment'"),
        ('border = "wrap"', "border must be one of void, reflect, not 'wrap'"),
        ("rotation = 10", "unknown key 'rotation'; did you mean 'rotate'?"),
    ],
)
def test_wrong_values(line: str, said: str, tmp_path: Path) -> None:
    folder = write_protocol(tmp_path / "wrong", f"{PROTOCOL}[augment]\n{line}\n")
    with pytest.raises(UserError) as error:
        load(folder)
    assert said in str(error.value)
    assert "protocol.toml" in str(error.value)
