"""DeepLabV3: a dilated ResNet, atrous spatial pyramid pooling, a per-pixel classifier (Chen et al., arXiv 1706.05587).

`size = "resnet50"` is torchvision's deeplabv3_resnet50, the note's model (the note calls it DeepLabV3+; it has no
low-level decoder, so it is V3; `deeplabv3plus` has one). `size = "tiny"` is the same design with one narrow bottleneck
a stage (0.7 M parameters), for small studies.
"""

from __future__ import annotations

from torch import Tensor, nn

from segbench.architectures.parts import dilated
from segbench.architectures.parts.per_pixel import Outputs, PerPixel
from segbench.architectures.parts.published import Checkpoint, load
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter

CHECKPOINTS = {
    "resnet50": Checkpoint(
        "torchvision DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1",
        "https://download.pytorch.org/models/deeplabv3_resnet50_coco-cd0a2569.pth",
        licence="BSD-3-Clause",
        commercial=True,
        megabytes=161,
    )
}
_HEADS = ("classifier.4.", "aux_classifier.4.")


class _Network(nn.Module):
    """torchvision's parts under torchvision's names; its own forward resizes to the image."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module, aux_classifier: nn.Module | None) -> None:
        super().__init__()
        self.backbone, self.classifier, self.aux_classifier = backbone, classifier, aux_classifier

    def forward(self, images: Tensor) -> Outputs:
        features = self.backbone(images)
        aux = self.aux_classifier(features["aux"]) if self.aux_classifier else None
        return Outputs(self.classifier(features["out"]), aux)


def build(
    classes: int, weights: Weights, size: str = "resnet50", output_stride: int = 8, aux_loss: bool = True
) -> Segmenter:
    """The logits are at the `output_stride`th of the image's height and width, 8 or 16, whose cost is a third.

    aux_loss adds a second classifier on the third stage during training, weighted 0.5. Both values of aux_loss start
    from the same weights: the branch is always built and loaded, then dropped if unwanted (torchvision's own builder
    refuses aux_loss=False with COCO weights).
    """
    dilated.require_stride(output_stride)
    network = choose("deeplab", size, {"resnet50": _resnet50, "tiny": _tiny})(classes, output_stride)
    load(network, weights, CHECKPOINTS.get(size), _HEADS)
    if not aux_loss:
        network.aux_classifier = None
    return PerPixel(network, smallest_batch=2, channels_last=True)


def _resnet50(classes: int, stride: int) -> _Network:
    backbone, aux = dilated.resnet50(stride), dilated.aux_head(1024, classes)  # in torchvision's order
    return _Network(backbone, _head(2048, 96 // stride, 256, classes), aux)


def _tiny(classes: int, stride: int) -> _Network:
    # At 64×128 the map of stride 8 is 8×16: torchvision's rates 12, 24, 36 would look past its edge.
    return _Network(dilated.tiny(stride), _head(256, 16 // stride, 64, classes), dilated.aux_head(192, classes))


def _head(inputs: int, rate: int, width: int, classes: int) -> nn.Module:
    return nn.Sequential(
        dilated.pyramid(inputs, (rate, 2 * rate, 3 * rate), width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, classes, 1),
    )
