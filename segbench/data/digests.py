"""Finds damage to packed pixels without reading all of them at every start.

A finished split keeps a record: the digest of each scene, and the stamps that its files had then. While they have the
same stamps, nothing wrote to them, and a start takes the digests from the record. On a failing disk pixels change
without a write: so each scene is compared with its digest when a batch first reads it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from segbench.core import files
from segbench.core.errors import UserError
from segbench.data.arrays import Arrays, digest
from segbench.data.rows import Pixels

RECORD = "digests.json"


class Digests:
    """What the scenes of a packed split must be."""

    def __init__(self, folder: Path, names: Sequence[str], digests: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._digests = digests
        self._checked = [False] * len(names)

    def check(self, row: int, *pixels: Pixels) -> None:
        """Compares a scene, plane by plane, the first time. Raises UserError; then the next start packs it again."""
        if self._checked[row]:
            return
        if digest(*pixels) != self._digests[row]:
            with contextlib.suppress(OSError):
                (self._folder / RECORD).unlink(missing_ok=True)
            raise UserError(
                f"{self._folder}: the packed pixels of {self._names[row]} are no longer what was written (is the disk "
                "failing?); rerun: they are packed again"
            )
        self._checked[row] = True


def of(arrays: Arrays, folder: Path) -> list[str]:
    """The digest of each scene on disk, from the record if nothing wrote to the files since."""
    try:
        if (folder / RECORD).is_file():  # reading a pipe would block
            content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            recorded = [str(value) for value in content["digests"]]
            if content["stamps"] == arrays.stamps() and len(recorded) == len(arrays):
                return recorded
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return arrays.digests()


def record(arrays: Arrays, folder: Path, digests: Sequence[str]) -> None:
    """Keeps the digests of a finished split whose rows are on disk. Raises OSError."""
    text = json.dumps({"stamps": arrays.stamps(), "digests": digests})
    with contextlib.suppress(OSError, ValueError):
        if (folder / RECORD).read_text(encoding="utf-8") == text:
            return
    with files.replaced(folder / RECORD) as partial:
        partial.write_text(text, encoding="utf-8")
