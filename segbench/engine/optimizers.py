"""Optimizers, the groups of parameters that a recipe tells apart, and the norm of the gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam, AdamW, Optimizer

from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.recipe import Recipe
from segbench.core.records import Hyperparameters
from segbench.core.space import OPTIMIZERS

_MOMENTUM = 0.9  # of SGD, as in torchvision's reference recipe
_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
_POSITIONS = ("position", "pos_embed", "level_embed", "cls_token", "register_token")  # in names of parameters


def build(model: Segmenter, chosen: Hyperparameters) -> Optimizer:
    """The optimizer of the parameters that train. Raises UserError for an unknown one, and as `groups`."""
    parameters = groups(model, chosen)
    if chosen.optimizer == "sgd":
        return SGD(parameters, chosen.lr, momentum=_MOMENTUM, fused=True)
    if chosen.optimizer == "adam":
        return Adam(parameters, chosen.lr, fused=True)
    if chosen.optimizer == "adamw":
        return AdamW(parameters, chosen.lr, fused=True)
    raise UserError(f"no optimizer '{chosen.optimizer}'; it must be one of {', '.join(OPTIMIZERS)}")


def groups(model: Segmenter, chosen: Hyperparameters) -> list[dict[str, Any]]:
    """The parameters that train, in groups of one learning rate and one weight decay. `factor`: of the learning rate.

    Their order follows from the model and the recipe: a checkpoint numbers the parameters over all groups. Raises
    UserError where the recipe tells a backbone from a head and the architecture does not.
    """
    recipe = chosen.recipe
    factors = _factors(model, recipe)
    exempt = {id(parameter) for parameter in _undecayed(model)} if recipe.no_decay else set()
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decay = 0.0 if id(parameter) in exempt else chosen.weight_decay
            found.setdefault((factors.get(id(parameter), 1.0), decay), []).append(parameter)
    return [
        {"params": parameters, "lr": chosen.lr * factor, "weight_decay": decay, "factor": factor}
        for (factor, decay), parameters in found.items()
    ]


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of the next step; each group's is `lr` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


def clipped_norm(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """The Euclidean norm of all gradients, a scalar on the device; the host does not wait for it. Then scales the
    gradients down to the norm `largest`, unless that is 0 (Pascanu et al., arXiv 1211.5063).

    Of several processes each has the averaged gradients by now, hence the same norm.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    if largest:
        nn.utils.clip_grads_with_norm_(with_gradient, largest, norm)
    return norm


def hold_norms(model: nn.Module, recipe: Recipe) -> None:
    """In training mode, keeps BatchNorms to their statistics if the recipe says so."""
    if recipe.batchnorm != "train":
        for norm in _batch_norms(model):
            norm.eval()


def freeze_norms(model: nn.Module, recipe: Recipe) -> None:
    """Keeps the scale and shift of BatchNorms from training if the recipe says so."""
    if recipe.batchnorm == "frozen":
        for norm in _batch_norms(model):
            norm.requires_grad_(False)


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _factors(model: Segmenter, recipe: Recipe) -> dict[int, float]:
    """The factor of the learning rate of each parameter of the backbone, by id: of its last layer `layer_decay`, of the
    one before its square, …, all times `backbone_lr` (Bao et al., BEiT, arXiv 2106.08254, appendix)."""
    if not recipe.parts_backbone:
        return {}
    layers = model.backbone()
    if not layers:
        raise UserError(
            "backbone_lr and layer_decay need to know the backbone, but Segmenter.backbone of this architecture names "
            "no layers; leave them out of its [recipe], or define that method"
        )
    return {
        id(parameter): recipe.backbone_lr * recipe.layer_decay ** (len(layers) - index)
        for index, layer in enumerate(layers)
        for parameter in layer.parameters()
    }


def _undecayed(model: nn.Module) -> Iterable[nn.Parameter]:
    """Norms, embeddings, tables of positions, and all vectors: biases and scales of layers."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            special = isinstance(module, (*_NORMS, nn.Embedding)) or any(part in name for part in _POSITIONS)
            if special or parameter.ndim <= 1:
                yield parameter


def mean_and_max(norms: list[Tensor]) -> tuple[float, float]:
    """The mean and the largest of some `clipped_norm`; here the host waits."""
    together = torch.stack([norm.float() for norm in norms])
    return float(together.mean()), float(together.max())
