"""Windows, mirrors and scales: the whole image's scores where the network looks at pixels alone, else a plain mean."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segbench.architectures.segmenter import Segmenter
from segbench.core.crops import WHOLE, Passes
from segbench.data import packing
from segbench.data.batches import Batches
from segbench.engine import evaluation, inference, passes
from segbench.engine.evaluation import Evaluation, View, evaluate
from segbench.runtime.compute import choose
from tests.planted import Box

CPU = choose("cpu", "fp32")
SIZE = (64, 96)
ALL = Passes((32, 48), (16, 30), True, (0.5, 1.0, 1.5))


class Dot(Segmenter):
    """A 1×1 convolution: what is around a pixel does not matter."""

    def __init__(self, classes: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)

    def losses(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"main": nn.functional.cross_entropy(outputs.float(), labels)}

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.float()


class Striding(Dot):
    """Every fourth pixel: scores at a quarter of the size."""

    def scores(self, outputs: Tensor) -> Tensor:
        return super().scores(outputs)[:, :, ::4, ::4]


def scored(model: Segmenter, images: Tensor, by: Passes) -> Tensor:
    model.passes = by
    with torch.inference_mode():
        return passes.scores(model.eval(), images, CPU)


@given(
    window=st.tuples(st.integers(32, 64), st.integers(32, 96)), step=st.tuples(st.integers(9, 32), st.integers(9, 32))
)
@settings(deadline=None, max_examples=25)
def test_windows_give_the_whole_images_scores_where_only_the_pixel_matters(
    window: tuple[int, int], step: tuple[int, int]
) -> None:
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    whole = scored(Dot(), images, WHOLE)
    torch.testing.assert_close(scored(Dot(), images, Passes(window, step)), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(scored(Dot(), images, Passes(window, step, True)), whole, atol=1e-5, rtol=0)


def test_overlapping_windows_are_the_plain_mean_over_each_pixel() -> None:
    image, window, stride = torch.randn(1, 3, *SIZE), (32, 48), (24, 36)
    total, count = torch.zeros(3, *SIZE), torch.zeros(SIZE)
    for top, left in itertools.product((0, 24, 32), (0, 36, 48)):  # the last ones lie at the far edges
        part = (slice(top, top + 32), slice(left, left + 48))
        total[(slice(None), *part)] += scored(Box(), image[(..., *part)], WHOLE)[0]
        count[part] += 1
    made = scored(Box(), image, Passes(window, stride))
    torch.testing.assert_close(made[0], total / count, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(made, scored(Box(), image, WHOLE), atol=1e-3)  # windows hide what is beyond them


def test_mirrors_and_scales_are_averaged_too() -> None:
    image = torch.randn(1, 3, *SIZE)
    turned = scored(Box(), image.flip(-1), WHOLE).flip(-1)
    expected = (scored(Box(), image, WHOLE) + turned) / 2
    torch.testing.assert_close(scored(Box(), image, Passes(flip=True)), expected)
    parts = []
    for height, width in ((32, 64), SIZE, (96, 128)):  # 48 and 144 columns, to the next multiple of 32
        small = nn.functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
        back = scored(Box(), small, WHOLE)
        parts.append(nn.functional.interpolate(back, SIZE, mode="bilinear", align_corners=False))
    made = scored(Box(), image, Passes(scales=(0.5, 1.0, 1.5)))
    torch.testing.assert_close(made, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-5)


def test_windows_are_computed_in_batches_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = Dot(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    image, by = torch.randn(1, 3, *SIZE), Passes((32, 48), (16, 24))
    together = scored(model, image, by)
    monkeypatch.setattr(passes, "_TOGETHER", 4 * 32 * 48)
    assert torch.equal(scored(model, image, by), together)
    assert seen == [9, 3, 3, 3]


@pytest.fixture(scope="module")
def data(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


def evaluated(model: Segmenter, data: packing.Dataset, by: Passes, views: list[View] | None = None) -> Evaluation:
    model.passes = by
    batches = Batches(data.val, np.arange(7), 3, CPU.device)
    return evaluate(model, batches, CPU, views.append if views is not None else None)


def test_an_evaluation_by_windows_equals_a_whole_one_where_only_the_pixel_matters(data: packing.Dataset) -> None:
    views: list[View] = []
    whole, windows = evaluated(Dot(), data, WHOLE), evaluated(Dot(), data, Passes((32, 48), (32, 48)), views)
    assert (whole.confusions == windows.confusions).all()
    assert windows.loss == pytest.approx(whole.loss, rel=1e-5)  # windows without overlap: each pixel counts once
    assert windows.nll == pytest.approx(whole.nll, rel=1e-5)
    assert [view.labels.shape for view in views] == [(1, *SIZE)] * 7
    mirrored = evaluated(Dot(), data, Passes((32, 48), (32, 48), True))
    assert mirrored.loss == pytest.approx(whole.loss, rel=1e-5)  # labels are mirrored with the images
    scaled = evaluated(Dot(), data, Passes(scales=(2.0,)))
    assert scaled.loss == pytest.approx(whole.loss, rel=0.02)  # and scaled


def test_large_images_are_scored_one_by_one(data: packing.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[View] = []
    together = evaluated(Dot(), data, WHOLE)
    monkeypatch.setattr(evaluation, "_MOST_SCORES", 2 * 8 * SIZE[0] * SIZE[1])  # those of two images
    alone = evaluated(Dot(), data, WHOLE, views)
    assert [len(view.labels) for view in views] == [1] * 7
    assert (alone.confusions == together.confusions).all()
    assert (alone.loss, alone.nll) == pytest.approx((together.loss, together.nll), rel=1e-5)


def test_the_grid_of_the_scores_is_that_of_the_whole_image(data: packing.Dataset) -> None:
    views: list[View] = []
    evaluated(Striding(), data, Passes((32, 48), (16, 48)), views)
    evaluated(Striding(), data, WHOLE, views)
    assert {view.grid for view in views} == {(16, 24)}


@pytest.mark.parametrize("by", [Passes((32, 48), (16, 30)), ALL], ids=["windows", "all"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_use_gives_the_class_map_of_the_evaluation(by: Passes, precision: str, data: packing.Dataset) -> None:
    compute = choose("cpu", precision)
    views: list[View] = []
    model = Striding()
    model.passes = by
    evaluate(model, Batches(data.val, np.arange(5), 2, compute.device), compute, views.append)
    ready = inference.ready(model, compute)
    for view, image in zip(views, data.val.images, strict=False):
        assert (inference.segment(ready, image, SIZE, compute) == view.predicted[0].numpy()).all()
    together = inference.predict(ready, torch.from_numpy(np.array(data.val.images[:5])), compute)
    assert torch.equal(together, torch.cat([view.predicted for view in views]).to(torch.uint8))


def test_a_model_keeps_its_passes_when_it_is_copied() -> None:
    model: Any = Dot()
    model.passes = replace(ALL, flip=False)
    assert copy.deepcopy(model).for_inference().passes == replace(ALL, flip=False)
