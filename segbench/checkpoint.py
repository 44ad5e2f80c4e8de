"""Weights on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from segbench.errors import UserError


def save(model: nn.Module, path: Path) -> None:
    """Writes the state dict beside `path`, makes it durable, and renames it into place."""
    from safetensors.torch import save_file

    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def load(model: nn.Module, path: Path) -> None:
    """Loads what `save` wrote. Raises UserError where the file is damaged or belongs to another model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is damaged or belongs to another model ({reason}); promote again") from error
