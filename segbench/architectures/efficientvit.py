"""EfficientViT-Seg: linear attention at several scales, and a light head, in real time (Cai et al., arXiv 2205.14756).

`size = "b0"`, "b1" and "b2" are timm's backbones with the head of the published segmentation networks; "pretrained" is
the backbone, trained on ImageNet. `size = "tiny"` has half of b0's attention (0.5 M parameters).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures.parts.per_pixel import Outputs, PerPixel
from segbench.architectures.parts.published import Checkpoint, State, load
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter


class _Design(NamedTuple):
    backbone: str  # of timm
    widths: tuple[int, ...]  # of its last three stages
    head: int  # channels of the head
    blocks: int  # of the head
    options: Mapping[str, Any] = {}  # of the backbone


# efficientvit_seg_b{0,1,2} of mit-han-lab/efficientvit, for Cityscapes.
_SIZES = {
    "b0": _Design("efficientvit_b0", (32, 64, 128), 32, 1),
    "b1": _Design("efficientvit_b1", (64, 128, 256), 64, 3),
    "b2": _Design("efficientvit_b2", (96, 192, 384), 96, 3),
    "tiny": _Design("efficientvit_b0", (32, 64, 128), 32, 1, {"depths": (1, 2, 2, 1, 1)}),
}
CHECKPOINTS = {
    size: Checkpoint(
        f"timm/efficientvit_{size}.r224_in1k",
        f"hub:timm/efficientvit_{size}.r224_in1k",
        licence="Apache-2.0",
        commercial=True,
        megabytes=megabytes,
    )
    for size, megabytes in (("b0", 13.7), ("b1", 36.6), ("b2", 97.6))
}
_EXPAND = 4  # of the head's blocks and of its last convolution


class _Network(nn.Module):
    """The three maps in as many channels, summed at the finest's size; blocks; the classifier."""

    def __init__(self, backbone: Any, design: _Design, classes: int) -> None:
        super().__init__()
        self.backbone, width = backbone, design.head
        self.inputs = nn.ModuleList(_convolution(channels, width, 1) for channels in design.widths)
        self.blocks = nn.ModuleList(_inverted_bottleneck(width) for _ in range(design.blocks))
        self.out = nn.Sequential(
            *_convolution(width, _EXPAND * width, 1), nn.Hardswish(), nn.Conv2d(_EXPAND * width, classes, 1)
        )

    def forward(self, images: Tensor) -> Outputs:
        maps = self.backbone.forward_intermediates(images, indices=[1, 2, 3], intermediates_only=True)
        joined = self.inputs[0](maps[0])
        for convolution, coarse in zip(self.inputs[1:], maps[1:], strict=True):
            joined = joined + F.interpolate(convolution(coarse), joined.shape[-2:], mode="bicubic", align_corners=False)
        for block in self.blocks:
            joined = joined + block(joined)
        return Outputs(self.out(joined))


def build(classes: int, weights: Weights, size: str = "b1") -> Segmenter:
    """The logits are at an eighth of the image's height and width."""
    design = choose("efficientvit", size, _SIZES)
    ensure_importable()  # timm imports torchvision
    timm = importlib.import_module("timm")
    backbone = timm.create_model(design.backbone, pretrained=False, num_classes=0, **design.options)
    backbone.head = nn.Identity()
    network = _Network(backbone, design, classes)
    load(network, weights, CHECKPOINTS.get(size), ("out.2.",), partial(_adapt, network))
    # At 32×32 pixels the last map is one value per channel and image.
    return PerPixel(network, smallest_batch=2, channels_last=True)


def _adapt(network: _Network, state: State) -> State:
    """From timm's file of the classifier: its backbone; our head keeps its initial values."""
    if "stem.in_conv.conv.weight" not in state:
        return state
    backbone = {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("head.")}
    return {**{name: v for name, v in network.state_dict().items() if not name.startswith("backbone.")}, **backbone}


def _inverted_bottleneck(width: int) -> nn.Module:
    wide = _EXPAND * width
    return nn.Sequential(
        *_convolution(width, wide, 1),
        nn.Hardswish(),
        *_convolution(wide, wide, 3, groups=wide),
        nn.Hardswish(),
        *_convolution(wide, width, 1),
    )


def _convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
