"""The benchmarks' own parts: peers that train and predict, and pairs that run in turn. No timing is tested."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import architectures as command
from benchmarks import ours, paired, peers, plain, recipes
from segbench import architectures
from segbench.core import paths
from segbench.core.protocol import architecture_names
from segbench.core.recipe import OFF
from segbench.engine import inference
from segbench.runtime.compute import choose

SIZE, BATCH = (32, 64), 2


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_has_a_plain_peer_that_trains_and_predicts(name: str) -> None:
    model, _ = architectures.create(name, peers.CLASSES, "random", {"size": "tiny"}, 0)
    images, labels = ours.inputs(BATCH, SIZE, model.normalisation)
    peer = plain.of(name, model)
    assert len(list(peer.model.parameters())) >= 0.95 * len(list(model.parameters()))
    before = copy.deepcopy(peer.model.state_dict())
    peer.step(images.contiguous(), labels)()
    after = peer.model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    peer.model.eval()
    with torch.inference_mode():
        assert peer.predict(images.contiguous()).shape == (BATCH, *SIZE)


def test_the_plain_peer_predicts_what_ours_does() -> None:
    """With the same weights, so that the comparison is of speed alone."""
    compute = choose("cpu", "fp32")
    drawn = ours.photographs(BATCH, SIZE)
    for name in ("deeplab", "segformer", "mask2former", "eomt"):
        model, _ = architectures.create(name, peers.CLASSES, "random", {"size": "tiny"}, 0)
        peer = plain.of(name, model)
        missing = peer.model.load_state_dict(model.network.state_dict(), strict=False).missing_keys
        assert not missing, missing
        peer.model.eval()
        with torch.inference_mode():
            theirs = peer.predict(ours.inputs(BATCH, SIZE, model.normalisation)[0].contiguous())
        same = inference.predict(model.eval(), drawn, compute) == theirs
        assert same.float().mean() > 0.99, name


def test_pairs_run_in_turn_and_give_medians() -> None:
    called: list[str] = []
    case = paired.Case("row", "peer", 4, "images/s", 0, lambda: called.append("ours"), lambda: called.append("theirs"))
    row = paired.measure(case, 3, choose("cpu", "fp32"))
    assert called == ["ours", "theirs"] * 4  # the first for memory
    assert row.pairs == 3
    assert row.least <= row.ratio <= row.most


@pytest.mark.parametrize("options", [[], pytest.param(["--layouts"], marks=pytest.mark.slow)])
def test_the_command_writes_a_line_for_each_architecture(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path))
    monkeypatch.setitem(command.SIZES, "tiny", command.Size({"size": "tiny"}, SIZE, BATCH))
    monkeypatch.setitem(command._MATRIX, "cpu", 64)
    assert command.main(["--only", "lraspp", "--pairs", "1", *options]) == 0
    (found,) = json.loads((tmp_path / f"{'layouts' if options else 'architectures'}-tiny.json").read_text())[
        "architectures"
    ]
    assert found["architecture"] == "lraspp"
    assert found["gmac"] > 0
    assert [row["name"] for row in found["rows"]] == ["lraspp, training", "lraspp, inference"]
    assert "lraspp" in capsys.readouterr().out


@pytest.mark.parametrize(("best", "tried"), [(3e-3, 3), (1e-2, 4), (1e-1, 5), (1e-4, 5)])
def test_a_rate_at_the_end_of_those_tried_has_its_neighbour_tried(best: float, tried: int) -> None:
    asked = set()

    def score(lr: float) -> float:
        asked.add(lr)
        return -abs(math.log(lr / best))

    assert recipes.best_rate(score) == best
    assert len(asked) == tried


def test_a_recipe_is_measured_with_one_rate_for_the_whole_network() -> None:
    folder = paths.protocol_folder(recipes.STUDY)
    for name in architecture_names(folder):
        recipe = recipes.recipe_of(folder, name)
        assert recipe != OFF
        assert not recipe.parts_backbone
