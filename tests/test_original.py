"""Scores at the photographs' own size: a plain NumPy and PIL computation of the same, and what is gone is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segbench.core import metrics
from segbench.core.crops import WHOLE, Passes
from segbench.core.errors import UserError
from segbench.data import dataset as datasets
from segbench.data import packing
from segbench.data.batches import IMAGENET
from segbench.engine import original
from segbench.runtime.compute import choose
from tests.conftest import PROTOCOL, write_protocol
from tests.test_passes import Striding

CPU = choose("cpu", "fp32")
SIZE = (32, 48)  # of the packed images: squeezed


@pytest.fixture
def opened(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> packing.Dataset:
    from segbench.core import protocol

    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    text = PROTOCOL.replace("size = [32, 64]", "size = [32, 48]").replace("[final]", '[final]\nscore_at = "original"')
    return datasets.ready(protocol.load(write_protocol(tmp_path / "small", text)), str(dataset))


def bilinear(grid: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """(C, h, w) to (C, *size), with half-pixel centres and clamped at the edges."""
    for axis, new in ((1, size[0]), (2, size[1])):
        old = grid.shape[axis]
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, None)
        low = place.astype(int)
        high, share = np.minimum(low + 1, old - 1), np.moveaxis(np.atleast_3d(place - low), 1, axis)
        grid = np.take(grid, low, axis) * (1 - share) + np.take(grid, high, axis) * share
    return grid


def reference(model: Striding, data: packing.Dataset) -> NDArray[np.int64]:
    """(N, 256, C) pixels, by a network whose scores are every fourth pixel's dot product with its weights."""
    weights = model.layer.weight.detach().double().numpy()[:, :, 0, 0]
    bias, (mean, std) = model.layer.bias, (np.array(values) for values in IMAGENET)
    assert bias is not None
    found = []
    for image, path in zip(data.val.images, data.originals, strict=True):
        seen = ((image / 255 - mean) / std)[::4, ::4]
        scores = np.moveaxis(seen @ weights.T + bias.detach().double().numpy(), -1, 0)
        truth = np.asarray(Image.open(path))
        predicted = bilinear(scores, truth.shape).argmax(0)
        counts = np.zeros((256, 8), np.int64)
        np.add.at(counts, (truth.reshape(-1), predicted.reshape(-1)), 1)
        found.append(counts)
    return np.stack(found)


@pytest.mark.parametrize("by", [WHOLE, Passes((32, 48), (32, 48))], ids=["whole", "windows"])
def test_a_plain_computation_gives_the_same(
    by: Passes, opened: packing.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, labels = Striding(), opened.val.label_set
    model.passes = by
    monkeypatch.setattr(original, "_COUNTED", 1000)  # several strips an image
    found = original.confusions(model, opened.val, np.arange(8), opened.originals, CPU)
    expected = metrics.rows(reference(model, opened), labels)
    assert found.sum() == expected.sum() == sum(np.prod(Image.open(path).size) for path in opened.originals)
    if by == WHOLE:
        assert np.abs(found - expected).sum() <= found.sum() * 1e-5  # ties, as float32 sees them
        assert metrics.scores(found.sum(0), labels).miou == pytest.approx(
            metrics.scores(expected.sum(0), labels).miou, abs=1e-5
        )
    else:  # resized twice: to the packed size, where windows are averaged, then to the photograph's
        assert metrics.scores(found.sum(0), labels).miou == pytest.approx(
            metrics.scores(expected.sum(0), labels).miou, abs=0.02
        )


def test_masks_that_are_gone_or_damaged_are_one_line(opened: packing.Dataset) -> None:
    model = Striding()
    opened.originals[5].unlink()
    with pytest.raises(UserError, match=r"labelIds\.png cannot be read \(.+\); .*nothing is trained twice$"):
        original.confusions(model, opened.val, np.arange(8), opened.originals, CPU)
    opened.originals[5].write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"labelIds\.png cannot be read"):
        original.confusions(model, opened.val, np.arange(8), opened.originals, CPU)
    counted = original.confusions(model, opened.val, np.arange(5), opened.originals, CPU)
    assert len(counted) == 5


def test_only_the_protocol_that_asks_finds_the_masks(opened: packing.Dataset, drawn: Path, tmp_path: Path) -> None:
    from segbench.core import protocol

    assert [path.name.split("_")[2] for path in opened.originals] == [n.split("_")[-1] for n in opened.val.names]
    plain = datasets.ready(protocol.load(write_protocol(tmp_path / "plain")), str(drawn))
    assert plain.originals == ()
