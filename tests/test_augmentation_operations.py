"""Each operation on whole batches: what torchvision.transforms.v2 does to one image, or one mask, alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.core.augment import Augment
from segbench.data.augmentation import colours, geometry, policies, reframed, views

ensure_importable()
from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402
from torchvision.transforms.v2 import functional as reference  # noqa: E402

REFERENCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": reference.adjust_brightness,
    "saturation": reference.adjust_saturation,
    "contrast": reference.adjust_contrast,
    "sharpness": reference.adjust_sharpness,
    "autocontrast": lambda image, factor: reference.autocontrast(image),
    "equalize": lambda image, factor: reference.equalize((image * 255).round().to(torch.uint8)) / 255,
}


def photographs(number: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(B, H, W, 3) float32 of whole levels, each image in its own range."""
    random = np.random.default_rng(seed)
    ranges = np.sort(random.integers(0, 256, (2, number, 1, 1, 3)), 0)
    return torch.from_numpy(random.integers(ranges[0], ranges[1] + 1, (number, height, width, 3))).float()


def planes(images: Tensor) -> Tensor:
    """As torchvision has them: (B, 3, H, W), 0..1."""
    return images.permute(0, 3, 1, 2) / 255


def test_every_operation_on_colours_has_a_reference() -> None:
    assert REFERENCES.keys() == policies.COLOURING.keys() == colours.COLOURING.keys()


@pytest.mark.parametrize("name", REFERENCES)
@given(factors=st.tuples(*[st.floats(0.05, 1.95)] * 3), seed=st.integers(0, 100))
def test_a_batch_is_changed_as_torchvision_changes_each_image(name: str, factors: tuple[float, ...], seed: int) -> None:
    images = photographs(3, 9, 14, seed)
    expected = [REFERENCES[name](image, factor) for image, factor in zip(planes(images), factors, strict=True)]
    found = colours.COLOURING[name](images, torch.tensor(factors).view(-1, 1, 1, 1))
    torch.testing.assert_close(planes(found), torch.stack(expected), atol=1e-5, rtol=0)


def test_whole_levels_are_equalized_exactly() -> None:
    images = torch.cat([photographs(4, 40, 60), torch.full((1, 40, 60, 3), 77.0)])
    expected = reference.equalize(images.permute(0, 3, 1, 2).to(torch.uint8)).permute(0, 2, 3, 1)
    assert torch.equal(colours.equalized(images, torch.ones(())), expected.float())


@given(light=st.tuples(*[st.floats(0.05, 1.95)] * 3), seed=st.integers(0, 100))
def test_light_is_torchvisions(light: tuple[float, float, float], seed: int) -> None:
    images = photographs(1, 5, 7, seed)
    expected = reference.adjust_brightness(planes(images), light[0])
    expected = reference.adjust_saturation(reference.adjust_contrast(expected, light[1]), light[2])
    torch.testing.assert_close(planes(colours.relit(images, torch.tensor([light]))), expected, atol=1e-5, rtol=0)


def test_each_image_is_blurred_by_its_own_gaussian() -> None:
    images, sigmas = photographs(3, 12, 17), (0.4, 1.0, 1.9)
    expected = [
        reference.gaussian_blur(image, [13, 13], [s, s]) for image, s in zip(planes(images), sigmas, strict=True)
    ]
    found = colours.blurred(images, torch.tensor(sigmas), 6)
    torch.testing.assert_close(planes(found), torch.stack(expected), atol=1e-5, rtol=0)
    assert torch.equal(colours.blurred(images, torch.zeros(3), 6), images)


def placed(images: Tensor, masks: Tensor, frame: views.Numbers, border: str = "void") -> tuple[Tensor, Tensor]:
    return reframed(Augment(border=border), images, masks, torch.from_numpy(frame[:, :2]).float(), 0)


def one(value: float) -> geometry.Numbers:
    return np.array([value])


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (31, 31)], ids=["wide", "high", "odd"])
@pytest.mark.parametrize("by", [-1.0, 0.3, 0.77])
@pytest.mark.parametrize("name", policies.MOVING)
def test_images_and_masks_move_as_torchvision_moves_them(name: str, by: float, size: tuple[int, int]) -> None:
    height, width = size
    image, mask = planes(photographs(1, height, width)), torch.randint(1, 34, (1, height, width), dtype=torch.uint8)
    strength = by * 3 / width if name == "shift_x" else by * 3 / height if name == "shift_y" else by * 0.9
    strength *= 30 if name == "rotate" else 1
    drawn = policies.Drawn(np.array([[policies.OPERATIONS.index(name)]]), np.array([[strength]]))
    (frame,) = drawn.frames(one(width / height))
    turn = strength if name == "rotate" else 0.0
    shift = [round(by * 3 * (name == axis), 6) for axis in ("shift_x", "shift_y")]
    shear = [float(np.degrees(np.arctan(strength * (name == axis)))) for axis in ("shear_x", "shear_y")]

    def expected(given: Tensor, how: InterpolationMode) -> Tensor:
        if name == "rotate":
            return reference.rotate(given, turn, how)
        return reference.affine(given, 0.0, shift, 1.0, shear, how)

    seen, labels = placed(image, mask, frame)
    torch.testing.assert_close(seen, expected(image, InterpolationMode.BILINEAR), atol=1e-4, rtol=0)
    moved = expected(tv_tensors.Mask(mask), InterpolationMode.NEAREST)
    assert (labels == moved).float().mean() > 0.98  # the rest lies between two pixels, but for rounding


def test_a_squeezed_photograph_turns_as_if_it_was_turned_before() -> None:
    """128 × 256 squeezed to 128 × 128: a turn of the packed pixels themselves would be a shear of the street."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(256.0), indexing="ij")
    photograph = torch.stack([torch.sin(rows / 9), torch.cos(columns / 13), torch.sin((rows + columns) / 17)])[None]
    squeezed = F.avg_pool2d(photograph, (1, 2))
    expected = F.avg_pool2d(reference.rotate(photograph, 20.0, InterpolationMode.BILINEAR), (1, 2))
    empty = torch.zeros(1, 128, 128, dtype=torch.uint8)
    middle = (..., slice(40, 88), slice(40, 88))  # away from the border
    seen, _ = placed(squeezed, empty, geometry.turned(one(20.0), one(2.0)))
    assert (seen - expected)[middle].abs().max() < 0.03
    naive, _ = placed(squeezed, empty, geometry.turned(one(20.0), one(1.0)))
    assert (naive - expected)[middle].abs().max() > 0.3


def test_a_reflected_border_continues_image_and_labels() -> None:
    images, raw = planes(photographs(1, 12, 20)), torch.randint(1, 34, (1, 12, 20), dtype=torch.uint8)
    seen, labels = placed(images, raw, geometry.zoomed(one(1.5), one(1.5), one(0.0), one(0.0)), "reflect")
    assert labels.all()
    for found, whole in ((labels[:, None], raw[:, None].float()), (seen, images)):
        wide = torch.cat([whole.flip(-1), whole, whole.flip(-1)], -1)
        tall = torch.cat([wide.flip(-2), wide, wide.flip(-2)], -2)
        assert found.shape == whole.shape
        inside = tall[..., 12 - 3 : 24 + 3, 20 - 5 : 40 + 5]
        shrunk = F.interpolate(inside, whole.shape[-2:], mode="nearest-exact" if found is not seen else "bilinear")
        torch.testing.assert_close(found.float(), shrunk, atol=1e-4, rtol=0)
