"""A protocol with crops from the search to use: trained on crops, scored by windows, at both sizes, used alike."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from segbench import export, predict, promote, search
from segbench.core import artefacts, paths
from segbench.core.crops import Passes
from segbench.core.records import ModelCard
from segbench.data import packing, streets
from segbench.engine import exporting, inference
from segbench.ledger import models
from segbench.report import __main__ as report
from segbench.serve.networks import Lane, Network
from tests.conftest import ARCHITECTURE, PROTOCOL
from tests.test_commands import call

TOML = (
    PROTOCOL.replace("size = [32, 64]", "size = [48, 96]")
    .replace("trials = 2\nepochs = 2", "trials = 1\nepochs = 1")
    .replace("[final]\nepochs = 2", '[train]\ncrop = [32, 64]\n[final]\nepochs = 1\nflip = true\nscore_at = "original"')
)

DOT = """
import torch.nn.functional as F
from torch import nn
from segbench.architectures.segmenter import Segmenter

class Dot(Segmenter):
    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 5, padding=2)

    def forward(self, images):
        return F.avg_pool2d(self.layer(images), 4)

    def losses(self, outputs, labels):
        return {"main": F.cross_entropy(F.interpolate(outputs.float(), labels.shape[1:]), labels)}

    def scores(self, outputs):
        return outputs.float()

def build(classes, weights):
    return Dot(classes)
"""  # its random weights already tell pixels apart


def dotted(folder: Path) -> Path:
    """A protocol of that network."""
    folder.mkdir()
    (folder / "protocol.toml").write_text(TOML)
    own = ARCHITECTURE.format(name="dot", optimizer='"sgd"', extra="", extra_baseline="")
    own = own.replace('[model]\nsize = "tiny"\n', "").replace("[1e-4, 1e-2]", "[1e-5, 1e-4]")
    (folder / "dot.toml").write_text(own.partition("[baseline]")[0])
    (folder / "dot.py").write_text(DOT)
    return folder


@pytest.mark.slow
def test_from_the_search_to_use(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streets.write(tmp_path / "streets", 24, 8, 64, 128, seed=0)
    folder = dotted(tmp_path / "small")
    sizes = set()
    forward = nn.Conv2d.forward

    def noted(self: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        sizes.add(tuple(images.shape[2:]))
        return forward(self, images)

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    where = ["dot", "--protocol", folder, "--data", tmp_path / "streets"]
    assert call(search, *where) == 0
    assert call(promote, *where) == 0
    assert sizes == {(32, 64)}  # in training, scoring and timing
    [model] = models.promoted("small")
    card = model.card
    assert (card.crop, card.passes) == ((32, 64), Passes((32, 64), (21, 43), flip=True))
    _scored_at_both_sizes(model)
    _used_as_scored(model, tmp_path)
    _exported_by_the_window(model, tmp_path, monkeypatch)
    assert call(report, "--protocol", folder) == 0
    html = (paths.reports() / "small.html").read_text()
    assert "trained on crops of 32×64 pixels" in html
    assert "scored by windows of 32×64 pixels, one every 21×43, also mirrored" in html
    assert "What does the packed size cost?" in html
    # A model promoted before the protocol asked gets its score without being trained again.
    (model.folder / artefacts.ORIGINAL).unlink()
    models.write_card(model.folder / artefacts.CARD, dataclasses.replace(card, miou_original=None))
    assert call(promote, *where) == 0
    assert models.read_card(model.folder / artefacts.CARD) == card
    _scored_at_both_sizes(model)


def _scored_at_both_sizes(model: models.Promoted) -> None:
    packed, names = models.confusions(model.folder / artefacts.CONFUSIONS, model.card.labels)
    original, same = models.confusions(model.folder / artefacts.ORIGINAL, model.card.labels)
    assert packed is not None
    assert original is not None
    assert names == same
    assert (packed.sum((1, 2)) == 48 * 96).all()
    assert (original.sum((1, 2)) == 64 * 128).all()
    assert model.card.miou_original is not None
    assert abs(model.card.miou_original - model.card.best.miou) < 0.1


def _used_as_scored(model: models.Promoted, tmp_path: Path) -> None:
    """The class maps of the command, of the Python API and of the server are those that were scored, bit by bit."""
    val = packing.open_split(paths.cache() / model.card.cache / "val")
    lane = Lane(0, "auto")
    network = Network("small", model.card, "", (lane.load(model),), 1, None)
    made = asyncio.run(lane(network, list(val.images[:2])))
    lane.close()
    for index, name in enumerate(val.names[:2]):
        with Image.open(model.folder / artefacts.MASKS / f"{name}.png") as file:
            scored = np.array(file)
        assert len(np.unique(scored)) > 1
        Image.fromarray(val.images[index]).save(tmp_path / "photograph.png")
        assert call(predict, tmp_path / "photograph.png", "--out", tmp_path / "out") == 0
        [path] = (tmp_path / "out").glob("*-mask.png")
        with Image.open(path) as file:
            assert (np.asarray(file) == scored).all()
        assert torch.equal(inference.class_map(made[index].scores, scored.shape), torch.from_numpy(scored))


def _exported_by_the_window(model: models.Promoted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def written(network: object, card: ModelCard, target: Path, images: NDArray[np.uint8]) -> exporting.Agreement:
        asked.extend([card.size, images.shape[1:3]])
        return exporting.Agreement(1.0, 0.0)

    monkeypatch.setattr(exporting, "to_onnx", written)
    assert call(export, model.card.study, "--to", tmp_path / "network.onnx") == 0
    assert asked == [(32, 64), (32, 64)]
