"""Models for programs that know nothing of segbench, opened as those programs open them."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from segbench import architectures, export
from segbench.architectures.parts import torchvision_ops
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.engine import exporting, inference
from segbench.runtime import compute
from tests import serving
from tests.test_commands import call

torchvision_ops.ensure_importable()
transformers = importlib.import_module("transformers")

SIZE = (32, 64)


def network(name: str) -> Segmenter:
    """A tiny one whose classes differ from pixel to pixel, as those of a trained one do."""
    model, _ = architectures.create(name, len(DEFAULT.names), "random", {"size": "tiny"}, 0)
    generator = torch.Generator().manual_seed(1)
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            part.weight.data.normal_(0, 1.5 / math.sqrt(part.weight[0].numel()), generator=generator)
    return model


def card(name: str, model: Segmenter) -> Any:
    about = {"study": "a-study", "trial": 3, "seed": 0, "drawn": True, "categories": DEFAULT.names, "size": SIZE}
    weights = SimpleNamespace(name="seed 0", licence="")
    mean, std = model.normalisation.mean, model.normalisation.std
    return SimpleNamespace(architecture=name, mean=mean, std=std, weights=weights, **about)


def ours(name: str, images: np.ndarray) -> np.ndarray:
    cpu = compute.choose("cpu", "fp32")
    model = inference.ready(network(name), cpu)
    return inference.predict(model, torch.from_numpy(images), cpu).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.names())
def test_onnx_gives_our_classes(name: str, tmp_path: Path) -> None:
    path, images = tmp_path / "model.onnx", export._scenes(*SIZE)
    model = network(name)
    agreement = exporting.to_onnx(model, card(name, model), path, images)
    assert agreement.pixels >= exporting.LEAST_AGREEMENT
    assert agreement.score_difference < 0.01
    session = onnxruntime.InferenceSession(path)
    (photographs,) = session.get_inputs()
    assert (photographs.name, photographs.type, photographs.shape[1:]) == ("images", "tensor(uint8)", [*SIZE, 3])
    classes, scores = session.run(["classes", "scores"], {"images": images[1:3]})
    assert scores.shape == (2, len(DEFAULT.names), *SIZE)
    assert (classes == ours(name, images[1:3])).mean() >= exporting.LEAST_AGREEMENT
    assert len(np.unique(classes)) > 1
    about = session.get_modelmeta().custom_metadata_map
    assert (about["study"], about["trial"], about["drawn streets"]) == ("a-study", "3", "true")


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_transformers_loads_the_folder_and_gives_our_classes(name: str, tmp_path: Path) -> None:
    folder, images = tmp_path / "model", export._scenes(*SIZE)
    model = network(name)
    exporting.to_transformers(model, card(name, model), folder, images)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    kind = "Mask2FormerForUniversalSegmentation" if name == "mask2former" else "AutoModelForSemanticSegmentation"
    loaded = getattr(transformers, kind).from_pretrained(folder).eval()
    assert tuple(loaded.config.id2label.values()) == DEFAULT.names
    with torch.inference_mode():
        outputs = loaded(**processor(images=list(images), return_tensors="pt"))
    maps = np.stack(processor.post_process_semantic_segmentation(outputs, target_sizes=[SIZE] * len(images)))
    least = exporting.LEAST_AGREEMENT_OF_QUERIES if name == "mask2former" else exporting.LEAST_AGREEMENT
    assert (maps == ours(name, images)).mean() >= least
    assert len(np.unique(maps)) > 1


def test_what_disagrees_is_not_written(tmp_path: Path) -> None:
    model = network("segformer")
    wrong = card("segformer", model)
    wrong.mean = (0.9, 0.1, 0.9)
    with pytest.raises(UserError, match=r"agrees with PyTorch on only .*Nothing was written"):
        exporting.to_transformers(model, wrong, tmp_path / "model", export._scenes(*SIZE))
    assert not list(tmp_path.iterdir())


def test_what_transformers_cannot_load_is_refused(tmp_path: Path) -> None:
    model = network("deeplab")
    with pytest.raises(UserError, match=r"transformers does not have deeplab; export it as ONNX: --to FILE.onnx"):
        exporting.to_transformers(model, card("deeplab", model), tmp_path / "model", export._scenes(*SIZE))


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    assert call(export, "demo-deeplab", "--to", tmp_path / "model.onnx") == 2
    assert "no promoted model" in capsys.readouterr().err
    serving.promote("deeplab")
    assert call(export, "demo-deeplab", "--to", tmp_path / "model.onnx") == 0
    assert "agrees with PyTorch on 100.000% of the pixels" in capsys.readouterr().out
    assert onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()[0].type == "tensor(uint8)"
    for target, said in ((tmp_path / "model.onnx", "already exists"), (tmp_path / "no" / "a.onnx", "not a directory")):
        assert call(export, "demo-deeplab", "--to", target) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
