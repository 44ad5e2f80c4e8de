"""DeepLabV3: a dilated ResNet, atrous spatial pyramid pooling, a per-pixel classifier (Chen et al., arXiv 1706.05587).

`size = "resnet50"` is torchvision's deeplabv3_resnet50, the note's model (the note calls it DeepLabV3+; it has no
low-level decoder, so it is V3). `size = "tiny"` is the same design with one narrow bottleneck a stage, for small
studies.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.weights import LOCAL_WAYS, Weights, load_state_dict, read_state_dict
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError

PRETRAINED = "torchvision DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"
_HEADS = ("classifier.4.", "aux_classifier.4.")
_AUX_WEIGHT = 0.5  # torchvision's reference recipe (references/segmentation/train.py, criterion)


class Outputs(NamedTuple):
    main: Tensor  # (B, C, H/8, W/8) logits
    aux: Tensor | None  # likewise, from the stage before the last


class DeepLab(Segmenter):
    smallest_batch = 2  # the pyramid's global pooling leaves one value per channel and image for BatchNorm

    def __init__(self, network: Any) -> None:
        """network: torchvision's DeepLabV3, or another with its parts `backbone`, `classifier` and `aux_classifier`."""
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        # Its last branch pools the whole map.
        network.classifier[0].convs[-1].register_forward_pre_hook(_rows_of_channels)

    def forward(self, images: Tensor) -> Outputs:
        features = self.network.backbone(images)
        main = self.network.classifier(features["out"])
        aux = self.network.aux_classifier(features["aux"]) if self.network.aux_classifier else None
        return Outputs(main, aux)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """Pixel cross-entropy at the labels' size, and half of the auxiliary head's."""
        terms = {"main": _cross_entropy(outputs.main, labels)}
        if outputs.aux is not None:
            terms["aux"] = _AUX_WEIGHT * _cross_entropy(outputs.aux, labels)
        return terms

    def scores(self, outputs: Outputs) -> Tensor:
        return outputs.main.float()

    def for_inference(self) -> Self:
        """Drops the auxiliary head, and folds each BatchNorm into the convolution before it."""
        self.network.aux_classifier = None
        self.eval()
        for module in self.network.modules():
            _fold_batch_norms(module)
        return self


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


def _fold_batch_norms(module: nn.Module) -> None:
    """Folds every BatchNorm2d that follows a Conv2d among the module's children, as in all of DeepLab they do."""
    previous = ""
    for name, child in list(module.named_children()):
        before = getattr(module, previous) if previous else None
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            setattr(module, previous, fuse_conv_bn_eval(before, child))
            setattr(module, name, nn.Identity())
        previous = name


def build(classes: int, weights: Weights, size: str = "resnet50", aux_loss: bool = True) -> Segmenter:
    """aux_loss adds a second classifier on the third stage during training, weighted 0.5.

    Both values of aux_loss start from the same weights: the branch is always built and loaded, then dropped if unwanted
    (torchvision's own builder refuses aux_loss=False with COCO weights).
    """
    if size == "resnet50":
        network: Any = _resnet50(classes, weights)
    elif size == "tiny":
        if weights.kind == "pretrained":
            raise UserError(f"there are no published weights for deeplab at size 'tiny': {LOCAL_WAYS}")
        network = _Tiny(classes)
    else:
        raise UserError(f"deeplab has no size '{size}'; it has: resnet50, tiny. Mend [model] in deeplab.toml")
    if weights.kind == "folder":
        raise UserError(f"deeplab reads a state-dict file, not a folder ({weights.path}): {LOCAL_WAYS}")
    if weights.path:
        load_state_dict(network, read_state_dict(weights.path), _HEADS, str(weights.path))
    if not aux_loss:
        network.aux_classifier = None
    return DeepLab(network)


def _resnet50(classes: int, weights: Weights) -> Any:
    ensure_importable()
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

    network: Any = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=classes, aux_loss=True)
    if weights.kind == "pretrained":
        published = DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
        try:
            state = published.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except Exception as error:  # urllib's, ssl's and the file system's errors share no narrower class
            raise UserError(f"{PRETRAINED} cannot be downloaded ({error}): {LOCAL_WAYS}") from error
        load_state_dict(network, state, _HEADS, PRETRAINED)
    return network


class _Tiny(nn.Module):
    """The parts and names of torchvision's DeepLabV3, at an eighth of its width: 0.6 M parameters."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        ensure_importable()
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.resnet import Bottleneck
        from torchvision.models.segmentation.deeplabv3 import ASPP
        from torchvision.models.segmentation.fcn import FCNHead

        def stage(inputs: int, planes: int, stride: int = 1, dilation: int = 1) -> Any:
            outputs = planes * Bottleneck.expansion
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            return Bottleneck(inputs, planes, stride, shortcut, dilation=dilation)

        stages = OrderedDict(
            stem=nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)),
            layer1=stage(16, 16, stride=2),
            layer2=stage(64, 32, stride=2),
            layer3=stage(128, 48, dilation=2),
            layer4=stage(192, 64, dilation=4),
        )
        self.backbone = IntermediateLayerGetter(nn.Sequential(stages), {"layer4": "out", "layer3": "aux"})
        # At 64×128 the map is 8×16: torchvision's rates 12, 24, 36 would look past its edge.
        self.classifier = nn.Sequential(
            ASPP(256, (2, 4, 6), 64),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, classes, 1),
        )
        self.aux_classifier: nn.Module | None = FCNHead(192, classes)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, labels)
