"""Normalisation layers: only those that folding, and a batch on several processes, know; timm's are taken apart."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from segbench import architectures
from segbench.architectures.parts.per_pixel import split_norms
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.segmenter import Segmenter

BUILDS = [*((name, "tiny") for name in architectures.names()), ("deeplabv3plus", "efficientnet-lite0")]


def build(name: str, size: str) -> Segmenter:
    return architectures.create(name, 8, "random", {"size": size}, 0)[0]


def scatter_statistics(model: nn.Module) -> None:
    """Statistics and scales as after training: with the initial ones a lost BatchNorm changes nothing."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var, module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)


@pytest.mark.parametrize(("name", "size"), BUILDS)
def test_every_batch_norm_is_torchs_own(name: str, size: str) -> None:
    """A subclass, such as timm's that also activates, would be passed over where statistics are shared."""
    norms = [module for module in build(name, size).modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    assert {type(module) for module in norms} <= {nn.BatchNorm2d}


@pytest.mark.parametrize(("name", "size"), BUILDS)
def test_folding_keeps_the_scores(name: str, size: str) -> None:
    model = build(name, size).eval()
    scatter_statistics(model)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = model.scores(model(images))
        after = model.for_inference().scores(model(images))
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


def test_timms_activating_norms_are_taken_apart() -> None:
    ensure_importable()
    timm = importlib.import_module("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    scatter_statistics(network)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(images)
        split_norms(network)
        assert not any("BatchNormAct" in type(module).__name__ for module in network.modules())
        torch.testing.assert_close(network(images), before)
