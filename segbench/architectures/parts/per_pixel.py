"""A network that gives every pixel logits of the classes, with the loss and the inference that all such share."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segbench.architectures.segmenter import Segmenter
from segbench.data.batches import IMAGENET, Normalisation

_AUX_WEIGHT = 0.5  # torchvision's reference recipe (references/segmentation/train.py, criterion)


class Outputs(NamedTuple):
    main: Tensor  # (B, C, h, w) logits
    aux: Tensor | None = None  # likewise, of the auxiliary head


class PerPixel(Segmenter):
    """Cross-entropy at the labels' size, and half of the auxiliary head's where the network has one."""

    def __init__(
        self, network: Any, *, smallest_batch: int = 1, normalisation: Normalisation = IMAGENET, channels_last: bool
    ) -> None:
        """network: a module from (B, 3, H, W) images to Outputs, whose `aux_classifier` only training needs."""
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.smallest_batch = smallest_batch
        self.normalisation = normalisation

    def forward(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.network(images)
        return outputs

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        terms = {"main": _cross_entropy(outputs.main, labels)}
        if outputs.aux is not None:
            terms["aux"] = _AUX_WEIGHT * _cross_entropy(outputs.aux, labels)
        return terms

    def scores(self, outputs: Outputs) -> Tensor:
        return outputs.main.float()

    def for_inference(self) -> Self:
        """Drops the auxiliary head, folds each BatchNorm into the convolution before it, and tells those modules of the
        network that prepare themselves."""
        if getattr(self.network, "aux_classifier", None) is not None:
            self.network.aux_classifier = None
        self.eval()
        for module in self.network.modules():
            _fold_batch_norms(module)
            if prepare := getattr(module, "for_inference", None):
                prepare()
        return self


def split_norms(network: nn.Module) -> None:
    """Makes of every BatchNorm that also activates (timm's BatchNormAct2d) a plain BatchNorm2d and the activation.

    As one module it would be missed by what looks for BatchNorm2d: statistics of a batch on several processes, folding.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and type(child) is not nn.BatchNorm2d:
                activation: Any = child.act
                plain = nn.BatchNorm2d(child.num_features, child.eps, child.momentum)
                plain.load_state_dict(child.state_dict())
                setattr(module, name, nn.Sequential(plain, activation).train(child.training))


def _fold_batch_norms(module: nn.Module) -> None:
    """Folds every BatchNorm2d that comes right after a Conv2d among the module's children, itself or as the first of a
    Sequential; the contract test shows whether a network calls them in this order."""
    previous = ""
    for name, child in list(module.named_children()):
        before = getattr(module, previous) if previous else None
        inside = isinstance(child, nn.Sequential) and len(child) > 0
        norm = child[0] if inside else child  # type: ignore[index]
        if isinstance(norm, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            setattr(module, previous, fuse_conv_bn_eval(before, norm))
            if inside:
                child[0] = nn.Identity()  # type: ignore[operator]
            else:
                setattr(module, name, nn.Identity())
        previous = name


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, labels)
