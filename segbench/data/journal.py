"""What is packed already, line by line: the journal, which grows while packing, and the manifest of a finished split.

Both are read without trust: a damaged line is none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

JOURNAL, MANIFEST = "done.jsonl", "manifest.json"


class Line(NamedTuple):
    """One scene in done.jsonl."""

    name: str
    stamp: list[int]  # sizes and modification times of its files: a changed file is packed again
    digest: str  # SHA-256 of the packed pixels
    ids: dict[str, int]  # raw id -> pixels at the photograph's own size
    size: list[int] | tuple[()] = ()  # [height, width] of the photograph; () in lines of earlier versions


def finished(folder: Path) -> list[Line] | None:
    """The lines in the manifest; None if it is missing or damaged."""
    if not (folder / MANIFEST).is_file():  # reading a pipe would block
        return None
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        lines = [_line(line) for line in content["scenes"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return None if None in lines else [line for line in lines if line]


def read(folder: Path) -> dict[str, Line]:
    """The journal's lines by scene; later lines replace earlier ones, and damaged lines are ignored."""
    known = {}
    try:
        text = (folder / JOURNAL).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    for row in text.splitlines():
        try:
            line = _line(json.loads(row))
        except (ValueError, RecursionError):
            continue
        if line:
            known[line.name] = line
    return known


def _line(content: Any) -> Line | None:
    """A line from its JSON; None if it is damaged."""
    try:
        line = Line(**content)
        counts = {int(raw): pixels for raw, pixels in line.ids.items()}
        sizes = [side for side in line.size if isinstance(side, int) and side > 0]
    except (TypeError, ValueError, AttributeError):
        return None
    named = isinstance(line.name, str) and isinstance(line.digest, str) and isinstance(line.stamp, list)
    counted = all(0 <= raw < 256 and isinstance(pixels, int) for raw, pixels in counts.items())
    sized = len(sizes) == len(line.size) and len(sizes) in (0, 2)
    return line if named and counted and sized else None
