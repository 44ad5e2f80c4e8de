"""Atomic writing: a file is complete or does not exist."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".partial"  # suffix of a file or folder that is still being written


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError without a file's name this one: the operating system names it where a file is opened, not where
    writing to it fails, such as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file beside `path` for the caller to write, then renames it to `path`.

    Its bytes are synced to disk before the rename, so that `path` is the old file or the complete new one, also after
    a power cut. On any exception, the caller's or an OSError here, the temporary file is removed and `path` is
    unchanged. Concurrent writers of the same path must lock it themselves.
    """
    partial = path.with_name(path.name + UNFINISHED)
    try:
        with naming(path):
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The digest of a file's bytes, 64 hexadecimal digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
