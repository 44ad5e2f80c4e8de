"""Published weights, without a network: state dicts with the published names and shapes, made by the libraries' own
models, load into each architecture; and what is said where they cannot be had."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segbench import architectures
from segbench.architectures.parts import published
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.transformers_models import library
from segbench.architectures.parts.weights import read_state_dict
from segbench.architectures.segmenter import Segmenter
from segbench.core import files
from segbench.core.errors import UserError

Load = Callable[..., tuple[Segmenter, dict[str, Tensor]]]


def filled(shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A tensor of its own value for every name, which fits where the published one does."""
    return {
        name: torch.full(meta.shape, index + 1, dtype=meta.dtype) for index, (name, meta) in enumerate(shapes.items())
    }


def on_meta(make: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, Tensor]:
    """The state dict of a model that the library makes without its values."""
    with torch.device("meta"):
        model: nn.Module = make(*arguments, **options)
    return dict(model.state_dict())


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Builds an architecture from "pretrained" weights, where the published file holds the given tensors."""

    def build(name: str, size: str, state: dict[str, Tensor], **options: Any) -> tuple[Segmenter, dict[str, Tensor]]:
        path = tmp_path / "published.safetensors"
        save_file(state, path)
        monkeypatch.setattr(published, "fetch", lambda checkpoint: path)
        model, origin = architectures.create(name, 8, "pretrained", {"size": size, **options}, 0)
        checkpoint = architectures.checkpoints(name)[size]
        assert (origin.kind, origin.name, origin.licence) == ("pretrained", checkpoint.name, checkpoint.terms)
        return model, {key.removeprefix("network."): value for key, value in model.state_dict().items()}

    return build


def assert_loaded(own: Mapping[str, Tensor], expected: Mapping[str, Tensor], new: tuple[str, ...]) -> None:
    """Every tensor is the expected one, but for those whose names begin with one of `new`."""
    kept = {name for name in own if not name.startswith(new)}
    assert kept == {name for name in expected if not name.startswith(new)}
    assert kept
    for name in kept:
        assert torch.equal(own[name], expected[name]), name


def test_lraspp_loads_torchvisions(load: Load) -> None:
    ensure_importable()
    from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights, lraspp_mobilenet_v3_large

    state = filled(on_meta(lraspp_mobilenet_v3_large, num_classes=21, weights_backbone=None))
    _, own = load("lraspp", "large", state)
    assert_loaded(own, state, ("classifier.low_classifier.", "classifier.high_classifier."))
    asked = architectures.checkpoints("lraspp")["large"]
    assert asked.source == LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1.url


def test_deeplab_loads_torchvisions(load: Load) -> None:
    ensure_importable()
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

    state = filled(on_meta(deeplabv3_resnet50, num_classes=21, weights_backbone=None, aux_loss=True))
    _, own = load("deeplab", "resnet50", state)
    assert_loaded(own, state, ("classifier.4.", "aux_classifier.4."))
    asked = architectures.checkpoints("deeplab")["resnet50"]
    assert asked.source == DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.url


def test_deeplabv3plus_shares_all_but_the_decoder_with_deeplabs_weights(load: Load) -> None:
    ensure_importable()
    from torchvision.models.segmentation import deeplabv3_resnet50

    state = filled(on_meta(deeplabv3_resnet50, num_classes=21, weights_backbone=None, aux_loss=True))
    _, own = load("deeplabv3plus", "resnet50", state)
    shared = {name.replace("classifier.aspp.", "classifier.0.", 1): tensor for name, tensor in own.items()}
    new = ("classifier.low", "classifier.fuse", "classifier.out", "aux_classifier.4", "classifier.1", "classifier.2")
    assert_loaded(shared, {k: v for k, v in state.items() if not k.startswith("classifier.4")}, new)
    assert (len(shared), sum(not name.startswith(new) for name in shared)) == (382, 360)


LITE0 = {  # some of the package's names, and ours
    "_conv_stem.weight": "backbone.conv_stem.weight",
    "_bn0.running_var": "backbone.bn1.0.running_var",
    "_blocks.0._depthwise_conv.weight": "backbone.blocks.0.0.conv_dw.weight",
    "_blocks.5._bn1.weight": "backbone.blocks.3.0.bn2.0.weight",
    "_blocks.5._project_conv.weight": "backbone.blocks.3.0.conv_pwl.weight",
    "_blocks.15._bn2.bias": "backbone.blocks.6.0.bn3.0.bias",
}


def test_deeplabv3plus_loads_the_packages_efficientnet_without_a_network() -> None:
    checkpoint = architectures.checkpoints("deeplabv3plus")["efficientnet-lite0"]
    path = published.cached(checkpoint)
    if path is None:
        pytest.skip("the extra 'pretrained' is not installed")
    model, origin = architectures.create("deeplabv3plus", 8, "pretrained", {"size": "efficientnet-lite0"}, 0)
    assert files.sha256(path).startswith("57934424")  # the file's own name says so
    theirs, own = torch.load(path, weights_only=True), model.state_dict()
    for name, ours in LITE0.items():
        assert torch.equal(own[f"network.{ours}"], theirs[name]), name
    assert origin.licence == "Apache-2.0"
    values = model.normalisation
    assert [(0 / 255 - values.mean[0]) / values.std[0], (255 / 255 - values.mean[0]) / values.std[0]] == pytest.approx(
        [-127 / 128, 1]
    )


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_in_package", lambda name: None)
    with pytest.raises(UserError, match=r"which is not installed: pip install '\.\[pretrained\]'"):
        architectures.create("deeplabv3plus", 8, "pretrained", {"size": "efficientnet-lite0"}, 0)


@pytest.mark.parametrize("size", ["b0", "b1"])
def test_efficientvit_loads_timms_classifier_but_for_its_head(size: str, load: Load) -> None:
    ensure_importable()
    state = filled(on_meta(importlib.import_module("timm").create_model, f"efficientvit_{size}"))
    assert "stages.2.blocks.1.context_module.main.qkv.conv.weight" in state
    _, own = load("efficientvit", size, state)
    expected = {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("head.")}
    assert_loaded(own, expected, ("inputs.", "blocks.", "out."))


def as_published(network: Any, folder: Path) -> dict[str, Tensor]:
    """A transformers network's tensors under the names that files on the hub have: save_pretrained writes those."""
    network.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("whole", [False, True], ids=["ImageNet encoder", "whole network"])
