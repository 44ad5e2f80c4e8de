"""Our way through Mask2Former and InternImage at inference against the libraries' own, in float32."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.architectures.mask2former import Mask2Former
from segbench.architectures.parts import deformable, swin
from segbench.engine import inference, speed
from segbench.runtime.compute import choose


def disturbed(name: str) -> Any:
    """A network whose biases, offsets and tables are not zero, as after training."""
    model, _ = architectures.create(name, 8, "random", {"size": "tiny"}, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Mask2Former:
    network = disturbed("mask2former")
    assert isinstance(network, Mask2Former)
    return network


# Padded and whole windows, one window in all, one pixel at the coarsest level.
@pytest.mark.parametrize("size", [(64, 128), (72, 100), (37, 41), (256, 64), (32, 32)])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_its_outputs_are_transformers_own(model: Mask2Former, size: tuple[int, int], batch: int) -> None:
    images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = model(images)
        lean = copy.deepcopy(model).for_inference()(images)
    assert len(lean.classes) == len(lean.masks) == 1
    torch.testing.assert_close(lean.classes[-1], whole.classes[-1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(lean.masks[-1], whole.masks[-1], rtol=1e-3, atol=1e-3)


def test_maps_are_transformers_own_whatever_it_calls_its_modules(model: Mask2Former) -> None:
    images = torch.randn(2, 3, 72, 100)
    backbone = copy.deepcopy(model.network.model.pixel_level_module.encoder)
    with torch.inference_mode():
        expected = backbone(images).feature_maps
        found = swin.maps(backbone, images)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        attention = backbone.swin.encoder.layers[0].blocks[0].attention
        attention.query, backbone.forward = attention.q_proj, lambda images: Renamed(expected)
        del attention.q_proj
        assert swin.maps(backbone, images) == list(expected)


class Renamed:
    def __init__(self, maps: tuple[Tensor, ...]) -> None:
        self.feature_maps = maps


def test_it_multiplies_less(model: Mask2Former) -> None:
    compute = choose("cpu", "fp32")
    whole, lean = (speed.gmac(one, (72, 100), compute) for one in (model, copy.deepcopy(model).for_inference()))
    assert lean < whole


def test_rounded_weights_leave_nearly_all_pixels(model: Mask2Former) -> None:
    compute = choose("cpu", "bf16")
    images = torch.randint(0, 256, (2, 64, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    ready = inference.ready(copy.deepcopy(model), compute)
    same = inference.predict(model, images, choose("cpu", "fp32")) == inference.predict(ready, images, compute)
    assert same.float().mean() > 0.95


@pytest.mark.parametrize("shapes", [[(2, 4), (4, 8), (7, 9)], [(1, 5), (3, 3)], [(6, 6)]])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_rows_are_what_maps_give(shapes: list[tuple[int, int]], kind: torch.dtype) -> None:
    """Also far outside of the maps, on their edges and at pixels' centres."""
    torch.manual_seed(0)
    batch, heads, points, total = 2, 3, 5, sum(height * width for height, width in shapes)
    value = torch.randn(batch, total, heads, 16).to(kind)
    centres = torch.rand(batch, total, len(shapes), 2)
    offsets = (4 * torch.randn(batch, total, heads, len(shapes), points, 2)).to(kind)
    offsets[:, :2], centres[:, :2] = torch.tensor([-1.0, 0.5]).to(kind), 0.5
    logits = torch.randn(batch, total, heads, len(shapes), points)
    weights = logits.flatten(3).softmax(-1).view_as(logits)
    torch.testing.assert_close(deformable.softmax(logits), weights)
    with torch.inference_mode():
        expected = deformable.sample(value, shapes, centres, offsets.float(), weights)
        found = deformable.sample_rows(value, shapes, centres, offsets.float(), weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_internimage_samples_rows_only_at_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, called = disturbed("internimage"), torch.randn(1, 3, 64, 64), []
    before = model(images).main
    rows = deformable.sample_rows

    def watched(*given: Any) -> Tensor:
        called.append(1)
        return rows(*given)

    monkeypatch.setattr(deformable, "sample_rows", watched)
    assert torch.equal(model(images).main, before)
    assert not called
    with torch.inference_mode():
        after = model.for_inference()(images).main
    assert called
    torch.testing.assert_close(after, before.detach(), rtol=1e-4, atol=1e-4)
