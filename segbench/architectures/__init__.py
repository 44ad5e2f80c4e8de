"""The registry: every file in this folder with a `build` function is an architecture, named after its file.

    build(classes: int, weights: Weights, **options) -> Segmenter

`options` come from the `[model]` table of `<architecture>.toml` and from searched parameters the trainer does not know,
such as `aux_loss`. `PRETRAINED` in the same file names the published weights that `--weights pretrained` means.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping

import torch

from segbench.architectures.parts.weights import Weights, digest
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Segmenter = module.build(classes=classes, weights=source, **options)
    label = {"random": f"seed {seed}", "pretrained": getattr(module, "PRETRAINED", "")}.get(source.kind, source.name)
    return model, WeightsOrigin(source.kind, label, digest(model.state_dict()))
