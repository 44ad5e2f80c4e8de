"""Every architecture as its library offers it: the library's model and loss, float32, channels first, a plain AdamW.

Where no library has the network (DeepLabV3+, EfficientViT's head, InternImage without a compiled operator, the tiny
sizes of torchvision's), the peer is the same modules, used as a script would.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers
from segbench.architectures.parts.transformers_models import library
from segbench.architectures.segmenter import Segmenter


class Plain(NamedTuple):
    """One architecture's plain use. Images: (B, 3, H, W) normalised; labels: (B, H, W) int64."""

    description: str
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    predict: Callable[[Tensor], Tensor]  # to (B, H, W) classes

    def step(self, images: Tensor, labels: Tensor) -> Callable[[], None]:
        """One training step at each call."""
        optimizer = torch.optim.AdamW(self.model.train().parameters(), 1e-4)

        def step() -> None:
            loss = self.loss(images, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()  # what a training log prints

        return step


def of(name: str, ours: Segmenter) -> Plain:
    """The plain use of the architecture `name`, of the same size as our untrained model."""
    if name in _MAKERS:
        return _MAKERS[name](ours.network)
    return _by_pixel(copy.deepcopy(ours.network).to(memory_format=torch.contiguous_format))


def _by_pixel(network: Any) -> Plain:
    """Networks that return our Outputs, from torchvision's and timm's modules."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        outputs = network(images)
        total = F.cross_entropy(_upsampled(outputs.main, images), labels)
        if outputs.aux is not None:
            total = total + 0.5 * F.cross_entropy(_upsampled(outputs.aux, images), labels)
        return total

    def predict(images: Tensor) -> Tensor:
        return _upsampled(network(images).main, images).argmax(1)

    return Plain("same modules, float32, channels first", network, loss, predict)


def _segformer(network: Any) -> Plain:
    model = library().SegformerForSemanticSegmentation(network.segformer.config)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = model(pixel_values=images, labels=labels).loss
        return found

    def predict(images: Tensor) -> Tensor:
        return _upsampled(model(pixel_values=images).logits, images).argmax(1)

    return Plain("transformers' forward, float32", model, loss, predict)


def _queries(network: Any) -> Plain:
    """Mask2Former and EoMT: the loss of transformers' forward, and its processor's way from queries to classes."""
    model = type(network)(copy.deepcopy(network.config))
    patch = getattr(network.config, "patch_size", 0)

    def forward(images: Tensor, **targets: Any) -> Any:
        if hasattr(model, "grid_size"):  # EoMT's, which else expects images of one size
            model.grid_size = tuple(length // patch for length in images.shape[-2:])
        return model(pixel_values=images, **targets)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        masks, classes = peers.mask2former_labels(labels)
        found: Tensor = forward(images, mask_labels=masks, class_labels=classes).loss
        return found

    def predict(images: Tensor) -> Tensor:
        outputs = forward(images)
        classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
        masks = outputs.masks_queries_logits.sigmoid()
        return _upsampled(torch.einsum("bqc,bqhw->bchw", classes, masks), images).argmax(1)

    return Plain("transformers' forward, float32", model, loss, predict)


_MAKERS: dict[str, Callable[[Any], Plain]] = {
    "segformer": _segformer,
    "mask2former": _queries,
    "eomt": _queries,
}


def _upsampled(logits: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
