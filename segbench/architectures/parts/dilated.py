"""What DeepLabV3 and DeepLabV3+ are made of: dilated ResNets and the pyramid, from torchvision's parts and names."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.core.errors import UserError

STRIDES = (8, 16)  # of the image's sides to the last map's
_LAYERS = {"layer1": "low", "layer3": "aux", "layer4": "out"}


def resnet50(stride: int) -> nn.Module:
    """Gives maps of 256 channels ("low", at a quarter of the image's sides), 1024 ("aux") and 2048 ("out")."""
    ensure_importable()
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import resnet50

    network = resnet50(weights=None, replace_stride_with_dilation=[False, stride == 8, True])
    getter: nn.Module = IntermediateLayerGetter(network, _LAYERS)
    return getter


def tiny(stride: int) -> nn.Module:
    """The same with one narrow bottleneck a stage: 64, 192 and 256 channels."""
    ensure_importable()
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import Bottleneck

    def stage(inputs: int, planes: int, stride: int = 1, dilation: int = 1) -> Any:
        outputs = planes * Bottleneck.expansion
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        return Bottleneck(inputs, planes, stride, shortcut, dilation=dilation)

    stages = OrderedDict(
        stem=nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)),
        layer1=stage(16, 16, stride=2),
        layer2=stage(64, 32, stride=2),
        layer3=stage(128, 48, dilation=2) if stride == 8 else stage(128, 48, stride=2),
        layer4=stage(192, 64, dilation=32 // stride),
    )
    getter: nn.Module = IntermediateLayerGetter(nn.Sequential(stages), _LAYERS)
    return getter


def pyramid(inputs: int, rates: tuple[int, ...], width: int) -> nn.Module:
    """Atrous spatial pyramid pooling: 1×1, three dilated 3×3 and the pooled map, together `width` channels. BatchNorm
    sees one value per channel and image of the pooled map, so that a batch needs two images."""
    ensure_importable()
    from torchvision.models.segmentation.deeplabv3 import ASPP

    made: nn.Module = ASPP(inputs, rates, width)
    made.convs[-1].register_forward_pre_hook(_rows_of_channels)  # type: ignore[index, union-attr]  # the pooled map
    return made


def aux_head(inputs: int, classes: int) -> nn.Module:
    """The classifier of the stage before the last."""
    ensure_importable()
    from torchvision.models.segmentation.fcn import FCNHead

    head: nn.Module = FCNHead(inputs, classes)
    return head


def require_stride(stride: int) -> None:
    """Raises UserError where there is no such output stride."""
    if stride not in STRIDES:
        raise UserError(f"output_stride must be {' or '.join(map(str, STRIDES))}, not {stride}. Fix [model]")


def _rows_of_channels(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Keeps the gradient of a pooled map in channels_last memory: pooling's own comes channel by channel, and as the
    first of five branches to arrive it turned the layout of all gradients before it (a twelfth of a training step).
    """
    features = inputs[0].view_as(inputs[0])
    if features.requires_grad:
        features.register_hook(_channels_last)  # type: ignore[no-untyped-call]
    return (features,)


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
