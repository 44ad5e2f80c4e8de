"""RandAugment, TrivialAugment and noise: what is drawn, and that it is drawn per image alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench.core.augment import Augment
from segbench.data.augmentation import Views, colours, draw, policies, recoloured, reframed
from tests.test_augmentation_operations import REFERENCES, photographs, planes

EVERYTHING = Augment(0.5, (0.5, 2.0), 0.4, 15.0, 0.3, 1.5, 0.1, "randaugment", "reflect")
ASPECTS = np.full(600, 2.0)


def same(tensor: Tensor) -> Tensor:
    return tensor


def drawn(policy: str, images: int = 4000) -> policies.Drawn:
    return policies.draw(policy, images, np.random.default_rng(0))


def test_randaugment_draws_two_of_its_operations_at_nine_of_thirty_steps() -> None:
    operation, strength = drawn("randaugment")
    assert operation.shape == (4000, 2)
    names = [policies.OPERATIONS[index] for index in operation.ravel()]
    for name in policies.OPERATIONS:
        own = strength.ravel()[[each == name for each in names]]
        assert 500 < len(own) < 850  # 667 expected
        full = {**policies.MOVING, **policies.COLOURING}.get(name, 0.0)
        assert set(np.round(own, 9)) == {round(0.3 * full, 9), -round(0.3 * full, 9)}


def test_trivialaugment_draws_one_and_stays_within_what_streets_look_like() -> None:
    operation, strength = drawn("trivialaugment")
    assert operation.shape == (4000, 1)
    for name, full in {**policies.MOVING, **policies.COLOURING}.items():
        own = strength[operation == policies.OPERATIONS.index(name)] / (full or 1)
        strongest = (0.3 if name in policies.MOVING else 17 / 30) if full else 0
        assert np.abs(own).max() == pytest.approx(strongest)
        assert own.min() == pytest.approx(-strongest)
        if full:
            assert abs(own.mean()) < 0.1 * strongest
            assert np.abs(own).mean() == pytest.approx(strongest / 2, rel=0.12)


def test_the_strongest_are_torchvisions() -> None:
    from torchvision.transforms.v2 import RandAugment

    moving = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    colouring = ("Brightness", "Color", "Contrast", "Sharpness", "AutoContrast", "Equalize")
    ours = [*policies.MOVING.values(), *policies.COLOURING.values()]
    for name, full in zip((*moving, *colouring), ours, strict=True):
        magnitudes, signed = RandAugment._AUGMENTATION_SPACE[name]
        assert full == pytest.approx(float(magnitudes(policies.STEPS + 1, 1, 1)[-1]) if signed else 0.0)
    assert {*RandAugment._AUGMENTATION_SPACE} - {*moving, *colouring} == {"Identity", "Posterize", "Solarize"}


def test_no_policy_draws_nothing() -> None:
    assert drawn("none").operation.shape == (4000, 0)
    assert drawn("none").frames(np.ones(4000)) == []


def test_operations_follow_each_other_as_drawn() -> None:
    augment = Augment(policy="randaugment")
    images, views = photographs(200, 8, 12), draw(augment, np.full(200, 1.5), 0, 0)
    found = planes(recoloured(augment, images, views, same))
    rows = zip(planes(images), views.operation.tolist(), views.strength.tolist(), found, strict=True)
    for image, operations, strengths, result in rows:
        for operation, strength in zip(operations, strengths, strict=True):
            if change := REFERENCES.get(policies.OPERATIONS[operation]):
                image = change(image, 1 + strength)
        assert (result - image).abs().mean() < 1e-3  # equalize: a level that is rounded differently jumps


def test_an_image_alone_is_as_in_a_batch() -> None:
    images, raw = photographs(4, 16, 24), torch.randint(0, 34, (4, 16, 24), dtype=torch.uint8)
    views = draw(EVERYTHING, ASPECTS, 1, 2)

    def seen(chosen: list[int]) -> list[Tensor]:
        own = views.of(torch.tensor(chosen), same)
        coloured = recoloured(EVERYTHING, images[[index % 4 for index in chosen]], own, same)
        return [coloured, *reframed(EVERYTHING, planes(coloured), raw[[index % 4 for index in chosen]], own.frame, 0)]

    for first in range(0, 600, 4):
        together = seen([first, first + 1, first + 2, first + 3])
        for alone, batch in zip(seen([first]), together, strict=True):
            torch.testing.assert_close(alone, batch[:1], atol=1e-3, rtol=0)


def test_the_device_is_never_asked() -> None:
    """Meta tensors have no values: whatever would wait for one fails."""

    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to("meta")

    images, raw = to_device(photographs(64, 16, 24)), torch.zeros(64, 16, 24, dtype=torch.uint8, device="meta")
    for policy in ("randaugment", "trivialaugment"):
        augment = Augment(0.5, (0.5, 2.0), 0.4, 15.0, 0.3, 1.5, 0.1, policy)
        views = draw(augment, ASPECTS, 0, 0).of(torch.arange(64), to_device)
        coloured = recoloured(augment, images, views, to_device)
        assert coloured.shape == images.shape
        seen, labels = reframed(augment, coloured.permute(0, 3, 1, 2), raw, views.frame, 0)
        assert (seen.shape, labels.shape) == ((64, 3, 16, 24), raw.shape)


def test_noise_is_gaussian_and_its_keys_alone_decide_it() -> None:
    grey = torch.full((2, 128, 128, 3), 128.0)
    keys = torch.tensor([7, -8], dtype=torch.int32)
    noise = colours.noisy(grey, torch.tensor([10.0, 20.0]), keys) - 128
    for own, deviation in zip(noise, (10.0, 20.0), strict=True):
        unit = (own / deviation).double()
        assert abs(unit.mean()) < 0.02
        assert unit.std() == pytest.approx(1, abs=0.02)
        assert unit.pow(4).mean() == pytest.approx(3, abs=0.15)
        for axis in range(3):
            neighbours = unit.narrow(axis, 1, unit.shape[axis] - 1) * unit.narrow(axis, 0, unit.shape[axis] - 1)
            assert abs(neighbours.mean()) < 0.02
    assert abs((noise[0] * noise[1]).mean() / 200) < 0.02
    torch.manual_seed(5)
    assert torch.equal(colours.noisy(grey[:1], torch.tensor([20.0]), keys[1:]) - 128, noise[1:])


def test_the_hash_is_lowbias32() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    expected = bits.copy()
    expected = (expected ^ (expected >> 16)) * np.uint32(0x7FEB352D)
    expected = (expected ^ (expected >> 15)) * np.uint32(0x846CA68B)
    expected ^= expected >> 16
    assert np.array_equal(colours._mixed(torch.from_numpy(bits.view(np.int32))).numpy().view(np.uint32), expected)


def test_what_was_added_leaves_earlier_draws_as_they_were() -> None:
    """The first image of seed 0's first epoch, as drawn before there was more than these three."""
    three = draw(Augment(0.5, (0.5, 2.0), 0.4), ASPECTS[:24], 0, 0)
    torch.testing.assert_close(
        three.frame[0],
        torch.tensor([[-0.786443949, 0, 0.046089988], [0, 0.786443949, -0.083197154]]),
        atol=1e-7,
        rtol=0,
    )
    torch.testing.assert_close(three.light[0], torch.tensor([1.168406487, 1.223143220, 0.688296974]), atol=1e-7, rtol=0)
    turned = draw(Augment(0.5, (0.5, 2.0), 0.4, rotate=10), ASPECTS[:24], 0, 0)
    noisy = draw(Augment(0.5, (0.5, 2.0), 0.4, rotate=10, noise=0.1, policy="randaugment"), ASPECTS[:24], 0, 0)
    assert torch.equal(turned.light, three.light)
    assert not torch.equal(turned.frame, three.frame)
    still = [index for index, row in enumerate(noisy.operation) if not row.sum()]
    assert torch.equal(noisy.frame[still], turned.frame[still])


def test_epochs_and_seeds_differ() -> None:
    def parts(seed: int, epoch: int) -> Views:
        return draw(EVERYTHING, ASPECTS, seed, epoch)

    for other in (parts(0, 1), parts(1, 0)):
        assert not any(torch.equal(a, b) for a, b in zip(parts(0, 0), other, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(parts(3, 4), parts(3, 4), strict=True))
