"""A network that gives every pixel logits of the classes, with the loss and the inference that all such share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segbench.architectures.parts.pixel_loss import PixelLoss
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
        """network: a module from (B, 3, H, W) images to Outputs, whose `aux_classifier` only training needs. Its layers
        below the head are the children of its `backbone`, or what its method `backbone_layers` returns."""
        super().__init__()
        self._loss = PixelLoss()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.smallest_batch = smallest_batch
        self.normalisation = normalisation

    def forward(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.network(images)
        return outputs

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        return terms(self._loss, outputs.main, outputs.aux, labels, self.is_sharded)

    def use(self, loss: PixelLoss) -> None:
        self._loss = loss

    def backbone(self) -> Sequence[nn.Module]:
        if hasattr(self.network, "backbone_layers"):
            own: Sequence[nn.Module] = self.network.backbone_layers()
            return own
        return layers(getattr(self.network, "backbone", nn.Identity()))

    def scores(self, outputs: Outputs) -> Tensor:
        return outputs.main.float()

    def for_inference(self) -> Self:
        """Drops the auxiliary head, folds each BatchNorm into the convolution before it, and tells those modules of the
        network that prepare themselves."""
        self.eval()
        make_lean(self.network)
        return self


def terms(loss: PixelLoss, main: Tensor, aux: Tensor | None, labels: Tensor, is_sharded: bool) -> dict[str, Tensor]:
    """The loss of the logits, (B, C, h, w), and of the auxiliary head's, where there are any."""
    found = {"main": loss(main, labels, is_sharded)}
    if aux is not None:
        found["aux"] = _AUX_WEIGHT * loss(aux, labels, is_sharded)
    return found


def make_lean(network: Any) -> None:
    """Of a network in evaluation mode: drops its auxiliary head, folds each BatchNorm into the convolution before it,
    and tells those of its modules that prepare themselves."""
    if getattr(network, "aux_classifier", None) is not None:
        network.aux_classifier = None
    for module in network.modules():
        _fold_batch_norms(module)
        if prepare := getattr(module, "for_inference", None):
            prepare()


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


def stage(before: Sequence[nn.Module], blocks: Sequence[nn.Module], after: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers of a backbone's stage: its blocks; what comes before joins the first, what comes after the last."""
    groups = [[block] for block in blocks]
    groups[0][:0], groups[-1][len(groups[-1]) :] = before, after
    return [nn.ModuleList(group) for group in groups]


def layers(backbone: nn.Module) -> list[nn.Module]:
    """A backbone's layers: its children that have parameters, and in their place the children of a Sequential."""
    parts = [part for child in backbone.children() for part in (child if isinstance(child, nn.Sequential) else [child])]
    return [part for part in parts if next(part.parameters(), None) is not None]


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
