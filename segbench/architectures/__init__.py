"""The registry: a module with a `build` function is an architecture, named after its file.

    build(classes: int, weights: Weights, **options) -> Segmenter

`options` come from the `[model]` table of `<architecture>.toml` and from searched parameters the trainer does not know,
such as `aux_loss`. `CHECKPOINTS` in the same file holds, by size, the published weights that `weights = "pretrained"`
means.

It is looked for (a) as `<architecture>.py` beside `<architecture>.toml`, which is the user's own code; (b) in this
folder; (c) in what installed packages offer. `segbench.testing.check_architecture(build)` tests such a `build`.
What follows "@" tells variants apart that a protocol compares: `deeplab@wide.toml` is about `deeplab`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType

import torch

from segbench.architectures.parts import outside, published
from segbench.architectures.parts.published import Checkpoint
from segbench.architectures.parts.weights import Weights, digest
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.names import architecture
from segbench.core.records import Code, Scalar, WeightsOrigin

_NOT_ARCHITECTURES = {"parts", "segmenter"}


def names() -> tuple[str, ...]:
    """The architectures in this folder, by file name."""
    return tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_ARCHITECTURES)


def origin(name: str, code: Code | None) -> Code | None:
    """Where the architecture comes from: `code`, where its TOML has a file beside it; else an installed package; None
    where it is one of this folder."""
    name = architecture(name)
    offered = outside.installed().get(name)
    return code or (outside.package(offered[0]) if offered and name not in names() else None)


def create(
    name: str, classes: int, weights: str, options: Mapping[str, Scalar], seed: int, code: Code | None = None
) -> tuple[Segmenter, WeightsOrigin]:
    """Builds the architecture `name` on the CPU; `seed` decides every weight that `weights` does not give.

    `weights` is "random", "pretrained", a state-dict file or a `save_pretrained` folder. `code`, where it is a file, is
    run. Raises UserError for an unknown name or option, for weights that cannot be had, and for code that fails.
    """
    module = _module(architecture(name), code)
    _require_options(name, module, options)
    source = Weights.resolve(weights)
    checkpoint = published.of(module.build, options) if source.kind == "pretrained" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _built(name, module, {"classes": classes, "weights": source, **options})
    if checkpoint:
        return model, WeightsOrigin(source.kind, checkpoint.name, digest(model.state_dict()), checkpoint.terms)
    label = f"seed {seed}" if source.kind == "random" else source.name
    return model, WeightsOrigin(source.kind, label, digest(model.state_dict()))


def _module(name: str, code: Code | None) -> ModuleType:
    if code and code.kind == "file":
        return outside.run(code)
    if name in names():
        return importlib.import_module(f"{__name__}.{name}")
    offered = outside.installed()
    if name in offered:
        return outside.load(name, offered[name])
    if code:
        raise UserError(f"architecture '{name}' is of the package {code.name}: pip install {code.name}")
    known = ", ".join((*names(), *sorted(offered)))
    raise UserError(f"no architecture '{name}'; there are: {known}; or write {name}.py beside {name}.toml")


def _require_options(name: str, module: ModuleType, options: Mapping[str, Scalar]) -> None:
    if not callable(getattr(module, "build", None)):
        raise UserError(f"{module.__file__} has no function 'build(classes, weights)' that returns a Segmenter")
    parameters = inspect.signature(module.build).parameters
    if missing := [given for given in ("classes", "weights") if given not in parameters]:
        raise UserError(f"build in {module.__file__} must take 'classes' and 'weights'; it lacks '{missing[0]}'")
    allowed = [parameter for parameter in parameters if parameter not in ("classes", "weights")]
    if unknown := [option for option in options if option not in allowed]:
        raise UserError(f"{name} has no option '{unknown[0]}'; it has: {', '.join(allowed) or 'none'}. Fix {name}.toml")


def _built(name: str, module: ModuleType, arguments: Mapping[str, object]) -> Segmenter:
    """What `build` returns. Of this package's own, errors that are no UserError go through: they are bugs."""
    try:
        model = module.build(**arguments)
    except UserError:
        raise
    except Exception as error:
        if module.__name__.startswith(f"{__name__}."):
            raise
        reason = outside.failure(error, str(module.__file__))
        raise UserError(f"build in {module.__file__} failed ({reason}); fix it and rerun") from error
    if not isinstance(model, Segmenter):
        raise UserError(f"build in {module.__file__} must return a Segmenter, not a {type(model).__name__}")
    return model


def transformers_class(name: str) -> str | None:
    """The class of transformers that our weights of this architecture fit; None where there is none."""
    name = architecture(name)
    return getattr(importlib.import_module(f"{__name__}.{name}"), "TRANSFORMERS", None) if name in names() else None


def summary(name: str) -> str:
    """The first sentence of an architecture's module: its name, what it is, and its paper."""
    described = inspect.getdoc(importlib.import_module(f"{__name__}.{name}")) or ""
    return " ".join(described.partition("\n\n")[0].split()).removesuffix(".")


def checkpoints(name: str) -> Mapping[str, Checkpoint]:
    """The published weights of an architecture, by size."""
    module = importlib.import_module(f"{__name__}.{architecture(name)}")
    found: Mapping[str, Checkpoint] = getattr(module, "CHECKPOINTS", {})
    return found
