"""EoMT: our loop against transformers' own, the annealing of its masks, and DINOv3's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench import architectures
from segbench.architectures import eomt
from segbench.architectures.eomt import Eomt
from segbench.architectures.parts.published import Checkpoint
from segbench.architectures.parts.transformers_models import library
from segbench.core.records import Hyperparameters
from segbench.data import packing
from segbench.data.batches import Batches
from segbench.engine import training
from segbench.runtime import compute
from tests.conftest import SIZE
from tests.test_arch_weights import as_published, load  # noqa: F401  (the last is a fixture)


def create(weights: str = "random") -> Eomt:
    model, _ = architectures.create("eomt", 8, weights, {"size": "tiny"}, 0)
    assert isinstance(model, Eomt)
    return model


@pytest.mark.parametrize("masked", [False, True])
def test_the_predictions_are_transformers(masked: bool) -> None:
    """Of an image in whole patches; all queries masked in training, none afterwards."""
    model, images = create(), torch.randn(2, 3, 64, 96)
    model.network.config.pos_embed_rescale = None  # else training draws it
    model.network.attn_mask_probs.fill_(float(masked))
    torch.nn.init.normal_(model.network.query.weight)  # so that the queries differ, and their masks
    model.train(masked)
    with torch.no_grad():
        ours = model(images)
        theirs = model.network(images)
    assert len(ours.classes) == 3  # before each of two blocks, and the final ones
    torch.testing.assert_close(ours.masks[-1], theirs.masks_queries_logits)
    torch.testing.assert_close(ours.classes[-1], theirs.class_queries_logits)
    if masked:
        assert not torch.equal(ours.masks[-1], model.eval()(images).masks[-1])


def test_masks_are_annealed_away_block_by_block() -> None:
    """Blocks 1 and 2 of 2: from 1/4 to 2/4 and from 2/4 to 3/4 of the training, to the power of 0.9."""
    model = create()
    for share, expected in ((0, (1, 1)), (0.25, (1, 1)), (0.375, (0.5**0.9, 1)), (0.5, (0, 1)), (0.75, (0, 0))):
        model.progress(share)
        assert model._share.tolist() == pytest.approx(list(expected))
        assert model._masked == tuple(value > 0 for value in expected)
    images = torch.randn(1, 3, 32, 64)
    model.network.config.pos_embed_rescale = None
    assert torch.equal(model.train()(images).masks, model.eval()(images).masks)  # nothing is masked at the end


def test_a_share_of_the_queries_is_masked() -> None:
    model = create()
    model.network.grid_size = (2, 4)
    model._share[0] = 0.5
    torch.manual_seed(0)
    allowed = model._mask(torch.full((8, 20, 8, 16), -1.0), 20 + 5 + 8, 0)
    assert allowed[:, :, 20:].all()
    assert allowed[..., :25].all()  # queries, class token and registers are seen by all
    free = allowed[:, 0, :20, 25:]
    assert torch.equal(free.any(-1), free.all(-1))
    assert 0.3 < free.float().mean() < 0.7


def test_training_tells_how_far_it_is(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each step, of all epochs; a resumed training goes on with the same shares."""
    data, cpu = packing.prepare(drawn, SIZE, tmp_path), compute.choose("cpu")
    train, val = Batches(data.train, np.arange(6), 2, cpu.device), Batches(data.val, np.arange(2), 2, cpu.device)
    shares: list[float] = []
    state = training.begin(create(), Hyperparameters(1e-4, 0.0, "adamw"), cpu)
    monkeypatch.setattr(Eomt, "progress", lambda self, share: shares.append(share))
    records = training.fit(state, train, val, epochs=2, seed=0)
    next(records)
    assert shares == pytest.approx([0, 1 / 6, 2 / 6])
    shares.clear()
    list(training.fit(state, train, val, epochs=2, seed=0))
    assert shares == pytest.approx([3 / 6, 4 / 6, 5 / 6])


def test_dinov3_loads_and_the_head_is_new(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    checkpoint = Checkpoint("dinov3", "hub:dinov3", licence="DINOv3 License", commercial=True, megabytes=1)
    monkeypatch.setitem(eomt.CHECKPOINTS, "tiny", checkpoint)
    names = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
    sizes = {name: eomt._SIZES["tiny"][name] for name in names}
    torch.manual_seed(1)
    vit = library().DINOv3ViTModel(library().DINOv3ViTConfig(**sizes, num_register_tokens=4)).eval()
    state = as_published(vit, tmp_path)
    assert "layer.0.attention.q_proj.weight" in state, "not the hub's names"
    model, own = load("eomt", "tiny", state)
    assert len(own) - sum(name.startswith(eomt._NEW) for name in own) == len(state) - 1  # but for masked patches' token
    images, network = torch.randn(1, 3, 32, 64), model.eval().network
    with torch.no_grad():
        tokens, positions = network.embeddings(images), network.rope_embeddings(images)
        for layer in network.layers:
            tokens = layer(tokens, position_embeddings=positions)
        torch.testing.assert_close(network.layernorm(tokens), vit(images).last_hidden_state, rtol=1e-3, atol=1e-3)
