"""One contract for every architecture in the folder."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segbench import architectures, testing
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.data import streets
from segbench.data.batches import normalise
from segbench.engine import checkpoint
from segbench.engine.inference import predict, ready, resize, scores
from segbench.runtime.compute import choose

TINY = {"size": "tiny"}


@pytest.fixture(params=architectures.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, seed: int = 0, weights: str = "random") -> Segmenter:
    return architectures.create(name, 8, weights, TINY, seed)[0]


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_contract(name: str, check: Callable[[testing.Subject], None]) -> None:
    check(testing.Subject(importlib.import_module(f"segbench.architectures.{name}").build, TINY))


def test_inference_at_rest_predicts_what_evaluation_does(name: str) -> None:
    """BatchNorm folded and, in bfloat16, weights rounded once: of a trained network, the same masks. Where inference
    goes a shorter way, bfloat16 rounds elsewhere: then it is as close to full precision as evaluation is."""
    model = build(name).train()
    drawn = [streets.draw(seed, seed, 64, 128) for seed in range(2)]
    images = torch.from_numpy(np.stack([image for image, _ in drawn]))
    labels = torch.tensor(DEFAULT.class_of_raw)[torch.from_numpy(np.stack([raw for _, raw in drawn])).int()]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        sum(model.losses(model(normalise(images, model.normalisation)), labels).values()).backward()
        optimizer.step()
    exact = torch.zeros(())
    for precision, share in (("fp32", 0.9999), ("bf16", 0.995)):
        compute = choose("cpu", precision)
        with torch.inference_mode():
            model.eval()
            before = resize(scores(model, normalise(images, model.normalisation), compute), (64, 128)).argmax(1)
        after = predict(ready(copy.deepcopy(model), compute), images, compute)
        exact = before if precision == "fp32" else exact
        as_close = (after == exact).float().mean() >= (before == exact).float().mean() - (1 - share)
        assert (before == after).float().mean() >= share or (precision == "bf16" and as_close)


def test_seed_decides_the_weights(name: str) -> None:
    state = torch.random.get_rng_state()
    origins = [architectures.create(name, 8, "random", TINY, seed)[1] for seed in (0, 0, 1)]
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's generator is left alone
    assert origins[0] == origins[1]
    assert origins[0].sha256 != origins[2].sha256


def test_checkpoint_round_trip(name: str, tmp_path: Path) -> None:
    model, other = build(name, 0), build(name, 1)
    checkpoint.save(model, tmp_path / "weights.safetensors")
    checkpoint.load(other, tmp_path / "weights.safetensors")
    for ours, theirs in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
    (tmp_path / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="damaged or belongs to another model"):
        checkpoint.load(other, tmp_path / "weights.safetensors")


def test_local_state_dict(name: str, tmp_path: Path) -> None:
    source = build(name, 1)
    for path in (tmp_path / "w.safetensors", tmp_path / "w.pth"):
        state = {k: v.contiguous() for k, v in source.state_dict().items()}
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
        loaded, origin = architectures.create(name, 8, str(path), TINY, seed=0)
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in loaded.state_dict().items())
        assert (origin.kind, origin.name) == ("file", path.name)


def test_unusable_weights(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights at"):
        build(name, weights=str(tmp_path / "missing.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(UserError, match="not a readable state dict"):
        build(name, weights=str(tmp_path / "text.pth"))
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not fit"):
        build(name, weights=str(tmp_path / "other.pth"))


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return open, (str(tmp_path / "sprung"), "w")  # type: ignore[return-value]

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="not a readable state dict"):
        build("deeplab", weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="no architecture 'unet'"):
        architectures.create("unet", 8, "random", {}, 0)
    with pytest.raises(UserError, match="deeplab has no option 'aux_los'; it has: size, output_stride, aux_loss"):
        architectures.create("deeplab", 8, "random", {"aux_los": True}, 0)


def test_deeplab_arms_start_from_the_same_weights() -> None:
    with_aux = architectures.create("deeplab", 8, "random", {**TINY, "aux_loss": True}, 0)[0].state_dict()
    without = architectures.create("deeplab", 8, "random", {**TINY, "aux_loss": False}, 0)[0].state_dict()
    assert len(without) < len(with_aux)
    assert all(torch.equal(value, with_aux[key]) for key, value in without.items())


def test_deeplab_resnet50_is_torchvisions() -> None:
    from segbench.architectures.parts.torchvision_ops import ensure_importable

    ensure_importable()
    from torchvision.models.segmentation import deeplabv3_resnet50

    reference = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=8, aux_loss=True).eval()
    model = architectures.create("deeplab", 8, "random", {"size": "resnet50"}, 0)[0].eval()
    reference.load_state_dict({k.removeprefix("network."): v for k, v in model.state_dict().items()})
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours = torch.nn.functional.interpolate(model.scores(model(images)), (64, 64), mode="bilinear")
        torch.testing.assert_close(ours, reference(images)["out"], rtol=1e-3, atol=1e-4)


def test_published_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(UserError, match=r"COCO_WITH_VOC_LABELS_V1 cannot be downloaded .* use --weights random"):
        architectures.create("deeplab", 8, "pretrained", {}, 0)


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network in tests")
