"""The registry: every file in this folder with a `build` function is an architecture, named after its file.

    build(classes: int, weights: Weights, **options) -> Segmenter

`options` come from the `[model]` table of `<architecture>.toml` and from searched parameters the trainer does not know,
such as `aux_loss`. `CHECKPOINTS` in the same file holds, by size, the published weights that `weights = "pretrained"`
means.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType

import torch

from segbench.architectures.parts.published import Checkpoint
from segbench.architectures.parts.weights import LOCAL_WAYS, Weights, digest
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.records import Scalar, WeightsOrigin

_NOT_ARCHITECTURES = {"parts", "segmenter"}


def names() -> tuple[str, ...]:
    """The architectures there are, by file name."""
    return tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_ARCHITECTURES)


def create(
    name: str, classes: int, weights: str, options: Mapping[str, Scalar], seed: int
) -> tuple[Segmenter, WeightsOrigin]:
    """Builds the architecture `name` on the CPU; `seed` decides every weight that `weights` does not give.

    `weights` is "random", "pretrained", a state-dict file or a `save_pretrained` folder.
    Raises UserError for an unknown name or option, and for weights that cannot be had.
    """
    if name not in names():
        raise UserError(f"no architecture '{name}'; there are: {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    allowed = [p for p in inspect.signature(module.build).parameters if p not in ("classes", "weights")]
    if unknown := [option for option in options if option not in allowed]:
        raise UserError(f"{name} has no option '{unknown[0]}'; it has: {', '.join(allowed)}. Mend {name}.toml")
    source = Weights.resolve(weights)
    published = _published(name, module, options) if source.kind == "pretrained" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Segmenter = module.build(classes=classes, weights=source, **options)
    if published:
        return model, WeightsOrigin(source.kind, published.name, digest(model.state_dict()), published.terms)
    label = f"seed {seed}" if source.kind == "random" else source.name
    return model, WeightsOrigin(source.kind, label, digest(model.state_dict()))


def checkpoints(name: str) -> Mapping[str, Checkpoint]:
    """The published weights of an architecture, by size."""
    found: Mapping[str, Checkpoint] = getattr(importlib.import_module(f"{__name__}.{name}"), "CHECKPOINTS", {})
    return found


def _published(name: str, module: ModuleType, options: Mapping[str, Scalar]) -> Checkpoint:
    """The weights that "pretrained" means. Raises UserError where there are none of that size."""
    default = inspect.signature(module.build).parameters.get("size")
    size = str(options.get("size", default.default if default else ""))
    there = getattr(module, "CHECKPOINTS", {})
    if size not in there:
        has = f"; there are for {', '.join(there)}" if there else ""
        raise UserError(f"there are no published weights for {name} at size '{size}'{has}: {LOCAL_WAYS}")
    checkpoint: Checkpoint = there[size]
    return checkpoint
