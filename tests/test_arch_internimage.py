"""InternImage: DCNv3 against its definition, and the published names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.architectures import internimage
from segbench.architectures.internimage import CHECKPOINTS
from segbench.architectures.parts.dcnv3 import Dcnv3
from segbench.architectures.parts.published import Checkpoint
from segbench.architectures.parts.weights import Weights
from tests.test_arch_weights import assert_loaded, filled, load  # noqa: F401  (the last is a fixture)

HEIGHT, WIDTH, CHANNELS, GROUPS = 4, 5, 4, 2


def at(map_: Tensor, x: float, y: float) -> Tensor:
    """map_: (H, W, c). Its value between pixels, zero outside."""
    value = torch.zeros(map_.shape[-1])
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < map_.shape[0] and 0 <= j < map_.shape[1]:
                value += (1 - abs(y - i)) * (1 - abs(x - j)) * map_[i, j]
    return value


@torch.no_grad()
def test_dcnv3_is_its_definition() -> None:
    """Equation 2 of the paper, place by place; the kernel's points in the published order, by x and then by y."""
    torch.manual_seed(0)
    layer, x = Dcnv3(CHANNELS, GROUPS), torch.randn(1, HEIGHT, WIDTH, CHANNELS)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    near = _near(layer, x)
    offsets = layer.offset(near).view(HEIGHT, WIDTH, GROUPS, 9, 2)
    weights = layer.mask(near).view(HEIGHT, WIDTH, GROUPS, 9).softmax(-1)
    value = layer.input_proj(x)[0].view(HEIGHT, WIDTH, GROUPS, -1)
    expected = torch.zeros(HEIGHT, WIDTH, GROUPS, CHANNELS // GROUPS)
    for i in range(HEIGHT):
        for j in range(WIDTH):
            for group in range(GROUPS):
                for point in range(9):
                    right, down = offsets[i, j, group, point].tolist()
                    seen = at(value[:, :, group], j + point // 3 - 1 + right, i + point % 3 - 1 + down)
                    expected[i, j, group] += weights[i, j, group, point] * seen
    expected = layer.output_proj(expected.view(1, HEIGHT, WIDTH, CHANNELS))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def _near(layer: Dcnv3, x: Tensor) -> Tensor:
    convolution, norm, activation = layer.dw_conv
    near: Tensor = activation(norm(convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))[0]
    return near


PUBLISHED = {  # of internimage_t_1k_224.pth, as OpenGVLab's modules name them
    "patch_embed.conv1.weight": (32, 3, 3, 3),
    "patch_embed.norm1.1.weight": (32,),
    "patch_embed.norm2.1.bias": (64,),
    "levels.0.blocks.0.gamma1": (64,),
    "levels.0.blocks.3.norm1.0.weight": (64,),
    "levels.1.blocks.0.dcn.dw_conv.0.weight": (128, 1, 3, 3),
    "levels.1.blocks.0.dcn.dw_conv.1.1.weight": (128,),
    "levels.1.blocks.3.dcn.offset.weight": (144, 128),
    "levels.2.blocks.17.dcn.mask.bias": (144,),
    "levels.2.blocks.0.dcn.input_proj.weight": (256, 256),
    "levels.2.blocks.0.dcn.output_proj.weight": (256, 256),
    "levels.3.blocks.0.mlp.fc1.weight": (2048, 512),
    "levels.3.blocks.3.mlp.fc2.weight": (512, 2048),
    "levels.3.norm.0.weight": (512,),
    "levels.2.downsample.conv.weight": (512, 256, 3, 3),
    "levels.0.downsample.norm.1.weight": (128,),
}


def test_the_backbone_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = internimage.build(8, Weights("random"))
    state = model.network.state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(29.3e6, rel=0.002)


def test_the_published_classifier_loads_but_for_its_head(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    checkpoint = Checkpoint("tiny", "https://tiny.pth", licence="MIT", commercial=True, megabytes=1)
    monkeypatch.setitem(CHECKPOINTS, "tiny", checkpoint)
    model, _ = architectures.create("internimage", 8, "random", {"size": "tiny"}, 1)
    head = ("project.", "fuse.", "out.")
    state = filled({k: v for k, v in model.network.state_dict().items() if not k.startswith(head)})
    extra = {"head.weight": torch.ones(1000, 128), "conv_head.0.weight": torch.ones(1)}
    _, own = load("internimage", "tiny", {**state, **extra})
    assert_loaded(own, state, head)
