"""Where batches get their rows: copied once onto the device where they fit, else read from disk while the device works.

Both give the same rows in the same order, so that the size of the memory changes no result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from segbench.core.errors import UserError
from segbench.data.digests import Digests
from segbench.data.rows import Plane, Rows
from segbench.data.subsets import Indices
from segbench.runtime import memory

_SHARE = 4  # the rows are copied if they take less than one part in so many of the free memory
_AHEAD = 3  # batches: one in use, one ready, one being read
_COPIED = 8  # rows read at once while they are copied


class Reader:
    """Chosen rows of some arrays, read batch by batch by a thread that is ahead of its caller."""

    def __init__(
        self, planes: Sequence[Plane], indices: Indices, device: torch.device, digests: Digests | None = None
    ) -> None:
        self._planes = planes
        self._indices = indices
        self._device = device
        self._digests = digests

    def __len__(self) -> int:
        return len(self._indices)

    def gather(self, batches: Sequence[Tensor]) -> Generator[list[Tensor], None, None]:
        """For each batch, (B,) positions among the chosen rows, one uint8 tensor (B, …) per array, on the device. The
        thread ends with the iterator, also if it is closed before its end.

        Raises UserError if a file cannot be read or a row is not what was packed.
        """
        pool = ThreadPoolExecutor(1, "reader")
        waiting, running = iter(batches), deque[Future[list[Tensor]]]()
        try:
            while True:
                for rows in islice(waiting, _AHEAD - len(running)):
                    running.append(pool.submit(self._read, self._indices[rows.numpy()], self._buffers(len(rows))))
                if not running:
                    return
                yield [pixels.to(self._device, non_blocking=True) for pixels in running.popleft().result()]
        except OSError as error:
            raise UserError(
                f"{error.filename}: packed images cannot be read: {error.strerror}; check the disk and rerun"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def rows(self, plane: int) -> Iterator[Tensor]:
        """Each chosen row of one array, on the CPU."""
        return (torch.from_numpy(self._planes[plane][int(index)]) for index in self._indices)

    def _buffers(self, number: int) -> list[Tensor]:
        """New tensors, made by the caller's thread: what another thread frees, the C library gives back to the system,
        and the page faults of new memory made a full-size row take four times as long. On CUDA they are pinned, so that
        they are copied while the device works; PyTorch gives their memory out again when the device has copied it."""
        pinned = self._device.type == "cuda"
        shapes = [(number, *plane.shape[1:]) for plane in self._planes]
        return [torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for shape in shapes]

    def _read(self, rows: Indices, buffers: list[Tensor]) -> list[Tensor]:
        for plane, pixels in zip(self._planes, buffers, strict=True):
            if isinstance(plane, Rows):
                plane.read(rows, pixels.numpy())
            else:
                np.take(plane, rows, 0, pixels.numpy())
        if self._digests:
            for index, row in enumerate(rows.tolist()):
                self._digests.check(row, *(pixels[index].numpy() for pixels in buffers))
        return buffers


class Resident:
    """The rows of a reader, copied once: on the device, or in memory where the device has none of its own."""

    def __init__(self, reader: Reader, planes: Sequence[Plane], device: torch.device) -> None:
        """Raises UserError as `Reader.gather`."""
        place = device if device.type == "cuda" else torch.device("cpu")
        shapes = [(len(reader), *plane.shape[1:]) for plane in planes]
        self._tensors = [torch.empty(shape, dtype=torch.uint8, device=place) for shape in shapes]
        self._device = device
        blocks = torch.split(torch.arange(len(reader)), _COPIED)
        for rows, read in zip(blocks, reader.gather(blocks), strict=True):
            for tensor, pixels in zip(self._tensors, read, strict=True):
                tensor[rows[0] : rows[-1] + 1] = pixels

    def gather(self, batches: Sequence[Tensor]) -> Generator[list[Tensor], None, None]:
        """As `Reader.gather`."""
        for rows in batches:
            chosen = rows.to(self._tensors[0].device)
            yield [tensor.index_select(0, chosen).to(self._device) for tensor in self._tensors]

    def rows(self, plane: int) -> Iterator[Tensor]:
        """Each row of one array, on the CPU."""
        return (row.cpu() for row in self._tensors[plane])


def source(
    planes: Sequence[Plane], indices: Indices, device: torch.device, digests: Digests | None = None
) -> Reader | Resident:
    """The rows `indices` of arrays of equal length, copied if they fit beside the network and other processes."""
    reader = Reader(planes, indices, device, digests)
    wanted = len(indices) * sum(plane.nbytes // len(plane) for plane in planes)
    return Resident(reader, planes, device) if wanted < _free(device) // _SHARE else reader


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.available()
