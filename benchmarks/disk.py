"""Batches from disk beside batches from memory; what the first start and every other one reads; how pixels could be
kept smaller.

    python -m benchmarks.disk                   every table
    python -m benchmarks.disk --only batches    those whose name contains a word

Everything runs alternately with what it is compared to: the median of the pairs, with their range. "Cold" empties the
page cache of the packed files before every pass, so that the disk is read.
"""

from __future__ import annotations

import argparse
import bz2
import functools
import lzma
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import peers
from benchmarks.ours import HYPERPARAMETERS
from segbench import architectures
from segbench.core.labels import DEFAULT
from segbench.data import packing, scenes, streets
from segbench.data.batches import Batches
from segbench.data.reader import Reader
from segbench.engine import training
from segbench.runtime import compute, memory, terminal
from segbench.runtime.compute import Compute
from segbench.runtime.stopwatch import Stopwatch

PHOTOGRAPH = (1024, 2048)  # height, width of a Cityscapes image
SIZES = {(256, 256): (128, 8), PHOTOGRAPH: (8, 2)}  # of packed images -> images, batch
CITYSCAPES = 3475 * 4 * PHOTOGRAPH[0] * PHOTOGRAPH[1] / 1e9  # GB packed at their own size
CROPS = {(256, 256): None, PHOTOGRAPH: (512, 1024)}  # of packed images -> what a network sees of them
CACHE = ("in the page cache", "cold")

