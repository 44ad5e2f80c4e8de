"""Panoptic-DeepLab: every pixel of a thing points to the centre of its object (Cheng et al., arXiv 1911.10194).

Beside the decoder of `deeplabv3plus`, which says the classes, a second and narrower one with a pyramid of its own says
where objects have their centres, and how far each pixel is from its object's. In a semantic protocol the second idles,
and `segments = false` leaves it out: then this is `deeplabv3plus`. `size = "resnet50"` starts from its weights; "tiny"
has 1.1 M parameters. The paper's decoder has one more low-level map; its numbers are of longer trainings on 1025×2049.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures import deeplabv3plus
from segbench.architectures.deeplabv3plus import Decoder, convolution
from segbench.architectures.parts import centres, dilated, per_pixel
from segbench.architectures.parts.pixel_loss import PixelLoss
from segbench.architectures.parts.published import load
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter
from segbench.core.labels import LabelSet
from segbench.runtime import global_batch

CHECKPOINTS = {"resnet50": deeplabv3plus.CHECKPOINTS["resnet50"]}
_HEADS = ("classifier.out.", "aux_classifier.4.")
_CENTRES, _OFFSETS = 200.0, 0.01  # weights of the losses, section 4.1 of the paper


class Outputs(NamedTuple):
    main: Tensor  # (B, C, h, w) logits
    aux: Tensor | None  # likewise, of the auxiliary head
    centres: Tensor | None  # (B, 1, h, w), how near a centre is: 1 at it; None without the second decoder
    offsets: Tensor | None  # (B, 2, h, w), down and right to the centre of the pixel's object, in cells of this map


class _Network(nn.Module):
    def __init__(self, backbone: nn.Module, classifier: Decoder, objects: Decoder, aux_classifier: nn.Module) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, classifier
        self.aux_classifier: nn.Module | None = aux_classifier
        self.objects: nn.Module | None = objects

    def forward(self, images: Tensor) -> Outputs:
        low, middle, out = self.backbone(images).values()
        aux = self.aux_classifier(middle) if self.aux_classifier else None
        objects = self.objects(low, out) if self.objects else None
        where, offsets = (None, None) if objects is None else (objects[:, :1], objects[:, 1:])
        return Outputs(self.classifier(low, out), aux, where, offsets)


class _Heads(nn.Module):
    """Centres and offsets, each by a 5×5 and a 1×1 convolution; as one map of three channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.centres = nn.Sequential(convolution(width, width // 4, 5), nn.Conv2d(width // 4, 1, 1))
        self.offsets = nn.Sequential(convolution(width, width // 4, 5), nn.Conv2d(width // 4, 2, 1))

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.centres(features), self.offsets(features)], 1)


class PanopticDeepLab(Segmenter):
    smallest_batch = 2

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._loss = PixelLoss()
        self.network = network.to(memory_format=torch.channels_last)
        self.learns_segments = network.objects is not None

    def forward(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.network(images)
        return outputs

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        return per_pixel.terms(self._loss, outputs.main, outputs.aux, labels, self.is_sharded)

    def segment_losses(self, outputs: Outputs, labels: Tensor, segments: Tensor) -> dict[str, Tensor]:
        """Beside the classes' loss: the mean squared error of the centres, over pixels of a segment, times 200, and the
        mean absolute error of the offsets, over pixels of an object, times 0.01."""
        terms = self.losses(outputs, labels)
        heat, offsets = _resized(outputs, labels.shape[-2:])
        wanted = centres.targets(segments)
        known, inside = segments >= 0, wanted.inside
        terms["centres"] = _CENTRES * self._mean((heat - wanted.heat).square() * known, known)
        terms["offsets"] = _OFFSETS * self._mean((offsets - wanted.offsets).abs().sum(1) * inside, inside)
        return terms

    def _mean(self, values: Tensor, counted: Tensor) -> Tensor:
        """values: (B, H, W), 0 where `counted`, of the same shape, is false. Their mean over the whole batch."""
        return values.sum() / global_batch.spread(counted.sum(), len(values), values.device, self.is_sharded)

    def use(self, loss: PixelLoss) -> None:
        self._loss = loss

    def scores(self, outputs: Outputs) -> Tensor:
        return outputs.main.float()

    def segments(self, outputs: Outputs, predicted: Tensor, labels: LabelSet) -> Tensor:
        if not self.learns_segments:
            return super().segments(outputs, predicted, labels)
        return centres.segments(*_resized(outputs, predicted.shape[-2:]), predicted, labels)

    def backbone(self) -> Sequence[nn.Module]:
        return per_pixel.layers(self.network.backbone)

    def for_inference(self) -> Self:
        self.eval()
        per_pixel.make_lean(self.network)
        return self


def _resized(outputs: Outputs, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Centres, (B, H, W), and offsets in pixels, (B, 2, H, W), at the image's size."""
    if outputs.centres is None or outputs.offsets is None:
        raise TypeError("a network without its second decoder has no centres")
    both = torch.cat([outputs.centres, outputs.offsets], 1).float()
    cell = torch.tensor([1, size[0] / both.shape[2], size[1] / both.shape[3]], device=both.device)
    full = F.interpolate(both, size=tuple(size), mode="bilinear", align_corners=False) * cell[:, None, None]
    return full[:, 0], full[:, 1:]


def build(
    classes: int,
    weights: Weights,
    size: str = "resnet50",
    output_stride: int = 16,
    aux_loss: bool = True,
    segments: bool = True,
) -> Segmenter:
    """As `deeplabv3plus`; segments: whether it has the second decoder. The same weights start it either way."""
    dilated.require_stride(output_stride)
    network = choose("panoptic_deeplab", size, {"resnet50": _resnet50, "tiny": _tiny})(classes, output_stride)
    load(network, weights, CHECKPOINTS.get(size), _HEADS, partial(deeplabv3plus.adapt, network))
    if not aux_loss:
        network.aux_classifier = None
    if not segments:
        network.objects = None
    return PanopticDeepLab(network)


def _resnet50(classes: int, stride: int) -> _Network:
    backbone, rate = dilated.resnet50(stride), 96 // stride
    classifier, objects = Decoder(256, 48, 2048, rate, 256, classes), Decoder(256, 24, 2048, rate, 128, 3)
    objects.out = _Heads(128)
    return _Network(backbone, classifier, objects, dilated.aux_head(1024, classes))


def _tiny(classes: int, stride: int) -> _Network:
    backbone, rate = dilated.tiny(stride), 16 // stride
    classifier, objects = Decoder(64, 16, 256, rate, 64, classes), Decoder(64, 8, 256, rate, 32, 3)
    objects.out = _Heads(32)
    return _Network(backbone, classifier, objects, dilated.aux_head(192, classes))
