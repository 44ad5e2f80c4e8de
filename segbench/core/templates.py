"""Copies a protocol's folder as the start of a new protocol."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

from segbench.core import code, labels, names, paths, protocol
from segbench.core.errors import UserError

# "# python -m segbench.search deeplab --protocol demo", after "make demo   or   " in the demo's.
_COMMAND = re.compile(
    r"^(# *)(?:make \w+ +or +)?(.*python -m segbench\.\w+.*?)(?: --protocol \S+)?[ \t]*$", re.MULTILINE
)


def copy(source: str, name: str) -> Path:
    """Copies the protocol `source` (a name under studies/, or a folder) to ./studies/`name`, or to `name` if that is a
    path, and adapts the commands in the first lines of its files. Returns the new folder.

    Architectures' code is copied and not run. Raises UserError if the protocol does not exist or a file is invalid,
    where the name is taken, and where the copy cannot be written.
    """
    original = paths.protocol_folder(source)
    protocol.load(original)
    architectures = [protocol.load_architecture(original, each) for each in protocol.architecture_names(original)]
    folder = _destination(name)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            sets = sorted(path.name for path in original.glob(f"*{labels.ENDING}"))
            for toml in ("protocol.toml", *sets, *(f"{each.name}.toml" for each in architectures)):
                text = (original / toml).read_text(encoding="utf-8")
                (partial / toml).write_text(_adapted(text, name), encoding="utf-8")
            for each in architectures:
                if each.code:
                    code.keep(partial, each.code)
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); give another name or path") from error
    return folder


def _destination(name: str) -> Path:
    """The new folder. Raises UserError if it exists or its name is taken or invalid."""
    path = Path(name)
    is_name = len(path.parts) == 1 and not path.is_absolute() and name not in (".", "..")
    folder = Path("studies") / name if is_name else path
    names.part(folder.resolve().name, "protocol")
    if os.path.lexists(folder):
        raise UserError(f"{folder} already exists and is not overwritten; give another name")
    if is_name and name in paths.protocol_names():
        raise UserError(f"segbench comes with a protocol '{name}', which a copy would hide; give another name")
    return folder


def _adapted(text: str, name: str) -> str:
    """The TOML with --protocol `name` in its commands."""
    return _COMMAND.sub(lambda match: f"{match[1]}{match[2]} --protocol {shlex.quote(name)}", text)
