"""`predict --panoptic`: files that the official evaluator reads, and one line for a model that knows no objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segbench import predict
from segbench.core import panoptic
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import SPAN, VOID
from segbench.data import segment_files
from segbench.engine import panoptic as engine
from segbench.engine.predictor import Predictor
from segbench.ledger import models
from segbench.stats import panoptic as quality
from tests import official_panoptic as official
from tests import serving
from tests.test_commands import call


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model with random weights, as a panoptic protocol promotes it."""
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    folder = serving.promote("deeplab")
    card = models.read_card(folder / "card.json")
    models.write_card(folder / "card.json", dataclasses.replace(card, task=panoptic.PANOPTIC))
    return folder


def test_the_official_evaluator_reads_what_predict_writes(model: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    scenes = {f"a_{index:06d}_000019": official.scene(generator, DEFAULT, (40, 80)) for index in range(2)}
    photographs = {name: generator.integers(0, 256, (40, 80, 3), np.uint8) for name in scenes}
    for name, pixels in photographs.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}_leftImg8bit.png")
    images = [tmp_path / f"{name}_leftImg8bit.png" for name in scenes]
    out = tmp_path / "out"
    assert call(predict, *images, "--out", out, "--device", "cpu", "--panoptic") == 0
    predictor = Predictor(models.read_card(model / "card.json"), model / "best.safetensors", "cpu")
    found = np.stack([predictor.objects(pixels) for pixels in photographs.values()])
    truths = {name: panoptic.truth(*scene, DEFAULT) for name, scene in scenes.items()}
    theirs = official.evaluate(
        official.write_truth(tmp_path / "truth", truths, DEFAULT), out / "demo-deeplab-panoptic.json"
    )
    true, segments = torch.from_numpy(np.stack([*truths.values()])), torch.from_numpy(found)
    counts = engine.count(true, segments, (segments // SPAN).clamp(min=0), DEFAULT)
    ours = quality.quality(counts, DEFAULT)
    assert ours.pq == pytest.approx(theirs["All"]["pq"], abs=1e-9)
    assert counts.segments[..., 1:].sum() > 10
    for name, segments_ in zip(scenes, found, strict=True):
        written = np.asarray(Image.open(out / f"{name}_leftImg8bit-demo-deeplab-instanceIds.png"))
        assert written.dtype == np.uint16
        assert ((written >= 1000) == np.isin(segments_ // SPAN, panoptic.things(DEFAULT))).all()
        assert (segment_files.read_coco(out / "demo-deeplab-panoptic" / f"{name}_panoptic.png") == segments_).all()
        assert (out / f"{name}_leftImg8bit-demo-deeplab-objects.png").exists()


def test_a_semantic_model_is_refused_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serving.promote("lraspp")
    photograph = tmp_path / "street.png"
    photograph.write_bytes(serving.photograph())
    arguments = [photograph, "--out", tmp_path / "out", "--device", "cpu", "--panoptic"]
    assert call(predict, *arguments, "--model", "demo-lraspp") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("segbench: error: demo-lraspp: trained by a semantic protocol")
    assert not (tmp_path / "out").exists()
    assert call(predict, *arguments) == 0, "of all models, those that can"
    assert not list((tmp_path / "out").glob("*lraspp*"))


def test_large_photographs_have_segments_at_their_size(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(models.read_card(model / "card.json"), model / "best.safetensors", "cpu")
    photograph = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    whole = predictor.objects(photograph)
    monkeypatch.setattr("segbench.engine.inference._LARGEST", 30 * 50)
    small = predictor.objects(photograph)
    assert small.shape == whole.shape == (60, 100)
    assert (small.reshape(30, 2, 50, 2) == small[::2, ::2].reshape(30, 1, 50, 1)).all()
    assert (small // SPAN == whole // SPAN).mean() > 0.7


def test_an_object_has_its_shade() -> None:
    segments = np.full((4, 8), SPAN)
    segments[1:3, 1:3], segments[1:3, 3:5], segments[3, 7] = 7 * SPAN + 1, 7 * SPAN + 2, VOID
    picture = np.asarray(segment_files.coloured(segments, DEFAULT))
    assert picture[0, 0].tolist() == [128, 64, 128]
    assert picture[3, 7].tolist() == [0, 0, 0]
    assert picture[1, 1].tolist() == [0, 0, 142]
    assert picture[1, 2].tolist() == [255, 255, 255], "a line between the two"
    assert picture[1, 4].tolist() not in ([0, 0, 142], [255, 255, 255])
