"""The two or three arrays of a packed split on disk: read as memory maps, written row by row as files.

A memory map is never written to: on a full disk, that would end the process by a signal (SIGBUS) instead of an error.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.core import files

Pixels = NDArray[np.uint8]
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Arrays:
    """Images, (N, H, W, 3) uint8 RGB, and labels, (N, H, W) uint8 raw ids, opened read-only; for panoptic protocols
    also instances, (N, H, W) uint8, see core/panoptic.py."""

    def __init__(self, folder: Path, panoptic: bool = False) -> None:
        """Raises ValueError if the files are not such arrays of the same scenes, OSError if they are missing."""
        self._paths = [folder / f"{name}.npy" for name in _names(panoptic)]
        self.planes = [_mapped(path) for path in self._paths]
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

    def digests(self) -> list[str]:
        """The digest of each row on disk. hashlib releases Python's lock, so threads help."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(lambda row: digest(*self.row(row)), range(len(self))))

    def row(self, row: int) -> list[Pixels]:
        """A scene's pixels in each array."""
        return [plane[row] for plane in self.planes]

    def write(self, row: int, *planes: Pixels) -> None:
        """Writes a scene into its row. Raises OSError, such as for a full disk."""
        for path, array, pixels in zip(self._paths, self.planes, planes, strict=True):
            with files.naming(path), open(path, "r+b") as file:
                file.seek(array.offset + row * array[0].nbytes)
                file.write(np.ascontiguousarray(pixels).data)

    def flush(self) -> None:
        """Waits until all rows are on disk. Raises OSError."""
        for path in self._paths:
            with files.naming(path), open(path, "rb") as file:
                os.fsync(file.fileno())


def create(folder: Path, number: int, size: tuple[int, int], panoptic: bool = False) -> Arrays:
    """New arrays for `number` scenes of `size` (height, width), which replace existing ones; processes that have the
    old ones open keep them.

    Raises OSError if the disk lacks space.
    """
    for name in _names(panoptic):
        path, shape = folder / f"{name}.npy", (number, *size, *((3,) if name == "images" else ()))
        remove(path)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(path, array.offset + array.nbytes)
    return Arrays(folder, panoptic)


def remove(path: Path) -> None:
    """Removes the file, link or folder at `path`, if any."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(*planes: Pixels) -> str:
    """SHA-256 of a scene's packed pixels, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for pixels in planes:
        total.update(np.ascontiguousarray(pixels).data)
    return total.hexdigest()


def _names(panoptic: bool) -> tuple[str, ...]:
    return ("images", "labels", "instances") if panoptic else ("images", "labels")


def _mapped(path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    if not os.path.isfile(path):  # reading a pipe would block
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # parsing a damaged header may raise anything
        raise ValueError(f"{path} is not an array") from error
    if array.dtype != np.uint8 or not array.flags.c_contiguous or not array.size:
        raise ValueError(f"{path} is not an array of uint8")
    return array


def _reserve(path: Path, size: int) -> None:
    """Reserves disk space, so that a lack of it raises OSError now and not after half an hour. Does nothing if the file
    system cannot reserve."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise OSError(error.errno, error.strerror, str(path)) from error
