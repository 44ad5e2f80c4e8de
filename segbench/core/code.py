"""The code of an architecture of the user's own, read and digested. Nothing here runs it: `architectures` does.

<folder>/<architecture>.py    one file with a `build` function, beside <architecture>.toml and <architecture>@….toml, or
                              beside a model's card
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from segbench.core import names
from segbench.core.errors import UserError
from segbench.core.records import Code


def beside(toml: Path) -> Code | None:
    """The code of its architecture beside a TOML file, if there is one. Raises UserError if it cannot be read."""
    path = toml.with_name(f"{names.architecture(toml.stem)}.py")
    return read(path) if os.path.lexists(path) else None


def read(path: Path) -> Code:
    """The current content of a file. Raises UserError if it cannot be read."""
    try:
        if path.is_fifo():  # reading it would block
            raise UserError(f"{path} cannot be read as Python code: it is a pipe; fix or remove it")
        content = path.read_bytes()
        return Code("file", path.name, hashlib.sha256(content).hexdigest(), content.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{path} cannot be read as Python code: {reason}; fix or remove it") from error


def kept(folder: Path, code: Code) -> Code:
    """The copy of a file in `folder`. Raises UserError if it is missing or differs."""
    path = folder / Path(code.name).name
    copy = read(path)
    if copy.sha256 != code.sha256:
        raise UserError(
            f"{path} is not the code that this model was trained with (sha256 {copy.sha256[:12]}, the card says "
            f"{code.sha256[:12]}); it was not run. Promote again, or restore the file"
        )
    return copy


def keep(folder: Path, code: Code) -> None:
    """Writes the file into `folder`. Raises OSError."""
    (folder / code.name).write_bytes(code.text.encode("utf-8"))
