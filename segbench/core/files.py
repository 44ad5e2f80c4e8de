"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".partial"  # what the name of a file or folder that is still being written ends with


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file beside `path` for the caller to write, then puts it in `path`'s place.

    Its bytes are on the disk before it is renamed, so that `path` is the old file or the whole new one, also after a
    power cut. On any exception, the caller's or an OSError here, the temporary file is removed and `path` is as it was.
    Writers of the same path exclude one another themselves.
    """
    partial = path.with_name(path.name + UNFINISHED)
    try:
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
