"""Where initial weights come from: random, published, a state-dict file, or a `save_pretrained` folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from segbench.core.errors import UserError

LOCAL_WAYS = (
    "use --weights random, or --weights with a state-dict file (.safetensors, .pth) or a save_pretrained folder"
)


Size = TypeVar("Size")


class Weights(NamedTuple):
    """A weights source that exists (or, for "pretrained", is named)."""

    kind: str  # "random" | "pretrained" | "file" | "folder"
    path: Path | None = None

    @classmethod
    def resolve(cls, text: str) -> Self:
        """From what the user wrote. Raises UserError where it names no file or folder."""
        if text in ("random", "pretrained"):
            return cls(text)
        path = Path(text)
        if not path.exists():
            raise UserError(f"no weights at {text}: {LOCAL_WAYS}")
        return cls("folder" if path.is_dir() else "file", path)

    @property
    def name(self) -> str:
        return self.path.name if self.path else self.kind


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth/.pt file. Tensors only: a pickle that holds anything else is refused."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is not a readable state dict ({type(error).__name__}): {LOCAL_WAYS}") from error
    for wrapper in ("model", "state_dict"):  # beside what else a training keeps
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no flat mapping of names to tensors: {LOCAL_WAYS}")
    # Our own checkpoints name the wrapped network; published files name its parts directly.
    return {key.removeprefix("network."): value for key, value in state.items()}


def choose(architecture: str, size: str, sizes: Mapping[str, Size]) -> Size:
    """What `sizes` holds for `size`. Raises UserError where there is no such size."""
    if size not in sizes:
        raise UserError(
            f"{architecture} has no size '{size}'; it has: {', '.join(sizes)}. Fix [model] in {architecture}.toml"
        )
    return sizes[size]


def load_state_dict(network: nn.Module, state: Mapping[str, Tensor], heads: Iterable[str], source: str) -> None:
    """Loads `state` into `network`. Tensors of other shape or absent are forgiven under the prefixes `heads` alone,
    where the number of classes differs between data sets; those keep their initial values.

    Raises UserError naming what does not fit.
    """
    heads = tuple(heads)
    own = network.state_dict()
    wrong = [k for k in own if (k not in state or state[k].shape != own[k].shape) and not k.startswith(heads)]
    extra = [k for k in state if k not in own and not k.startswith(heads)]
    if wrong or extra:
        example = (wrong or extra)[0]
        raise UserError(
            f"{source} does not fit the network: {len(wrong)} tensors missing or of another shape, "
            f"{len(extra)} unknown, such as '{example}'. Use weights of this very architecture and size"
        )
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    network.load_state_dict(fitting, strict=False)


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over names and bytes of all tensors, in order of name."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
