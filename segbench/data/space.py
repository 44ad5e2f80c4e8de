"""Whether the disk has room for the arrays of a dataset: said before packing, which takes half an hour."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from segbench.core.errors import UserError
from segbench.data.arrays import Arrays, names


def require(folder: Path, numbers: Mapping[str, int], size: tuple[int, int], panoptic: bool = False) -> None:
    """`numbers`: how many scenes of `size` (height, width) each split has. The first split is about to be packed into
    `folder`, the others follow.

    Raises UserError if the first split's arrays must be made and the disk lacks space for all of them.
    """
    lacking = [_lacking(folder / split, number, size, panoptic) for split, number in numbers.items()]
    total, _, free = shutil.disk_usage(folder)
    if total and lacking[0] > 0 and sum(lacking) > free:  # some network file systems say that they have 0 bytes
        scenes = " + ".join(f"{number} {split}" for split, number in numbers.items())
        raise UserError(
            f"packing {scenes} scenes at {size[0]}x{size[1]} needs {_shown(sum(lacking))} in {folder.parent}, and "
            f"{_shown(free)} are free; free some space, or set SEGBENCH_STORAGE to a folder on a larger disk"
        )


def _lacking(folder: Path, number: int, size: tuple[int, int], panoptic: bool) -> int:
    """The bytes that new arrays take from the disk; 0 if such arrays are there already."""
    freed = 0
    try:
        existing = Arrays(folder, panoptic)
        if (len(existing), existing.size) == (number, size):
            return 0
    except (OSError, ValueError):  # damaged files make room at once, others when their rows have been copied
        for name in names(panoptic):
            with contextlib.suppress(OSError):
                freed += os.stat(folder / f"{name}.npy").st_blocks * 512
    return number * size[0] * size[1] * (len(names(panoptic)) + 2) - freed


def _shown(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
