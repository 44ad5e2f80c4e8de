"""The two arrays of a packed split on disk: read as memory maps, written row by row as files.

A memory map is never written to: where the disk is full, that ends the process by a signal (SIGBUS) instead of an
error.
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

Pixels = NDArray[np.uint8]
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Arrays:
    """Images, (N, H, W, 3) uint8 RGB, and labels, (N, H, W) uint8 raw ids, opened read-only."""

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where these are not two such arrays of the same scenes, OSError where there are none."""
        self._paths = folder / "images.npy", folder / "labels.npy"
        self.images, self.labels = (_mapped(path) for path in self._paths)
        if self.images.shape != (*self.labels.shape, 3) or self.labels.ndim != 3:
            raise ValueError(f"the arrays in {folder} do not belong together")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.labels.shape[1], self.labels.shape[2]

    def digests(self) -> list[str]:
        """The digest of each row, as it is on disk. hashlib works outside of Python's lock, so threads help."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(lambda row: digest(self.images[row], self.labels[row]), range(len(self))))

    def write(self, row: int, image: Pixels, labels: Pixels) -> None:
        """Puts a scene into its row. Raises OSError where the disk is full."""
        for path, array, pixels in zip(self._paths, (self.images, self.labels), (image, labels), strict=True):
            with open(path, "r+b") as file:
                file.seek(array.offset + row * array[0].nbytes)
                file.write(np.ascontiguousarray(pixels).data)

    def flush(self) -> None:
        """Waits until all is on the disk. Raises OSError."""
        for path in self._paths:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def create(folder: Path, number: int, size: tuple[int, int]) -> Arrays:
    """New arrays of so many scenes in place of what is there; who has the old ones open keeps them.

    Raises OSError where there is no space for them.
    """
    for name, shape in (("images.npy", (number, *size, 3)), ("labels.npy", (number, *size))):
        path = folder / name
        remove(path)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(path, array.offset + array.nbytes)
    return Arrays(folder)


def remove(path: Path) -> None:
    """Whatever is at `path`, if anything."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(image: Pixels, labels: Pixels) -> str:
    """sha256 of a scene's packed pixels."""
    total = hashlib.sha256(np.ascontiguousarray(image).data)
    total.update(np.ascontiguousarray(labels).data)
    return total.hexdigest()


def _mapped(path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    if not os.path.isfile(path):  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # NumPy parses the head of the file, and raises what it meets there
        raise ValueError(f"{path} is no array") from error
    if array.dtype != np.uint8 or not array.flags.c_contiguous or not array.size:
        raise ValueError(f"{path} is no array of bytes")
    return array


def _reserve(path: Path, size: int) -> None:
    """Better no space now than after half an hour. Where a file system cannot reserve, the writing itself will tell."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise OSError(error.errno, error.strerror, str(path)) from error
