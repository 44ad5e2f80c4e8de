"""The arrays of a packed split on disk: read and written by rows."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segbench.core import files
from segbench.data import rows
from segbench.data.rows import Pixels, Rows

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Arrays:
    """Images, (N, H, W, 3) uint8 RGB, and labels, (N, H, W) uint8 raw ids, opened read-only; for panoptic protocols
    also instances, (N, H, W) uint8, see core/panoptic.py."""

    def __init__(self, folder: Path, panoptic: bool = False) -> None:
        """Raises ValueError if the files are not such arrays of the same scenes, OSError if they are missing."""
        self.planes = [Rows(folder / f"{name}.npy") for name in names(panoptic)]
        self.images, self.labels = self.planes[:2]
        self.instances = self.planes[2] if panoptic else None
        shape = self.labels.shape
        if self.images.shape != (*shape, 3) or len(shape) != 3 or any(p.shape != shape for p in self.planes[2:]):
            raise ValueError(f"the arrays in {folder} do not belong together")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.labels.shape[1], self.labels.shape[2]

    def row(self, row: int) -> list[Pixels]:
        """A scene's pixels, plane by plane."""
        return [plane[row] for plane in self.planes]

    def stamps(self) -> list[list[int]]:
        """Of each file its size, and when its content and its entry in the file system last changed, in nanoseconds."""
        found = [os.stat(plane.path) for plane in self.planes]
        return [[stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for stat in found]

    def digests(self) -> list[str]:
        """The digest of each row on disk. hashlib releases Python's lock, so threads help."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(lambda row: digest(*self.row(row)), range(len(self))))

    def write(self, row: int, *pixels: Pixels) -> None:
        """Writes a scene into its row, plane by plane. Raises OSError, such as for a full disk."""
        for plane, values in zip(self.planes, pixels, strict=True):
            with files.naming(plane.path), open(plane.path, "r+b") as file:
                file.seek(plane.position(row))
                file.write(np.ascontiguousarray(values).data)

    def flush(self) -> None:
        """Waits until all rows are on disk. Raises OSError."""
        for plane in self.planes:
            with files.naming(plane.path), open(plane.path, "rb") as file:
                os.fsync(file.fileno())


def names(panoptic: bool) -> tuple[str, ...]:
    """Of the files, without .npy. The first has three bytes a pixel, the others one."""
    return ("images", "labels", "instances") if panoptic else ("images", "labels")


def create(folder: Path, number: int, size: tuple[int, int], panoptic: bool = False) -> Arrays:
    """New arrays for `number` scenes of `size` (height, width), which replace existing ones; processes that have the
    old ones open keep them.

    Raises OSError if the disk lacks space; then it leaves no file.
    """
    paths = [folder / f"{name}.npy" for name in names(panoptic)]
    try:
        for path in paths:
            remove(path)
            shape = (number, *size, 3) if path.stem == "images" else (number, *size)
            _reserve(path, rows.write_header(path, shape))
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return Arrays(folder, panoptic)


def remove(path: Path) -> None:
    """Removes the file, link or folder at `path`, if any."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(*pixels: Pixels) -> str:
    """SHA-256 of a scene's packed pixels, plane by plane, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for plane in pixels:
        total.update(np.ascontiguousarray(plane).data)
    return total.hexdigest()


def _reserve(path: Path, size: int) -> None:
    """Makes the file `size` bytes long and reserves their space, if the file system can, so that a lack of it raises
    OSError now and not after half an hour."""
    with files.naming(path), open(path, "r+b") as file:
        file.truncate(size)
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise
