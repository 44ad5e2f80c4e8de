"""transformers' networks: imported late and in silence, and loaded strictly, whatever version wrote their tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segbench.architectures.parts import published
from segbench.architectures.parts.published import Checkpoint, State, brief
from segbench.architectures.parts.torchvision_ops import ensure_importable
from segbench.architectures.parts.weights import LOCAL_WAYS, Weights, read_state_dict
from segbench.core.errors import UserError

_FILES = ("model.safetensors", "pytorch_model.bin")


class Design(NamedTuple):
    """One size of a network of transformers."""

    title: str  # such as "mask2former of size 'small'", for errors
    network: str  # transformers' class
    config: Any  # of its configuration class
    # What fixes the shapes and the meaning of the weights: of the configuration, and of its parts by name.
    fixed: Mapping[str, Mapping[str, Any]]
    # Prefixes of tensors that may be absent or of another shape, and then keep their initial values: those that depend
    # on the number of classes, or that weights with these tensors never had.
    heads: Callable[[State], tuple[str, ...]]
    adapt: Callable[[State], State] = lambda state: state  # to the names of this network, from those of its backbone


def library() -> Any:
    """transformers, which takes seconds to import and needs torchvision. Untyped: its annotations lag behind."""
    ensure_importable()
    return importlib.import_module("transformers")


def build(design: Design, weights: Weights, checkpoint: Checkpoint | None) -> Any:
    """The network with its weights. Raises UserError for those that cannot be had, read, or loaded."""
    with _silence():
        if weights.kind == "random":
            return getattr(library(), design.network)(design.config)
        if weights.kind == "folder" and weights.path:
            return _load(str(weights.path), design._replace(config=_config(weights.path, design)), _of(weights.path))
        if weights.path:
            return _load(str(weights.path), design, read_state_dict(weights.path))
        checkpoint = published.require(checkpoint)
        return _load(checkpoint.name, design, published.state_dict(checkpoint))


def _config(folder: Path, design: Design) -> Any:
    """The folder's configuration, which must be the design's; what only training sees, such as stochastic depth, is
    the folder's."""
    try:
        config = type(design.config).from_pretrained(
            str(folder), local_files_only=True, num_labels=design.config.num_labels
        )
    except Exception as error:  # as in _load
        raise UserError(f"{folder} cannot be loaded ({brief(error)}): {LOCAL_WAYS}") from error
    for name, fixed in design.fixed.items():
        part = getattr(config, name) if name else config
        for key, value in fixed.items():
            found = getattr(part, key, None)
            if (tuple(found) if isinstance(found, list) else found) != value:
                raise UserError(
                    f"{folder} is no {design.title}: its {key} is {found}, not {value}. Use weights of that size, or "
                    "set size under [model] in the architecture's TOML"
                )
    return config


def _of(folder: Path) -> dict[str, Tensor]:
    for name in _FILES:
        if (folder / name).is_file():
            return read_state_dict(folder / name)
    raise UserError(f"{folder} holds none of {', '.join(_FILES)}: {LOCAL_WAYS}")


def _load(name: str, design: Design, state: State) -> Any:
    """transformers' loader, which also knows the tensor names of its older versions, made strict."""
    state = design.adapt(state)
    try:
        network, report = getattr(library(), design.network).from_pretrained(
            None,
            config=design.config,
            state_dict=dict(state),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # json's, safetensors', pickle's and torch's errors share no narrower class
        raise UserError(f"{name} cannot be loaded ({brief(error)}): {LOCAL_WAYS}") from error
    heads = design.heads(state)
    wrong = _unforgiven({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}, heads)
    extra = _unforgiven(report["unexpected_keys"], heads)
    if wrong or extra:
        raise UserError(
            f"{name} does not fit {design.title}: {len(wrong)} tensors missing or of another shape, {len(extra)} "
            f"unknown, such as '{(wrong or extra)[0]}'. Use weights of that size, or set size under [model] in the "
            "architecture's TOML"
        )
    return network


def _unforgiven(keys: Iterable[str], heads: tuple[str, ...]) -> list[str]:
    """What differs beyond the heads, and beyond what transformers computes itself."""
    return sorted(k for k in keys if not k.startswith(heads) and not k.endswith("relative_position_index"))


@contextmanager
def _silence() -> Iterator[None]:
    """Holds back transformers' report of new heads, which we asked for, and its progress bars."""
    logging = library().utils.logging
    verbosity, bars_before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars_before:
            logging.enable_progress_bar()
