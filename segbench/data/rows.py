"""Rows of an array on disk, read by position into memory that the reader owns.

Not a memory map: the rows of full-resolution photographs may be more than the address space that a process is allowed,
a file that shrinks or a network that fails would end the process by a signal (SIGBUS) instead of an error, and a read
fills its buffer without a page fault per 4 KiB.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segbench.core import files

Pixels = NDArray[np.uint8]
_VERSION = (1, 0)  # of the .npy format


class Rows:
    """An (N, …) uint8 array in a .npy file, open for reading. Indexing it reads rows; threads may do so together."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError if the file is not such an array, OSError if it is missing."""
        if not os.path.isfile(path):  # reading a pipe would block
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (as long as the array is in use)
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self.shape, self._start = _header(self._file, path)
        self._row = math.prod(self.shape[1:])  # bytes
        if os.fstat(self._file.fileno()).st_size < self._start + self.nbytes:
            raise ValueError(f"{path} is cut off")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return len(self) * self._row

    def position(self, row: int) -> int:
        """The byte of the file at which a row starts."""
        return self._start + row * self._row

    def __getitem__(self, chosen: int | slice | NDArray[np.integer[Any]]) -> Pixels:
        """A row, or several as one array; always a copy. Raises IndexError, and OSError as `read`."""
        rows = np.arange(len(self))[chosen]
        pixels = np.empty((*rows.shape, *self.shape[1:]), np.uint8)
        self.read(rows.reshape(-1), pixels.reshape(-1, *self.shape[1:]))
        return pixels

    def __iter__(self) -> Iterator[Pixels]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def read(self, rows: NDArray[np.integer[Any]], into: Pixels) -> None:
        """Reads rows into a contiguous array of as many. Raises OSError, with the file's name."""
        with files.naming(self.path):
            for row, pixels in zip(rows.tolist(), into, strict=True):
                self._fill(memoryview(pixels).cast("B"), self.position(row))

    def _fill(self, buffer: memoryview, position: int) -> None:
        while buffer:
            count = self._read_some(buffer, position)
            if not count:
                raise OSError(errno.EIO, "the file was cut off while it was in use")
            buffer, position = buffer[count:], position + count

    def _read_some(self, buffer: memoryview, position: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], position)
        with self._lock:
            self._file.seek(position)
            return self._file.readinto(buffer)


def write_header(path: Path, shape: tuple[int, ...]) -> int:
    """Begins a new file with the header of a uint8 array. Returns the size that the whole file will have."""
    with files.naming(path), open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell() + math.prod(shape)


def _header(file: BinaryIO | Any, path: Path) -> tuple[tuple[int, ...], int]:
    """The shape, and the byte at which the rows start."""
    try:
        if np.lib.format.read_magic(file) != _VERSION:
            raise ValueError("another version")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except OSError:
        raise
    except Exception as error:  # parsing a damaged header may raise anything
        raise ValueError(f"{path} is not an array") from error
    if dtype != np.uint8 or by_columns or not math.prod(shape) or len(shape) < 2:
        raise ValueError(f"{path} is not an array of uint8")
    return shape, file.tell()


Plane = Rows | Pixels  # on disk or in memory