Rows = Iterator[list[str]]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--pairs", type=int, default=9, metavar="N")
    arguments = parser.parse_args(argv)
    device = compute.choose("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for table, columns in TABLES.items():
            if arguments.only in table.__name__:
                rows = list(table(folder, device, arguments.pairs))
                terminal.table(f"{table.__name__}, {device.description}", columns, rows)
    return 0


def batches(folder: Path, device: Compute, pairs: int) -> Rows:
    """All batches of one pass, without a network."""
    for size, (images, batch) in SIZES.items():
        data = _packed(folder, size)
        from_disk, resident = _both(data.train, size, images, batch, device)
        for cold in (False, True):
            runs = []
            for epoch in range(pairs + 1):
                if cold:
                    _forget(data)
                runs.append((_seconds(_consume, from_disk, epoch), _seconds(_consume, resident, epoch)))
            speeds = [images / ours for ours, _ in runs[1:]]  # the first pass compares pixels with their digests
            ratios = [theirs / ours for ours, theirs in runs[1:]]
            yield [_shown(size), CACHE[cold], f"{statistics.median(speeds):.0f}", _spread(ratios)]


def steps(folder: Path, device: Compute, pairs: int) -> Rows:
    """Epochs of the smallest network."""
    for size, (images, batch) in SIZES.items():
        data = _packed(folder, size)
        from_disk, resident = _both(data.train, size, min(images, 32), batch, device)
        model, _ = architectures.create("efficientvit", 8, "random", {"size": "b0"}, 0)
        state = training.begin(model, HYPERPARAMETERS, device)
        for cold in (False, True):
            shares, ratios = [], []
            for _ in range(max(pairs // 3, 2)):
                if cold:
                    _forget(data)
                (ours, data_of_ours), (theirs, _) = (_epoch(state, made) for made in (from_disk, resident))
                shares.append(data_of_ours / ours)
                ratios.append(theirs / ours)
            yield [_shown(size), CACHE[cold], _spread(shares, "{:.1%}"), _spread(ratios)]


def _epoch(state: training.State, made: Batches) -> tuple[float, float]:
    """The seconds of an epoch's training, and of those for which it waited for batches and made them."""
    watch = Stopwatch(state.compute.device)
    seconds = _seconds(training._pass, state, made, 1, 0, watch)
    return seconds, watch.seconds()["data"]


def starts(folder: Path, device: Compute, pairs: int) -> Rows:
    """What `search` does before it trains, with everything packed."""
    data = _packed(folder, PHOTOGRAPH)
    root, cache = data.folder.parent / _by(PHOTOGRAPH), data.folder.parent
    gigabytes = sum(os.stat(file).st_size for file in data.folder.rglob("*.npy")) / 1e9

    def without_record() -> None:
        for record in data.folder.rglob("digests.json"):
            record.unlink()
        packing.prepare(root, PHOTOGRAPH, cache)

    runs = [
        (_seconds(lambda: packing.prepare(root, PHOTOGRAPH, cache)), _seconds(without_record)) for _ in range(pairs)
    ]
    kept, read = (statistics.median(side) for side in zip(*runs, strict=True))
    yield [f"{gigabytes:.2f} GB", f"{1e3 * kept:.1f} ms", f"{read:.2f} s", f"{read / gigabytes * CITYSCAPES:.0f} s"]


def decoding(folder: Path, device: Compute, pairs: int) -> Rows:
    """One scene on one core, into 256×256."""
    root = _packed(folder, PHOTOGRAPH).folder.parent / _by(PHOTOGRAPH)
    scene = scenes.find(root, "train")[0][0]
    theirs = peers.Photographs(root, "train", (256, 256))

    def ours() -> None:
        packing._decode(scene, (256, 256), DEFAULT)

    runs = [(_seconds(ours), _seconds(theirs.__getitem__, 0)) for _ in range(3 * pairs)]
    milliseconds = [1e3 * statistics.median(side) for side in zip(*runs, strict=True)]
    yield [*(f"{value:.0f}" for value in milliseconds), _spread([theirs / ours for ours, theirs in runs])]


def compression(folder: Path, device: Compute, pairs: int) -> Rows:
    """What the standard library's lossless compressions make of a packed scene, on one core."""
    for size in SIZES:
        data = _packed(folder, size).train
        image, labels = data.images[0], data.labels[0]
        plain = statistics.median(_seconds(lambda rows: [rows.images[0], rows.labels[0]], data) for _ in range(pairs))
        # The difference to the pixel on the left, as PNG's filter Sub: photographs are smooth.
        difference = np.diff(image, axis=1, prepend=np.zeros_like(image[:, :1]))
        for name, pack, unpack in COMPRESSIONS:
            parts = [pack(each.tobytes()) for each in (difference, labels)]
            seconds = statistics.median(_seconds(_unpacked, parts, unpack, image.shape) for _ in range(pairs))
            share = sum(map(len, parts)) / (image.nbytes + labels.nbytes)
            yield [_by(size), name, f"{share:.0%}", f"{1 / seconds:.0f}", f"{1 / plain:.0f}"]


def _unpacked(parts: list[bytes], unpack: Callable[[bytes], bytes], shape: tuple[int, ...]) -> list[object]:
    difference, labels = (np.frombuffer(unpack(part), np.uint8) for part in parts)
    return [np.add.accumulate(difference.reshape(shape), axis=1, dtype=np.uint8), labels]


COMPRESSIONS: list[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = [
    ("zlib 1", functools.partial(zlib.compress, level=1), zlib.decompress),
    ("zlib 6", functools.partial(zlib.compress, level=6), zlib.decompress),
    ("bz2 1", functools.partial(bz2.compress, compresslevel=1), bz2.decompress),
    ("lzma 0", functools.partial(lzma.compress, preset=0), lzma.decompress),
]
TABLES: dict[Callable[[Path, Compute, int], Rows], list[str]] = {
    batches: ["packed", "files", "images/s from disk", "as fast as resident (range)"],
    steps: ["packed", "files", "data's share of an epoch", "as fast as resident (range)"],
    starts: ["packed", "start", "start that reads all", f"for Cityscapes, {CITYSCAPES:.1f} GB"],
    decoding: ["ours, ms", "PIL per item, ms", "ratio (range)"],
    compression: ["packed", "compression", "bytes", "images/s unpacked", "images/s read"],
}


def _packed(folder: Path, size: tuple[int, int]) -> packing.Dataset:
    root = folder / "cache" / _by(size)
    if not root.exists():
        streets.write(root, SIZES[size][0], 2, *size, 0)
    return packing.prepare(root, size, folder / "cache")


def _both(
    data: packing.Split, size: tuple[int, int], images: int, batch: int, device: Compute
) -> tuple[Batches, Batches]:
    """The same batches from disk and from memory."""
    make = functools.partial(Batches, data, np.arange(images), batch, device.device, crop=CROPS[size])
    with mock.patch.object(memory, "available", return_value=0):
        from_disk = make()
    assert isinstance(from_disk._rows, Reader)
    return from_disk, make()


def _consume(made: Batches, epoch: int) -> None:
    for _ in made.shuffled(0, epoch):
        pass


def _forget(data: packing.Dataset) -> None:
    """Empties the page cache of the packed files."""
    for path in (data.folder / "train").glob("*.npy"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _shown(size: tuple[int, int]) -> str:
    crop = CROPS[size]
    return f"{_by(size)}, crops of {_by(crop)}" if crop else _by(size)


def _spread(values: list[float], form: str = "{:.2f}") -> str:
    median, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low}–{high})"


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
