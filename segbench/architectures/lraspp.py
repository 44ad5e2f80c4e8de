"""LR-ASPP: MobileNetV3 with a squeeze-and-scale head on two maps, made for phones (Howard et al., arXiv 1905.02244).

`size = "large"` is torchvision's lraspp_mobilenet_v3_large. `size = "tiny"` is the same design with five of its blocks
(0.2 M parameters), for small studies.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from segbench.architectures.parts.per_pixel import Outputs, PerPixel
from segbench.architectures.parts.published import Checkpoint, load
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter

CHECKPOINTS = {
    "large": Checkpoint(
        "torchvision LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1",
        "https://download.pytorch.org/models/lraspp_mobilenet_v3_large-d234d4ea.pth",
        licence="BSD-3-Clause",
        commercial=True,
        megabytes=12.5,
    )
}
_HEADS = ("classifier.low_classifier.", "classifier.high_classifier.")


class _Network(nn.Module):
    """torchvision's backbone and head under torchvision's names; its own forward resizes to the image."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.backbone, self.classifier = parts.backbone, parts.classifier

    def forward(self, images: Tensor) -> Outputs:
        return Outputs(self.classifier(self.backbone(images)))


def build(classes: int, weights: Weights, size: str = "large") -> Segmenter:
    """The logits are at an eighth of the image's height and width."""
    network = _Network(choose("lraspp", size, {"large": _large, "tiny": _tiny})(classes))
    load(network, weights, CHECKPOINTS.get(size), _HEADS)
    return PerPixel(network, channels_last=True)


def _large(classes: int) -> Any:
    ensure_importable()
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)


def _tiny(classes: int) -> Any:
    ensure_importable()
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
    from torchvision.models.segmentation import lraspp

    blocks = [  # channels in, kernel, wide, channels out, squeeze-and-excite, activation, stride, dilation
        (16, 3, 16, 16, False, "RE", 1, 1),
        (16, 3, 64, 24, False, "RE", 2, 1),
        (24, 5, 72, 40, True, "RE", 2, 1),
        (40, 3, 120, 48, False, "HS", 2, 1),
        (48, 5, 192, 64, True, "HS", 2, 2),  # of stride and dilation above 1 torchvision takes the dilation
    ]
    # torchvision's momentum of 0.01 needs hundreds of steps to leave the initial statistics; small studies have dozens.
    norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.1)
    made = [InvertedResidualConfig(*block, width_mult=1) for block in blocks]
    network = MobileNetV3(made, last_channel=64, norm_layer=norm)
    return lraspp._lraspp_mobilenetv3(network, classes)
