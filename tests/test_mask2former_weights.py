"""Where Mask2Former's weights may come from, and what is said of those that cannot be used."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError

from segbench.architectures import mask2former
from segbench.architectures.mask2former import Mask2Former
from segbench.architectures.parts.published import Checkpoint
from segbench.architectures.parts.transformers_models import library
from segbench.architectures.parts.weights import LOCAL_WAYS
from segbench.core.errors import UserError
from segbench.engine import checkpoint
from segbench.runtime import options
from tests.test_mask2former import TINY, C, create


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mask2Former, Path]:
    """A model of 12 classes, and a folder with it: as save_pretrained writes it, and as state dicts."""
    folder = tmp_path_factory.mktemp("twelve")
    twelve = create(classes=12, seed=7)
    twelve.network.save_pretrained(folder)
    checkpoint.save(twelve, folder / "ours.safetensors")
    torch.save(twelve.network.state_dict(), folder / "bare.pth")
    old = torch.load(folder / "bare.pth")
    old["model.pixel_level_module.encoder.swin.encoder.layers.0.blocks.0.attention.relative_position_index"] = (
        torch.ones(1)
    )
    torch.save(old, folder / "old.pth")
    return twelve, folder


@pytest.mark.parametrize("source", [".", "ours.safetensors", "bare.pth", "old.pth", "model.safetensors"])
def test_weights_of_another_number_of_classes_load_all_but_the_head(
    saved: tuple[Mask2Former, Path], source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    twelve, folder = saved
    one, other = (create(str(folder / source), seed=3) for _ in range(2))
    assert capfd.readouterr() == ("", "")
    assert one.network.class_predictor.out_features == C + 1
    expected = twelve.state_dict()
    for name, tensor in one.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, other.state_dict()[name]), f"the seed does not decide {name}"
        if "class_predictor" not in name and "criterion" not in name:
            assert torch.equal(tensor, expected[name]), name
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(one.eval()(images).masks, twelve.eval()(images).masks)


def test_a_head_of_as_many_classes_is_kept(saved: tuple[Mask2Former, Path]) -> None:
    twelve, folder = saved
    again = create(str(folder), classes=12)
    assert torch.equal(again.network.class_predictor.weight, twelve.network.class_predictor.weight)


def broken_sources(folder: Path, saved: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    config = (saved / "config.json").read_text()
    for name in ("empty", "garbled", "headless", "cut", "other"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(config)
    (folder / "empty" / "config.json").unlink()
    (folder / "garbled" / "config.json").write_text("{not json")
    (folder / "cut" / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:5000])
    (folder / "other" / "config.json").write_text('{"model_type": "segformer"}')
    yield from ((folder / name, TINY) for name in ("empty", "garbled", "headless", "cut", "other"))
    torch.save({"weight": torch.ones(3)}, folder / "stranger.pth")
    yield folder / "stranger.pth", TINY
    yield saved, {"size": "small"}


def test_broken_and_foreign_weights_are_one_clear_line(saved: tuple[Mask2Former, Path], tmp_path: Path) -> None:
    for source, given in broken_sources(tmp_path, saved[1]):
        with pytest.raises(UserError) as error:
            create(str(source), **given)
        assert str(source) in str(error.value), source
        assert "\n" not in str(error.value), source


def named(name: str) -> Checkpoint:
    return Checkpoint(name, f"hub:{name}", licence="CC-BY-NC-4.0", commercial=False, megabytes=1)


def test_pretrained_without_the_hub_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setitem(mask2former.CHECKPOINTS, "small", named("segbench-tests/never-published"))
    started = time.perf_counter()
    with pytest.raises(UserError) as error:
        create("pretrained", size="small")
    assert time.perf_counter() - started < 10
    message = str(error.value)
    assert message.startswith("segbench-tests/never-published")
    assert message.endswith(LOCAL_WAYS)
    assert "\n" not in message
    said = "weights segbench-tests/never-published, licence CC-BY-NC-4.0: not for commercial use\n"
    assert capfd.readouterr() == (said, "")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_pretrained_comes_from_the_hub_where_it_answers(
    file: str, saved: tuple[Mask2Former, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a repository that only has the older kind of file."""
    twelve, folder = saved
    there = tmp_path / file
    shutil.copy(folder / ("model.safetensors" if file == "model.safetensors" else "bare.pth"), there)

    def download(repository: str, name: str, **_: Any) -> str:
        assert repository == "segbench-tests/hub"
        if name != there.name:
            raise EntryNotFoundError(name)
        return str(there)

    monkeypatch.setenv(options.LICENCE_VARIABLE, "1")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setitem(mask2former.CHECKPOINTS, "small", named("segbench-tests/hub"))
    monkeypatch.setitem(mask2former._SIZES, "small", mask2former._SIZES["tiny"])  # type: ignore[arg-type]
    model = create("pretrained", size="small")
    name = "model.transformer_module.queries_features.weight"
    assert torch.equal(model.network.state_dict()[name], twelve.network.state_dict()[name])


def test_a_light_network_is_the_first_layers_and_queries_of_the_whole(
    saved: tuple[Mask2Former, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file with the names that the hub's have, and from its folder's state dict with today's."""
    twelve, folder = saved
    network, backbone = mask2former._SIZES["tiny"]
    fewer = {**network, "encoder_layers": 1, "decoder_layers": 3, "num_queries": 7}
    monkeypatch.setitem(mask2former._SIZES, "light", (fewer, backbone))  # type: ignore[arg-type]
    whole = twelve.network.state_dict()
    for file in ("model.safetensors", "bare.pth"):
        light = create(str(folder / file), size="light").network.state_dict()
        for name, tensor in light.items():
            if "class_predictor" not in name and "criterion" not in name:
                wanted = whole[name][:7] if "queries_" in name else whole[name]
                assert torch.equal(tensor, wanted), name
        assert len(whole) - len(light) == 22 + 16, "not one decoder and one encoder layer less"


@pytest.mark.parametrize(("size", "millions"), [("swin-tiny", 47.4), ("light", 35.7)])
def test_the_lighter_networks_have_the_published_parts(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = library().Mask2FormerForUniversalSegmentation(mask2former.config(C, size))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, rel=0.002)


@pytest.mark.parametrize(
    ("weights", "size", "reason"), [("pretrained", "tiny", "no published"), ("random", "huge", "no size")]
)
def test_impossible_requests_are_refused(weights: str, size: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        create(weights, size=size)