def test_segformer_loads_the_hubs_names(whole: bool, load: Load, tmp_path: Path) -> None:
    kind = "SegformerForSemanticSegmentation" if whole else "SegformerForImageClassification"
    torch.manual_seed(1)
    theirs = getattr(library(), kind)(library().SegformerConfig(num_labels=19))
    state = as_published(theirs, tmp_path)
    assert state["segformer.encoder.block.0.0.attention.self.query.weight"].shape == (32, 32)
    assert state["segformer.encoder.patch_embeddings.3.proj.weight"].shape == (256, 160, 3, 3)
    assert ("decode_head.linear_c.0.proj.weight" in state) == whole
    _, own = load("segformer", "b0", state)
    assert_loaded(own, theirs.state_dict(), ("decode_head.classifier.",) if whole else ("decode_head.", "classifier."))


def test_a_head_without_its_encoder_is_refused(load: Load) -> None:
    with pytest.raises(UserError, match="nvidia/mit-b0 does not fit segformer of size 'b0'"):
        load("segformer", "b0", {"classifier.weight": torch.ones(3)})


# --- what is said ----------------------------------------------------------------------------------------------------


def tables() -> Iterator[tuple[str, str, published.Checkpoint]]:
    for name in architectures.names():
        for size, checkpoint in architectures.checkpoints(name).items():
            yield name, size, checkpoint


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, size, _ in tables()])
def test_every_checkpoint_states_its_licence(name: str, size: str) -> None:
    checkpoint = architectures.checkpoints(name)[size]
    assert size != "tiny"  # nobody publishes those
    assert checkpoint.source.startswith(("https://", "hub:", "package:"))
    assert checkpoint.licence
    assert ("not for commercial use" in checkpoint.terms) == (not checkpoint.commercial)
    assert 0 < checkpoint.megabytes < 2000


def test_the_licence_is_printed_before_loading(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="does not fit"):
        load("lraspp", "large", {"weight": torch.ones(1)})
    assert "COCO_WITH_VOC_LABELS_V1, licence BSD-3-Clause" in capsys.readouterr().out


@pytest.mark.parametrize("name", architectures.names())
def test_no_published_weights_at_the_tiny_size(name: str) -> None:
    with pytest.raises(UserError, match="no published weights of this architecture at this size: use --weights"):
        architectures.create(name, 8, "pretrained", {"size": "tiny"}, 0)


@pytest.mark.parametrize("name", architectures.names())
def test_an_unknown_size_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} has no size 'huge'; it has: .*tiny") as error:
        architectures.create(name, 8, "random", {"size": "huge"}, 0)
    assert "\n" not in str(error.value)


def test_a_file_in_the_cache_is_used_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("asked the network"))
    checkpoint = architectures.checkpoints("lraspp")["large"]
    assert published.cached(checkpoint) is None
    path = tmp_path / "checkpoints" / Path(checkpoint.source).name
    path.parent.mkdir()
    torch.save({"weight": torch.ones(2)}, path)
    assert published.cached(checkpoint) == path
    assert torch.equal(published.state_dict(checkpoint)["weight"], torch.ones(2))


def test_weights_that_cannot_be_had_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no network\nin tests")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(UserError, match=r"COCO_WITH_VOC_LABELS_V1 cannot be downloaded \(no network\): use --weights"):
        architectures.create("lraspp", 8, "pretrained", {}, 0)


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_a_state_dict_beside_what_else_a_training_keeps_is_found(wrapper: str, tmp_path: Path) -> None:
    torch.save({wrapper: {"weight": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pth")
    assert torch.equal(read_state_dict(tmp_path / "w.pth")["weight"], torch.ones(2))
