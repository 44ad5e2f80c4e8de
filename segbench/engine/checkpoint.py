"""Weights and training checkpoints on disk: safetensors, written atomically, never a pickle.

A training checkpoint holds everything that changes during training: the tensors of model, average and optimizer, and
JSON. It needs no random state, because data order, dropout and sampling of an epoch depend on (seed, epoch) alone, see
`training.fit`; and no scheduler, because the learning rate is a function of the step, see `schedule.factor`.

<folder>/training.safetensors            the newest; its last tensor, `checksum`, is the SHA-256 of all bytes before
<folder>/training-previous.safetensors   the previous one, used if the newest is damaged
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segbench.core import files
from segbench.core.errors import UserError
from segbench.runtime import terminal

_NEWEST, _PREVIOUS, _PARTIAL = "training.safetensors", "training-previous.safetensors", "training.partial"
_CHECKSUM = "checksum"
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}  # as safetensors names them


class Snapshot(NamedTuple):
    """The arguments of `write`."""

    tensors: dict[str, Tensor]  # contiguous, on the CPU
    content: dict[str, Any]


class Damaged(Exception):
    """A checkpoint is truncated or changed."""


def save(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the state dict atomically. Raises OSError that names the file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with files.replaced(path) as partial:
        try:
            save_file(tensors, partial, dict(metadata or {}))
        except SafetensorError as error:  # also raised for a full disk, with the error number in its text
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


def load(model: nn.Module, path: Path) -> None:
    """Loads a file of `save`. Raises UserError if it is damaged or belongs to another model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is damaged or belongs to another model ({reason}); promote again") from error


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a file of `save`; empty if the file cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def write(folder: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes the newest checkpoint of `folder`, and makes the one before the previous. A complete checkpoint exists at
    every moment. Raises OSError if it cannot be written; then the existing ones are unchanged.
    """
    newest, partial = folder / _NEWEST, folder / _PARTIAL
    try:
        _write(partial, tensors, content)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if newest.exists():
        os.replace(newest, folder / _PREVIOUS)
    os.replace(partial, newest)
    _make_durable(folder)


def read(folder: Path) -> Snapshot | None:
    """The newest undamaged checkpoint, None without one. Warns of damaged ones in a line."""
    for leftover in folder.glob("*.partial"):  # of a killed write
        leftover.unlink(missing_ok=True)
    damaged = []
    for path in (folder / _NEWEST, folder / _PREVIOUS):
        try:
            snapshot = _read(path)
        except FileNotFoundError:
            continue
        except Damaged as error:
            damaged.append(f"{path} is damaged ({error})")
            continue
        if damaged:
            terminal.warn(f"{damaged[0]}; training resumes from the previous checkpoint")
        return snapshot
    if damaged:
        terminal.warn(f"{' and '.join(damaged)}; training starts over")
    return None


def remove(folder: Path) -> None:
    """Deletes the training checkpoints of `folder`, if it has any."""
    for name in (_NEWEST, _PREVIOUS, _PARTIAL):
        (folder / name).unlink(missing_ok=True)


def size(tensors: Mapping[str, Tensor]) -> int:
    """The size of the tensors in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _write(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes a safetensors file one tensor at a time: the library's writer would hold a second copy of all tensors."""
    # Wide elements first, so that each tensor begins at a multiple of its element's size.
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))
    header: dict[str, Any] = {"__metadata__": {"content": json.dumps(content)}}
    end = 0
    for name, tensor in ordered.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header[_CHECKSUM] = {"dtype": "U8", "shape": [_CHECKSUM_BYTES], "data_offsets": [end, end + _CHECKSUM_BYTES]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    checksum = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in (len(text).to_bytes(8, "little"), text):
            checksum.update(piece)
            file.write(piece)
        for tensor in ordered.values():
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            checksum.update(data)
            file.write(data)
        file.write(checksum.digest())
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> Snapshot:
    """Raises FileNotFoundError, or Damaged."""
    from safetensors import SafetensorError, safe_open

    _verify(path)
    try:
        with safe_open(path, "pt") as file:
            content = json.loads(file.metadata()["content"])
            tensors = {name: file.get_tensor(name) for name in file.keys() if name != _CHECKSUM}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(str(error)) from error
    return Snapshot(tensors, content)


def _verify(path: Path) -> None:
    checksum = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            left = os.fstat(file.fileno()).st_size - _CHECKSUM_BYTES
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                checksum.update(piece)
                left -= len(piece)
            stored = file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(str(error)) from error
    if stored != checksum.digest():
        raise Damaged("its checksum does not match")


def _make_durable(folder: Path) -> None:
    """Syncs the folder, so that the renames survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
