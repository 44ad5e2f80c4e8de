"""A dataset decoded once: uint8 memory maps at the protocol's size, so that no epoch decodes a PNG again.

<cache>/<key>/<split>/images.npy   (N, H, W, 3) uint8, RGB
                      labels.npy   (N, H, W) uint8, raw Cityscapes ids
                      done.jsonl   one line per packed scene: what resuming and the fingerprint need
                      manifest.json  written last; without it the folder is unfinished
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from segbench.core import files
from segbench.core import labels as table
from segbench.data import scenes
from segbench.data.scenes import Problem, Scene
from segbench.runtime.terminal import Advance

_LAYOUT = 1  # raise it when the arrays' meaning changes: old caches are then left alone and new ones made


@dataclass(frozen=True)
class Split:
    """One packed split, opened read-only; pages come from disk as they are touched."""

    images: NDArray[np.uint8]  # (N, H, W, 3) RGB
    labels: NDArray[np.uint8]  # (N, H, W) raw ids
    names: tuple[str, ...]
    cities: tuple[str, ...]
    histogram: NDArray[np.int64]  # (256,) pixels per raw id, counted at the photographs' own size
    void_only: tuple[str, ...]  # scenes without a single labelled pixel
    digest: str  # sha256 of the content

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    size: tuple[int, int]  # (height, width)
    folder: Path

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of the content, the same on every machine."""
        return hashlib.sha256((self.train.digest + self.val.digest).encode()).hexdigest()[:12]


class DamagedScenes(Exception):
    """Some scenes cannot be used; `problems` names all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


class _Line(NamedTuple):
    """What done.jsonl keeps of one scene."""

    name: str
    stamp: list[int]  # sizes and modification times of the two files: a changed file is packed again
    digest: str  # sha256 of the packed pixels
    ids: dict[str, int]  # raw id -> pixels at the photograph's own size


def prepare(root: Path, size: tuple[int, int], cache: Path, advance: Advance = lambda text="": None) -> Dataset:
    """Verifies and packs the dataset at `root` unless that is done, and opens it. `size` is (height, width).

    `advance` is called once per scene. Interrupted packing goes on where it stopped. Raises UserError for missing
    folders and DamagedScenes naming every unusable file; then nothing is marked as finished.
    """
    found = {split: scenes.find(root, split) for split in scenes.SPLITS}
    problems = [problem for _, missing in found.values() for problem in missing]
    folder = cache / _key(root, size)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, (pairs, _) in found.items():
        with FileLock(folder / f"{split}.lock"):
            problems += _pack(root, pairs, folder / split, size, advance)
        if not problems:
            splits[split] = open_split(folder / split)
    if problems:
        raise DamagedScenes(problems)
    return Dataset(splits["train"], splits["val"], size, folder)


def count(root: Path) -> int:
    """How many scenes `prepare` will go through."""
    return sum(len(scenes.find(root, split)[0]) for split in scenes.SPLITS)


def open_split(folder: Path) -> Split:
    """Opens a finished split."""
    manifest = json.loads((folder / "manifest.json").read_text())
    lines = [_Line(**line) for line in manifest["scenes"]]
    histogram = np.zeros(256, np.int64)
    void_only = []
    for line in lines:
        for raw, pixels in line.ids.items():
            histogram[int(raw)] += pixels
        if all(table.CATEGORY_OF_RAW[int(raw)] == table.VOID for raw in line.ids):
            void_only.append(line.name)
    return Split(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy", mmap_mode="r"),
        names=tuple(line.name for line in lines),
        cities=tuple(line.name.split("/")[0] for line in lines),
        histogram=histogram,
        void_only=tuple(void_only),
        digest=hashlib.sha256("".join(line.name + line.digest for line in lines).encode()).hexdigest(),
    )


def _key(root: Path, size: tuple[int, int]) -> str:
    place = hashlib.sha256(f"{_LAYOUT} {root.resolve()}".encode()).hexdigest()[:8]
    return f"{root.resolve().name}-{size[0]}x{size[1]}-{place}"


def _pack(root: Path, pairs: list[Scene], folder: Path, size: tuple[int, int], advance: Advance) -> list[Problem]:
    """Packs what is not packed yet, marks the split finished where nothing is wrong, and returns what is wrong."""
    stamps = [_stamp(scene) for scene in pairs]
    manifest = folder / "manifest.json"
    wanted = [[scene.name, stamp] for scene, stamp in zip(pairs, stamps, strict=True)]
    if manifest.is_file() and [[s["name"], s["stamp"]] for s in json.loads(manifest.read_text())["scenes"]] == wanted:
        for _ in pairs:
            advance()
        return []
    manifest.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    images = _array(folder / "images.npy", (len(pairs), *size, 3))
    labels = _array(folder / "labels.npy", (len(pairs), *size))
    known = _journal(folder / "done.jsonl")
    lines: list[_Line | None] = [None] * len(pairs)
    todo = []
    for index, (scene, stamp) in enumerate(zip(pairs, stamps, strict=True)):
        line = known.get(scene.name)
        # The journal may be newer than the arrays after a power cut, so the pixels themselves are asked.
        if line and line.stamp == stamp and line.digest == _digest(images[index], labels[index]):
            lines[index] = line
            advance(scene.name)
        else:
            todo.append(index)

    problems = []
    with open(folder / "done.jsonl", "a", encoding="utf-8") as journal:
        for index, result in _decoded(pairs, todo, size):
            if isinstance(result, str):
                problems.append(Problem(_which(root, pairs[index], result), result))
            else:
                images[index], labels[index], ids = result
                line = _Line(pairs[index].name, stamps[index], _digest(images[index], labels[index]), ids)
                lines[index] = line
                journal.write(json.dumps(line._asdict()) + "\n")
                journal.flush()
            advance(pairs[index].name)
    if not problems:
        images.flush()
        labels.flush()
        with files.replaced(manifest) as partial:
            partial.write_text(json.dumps({"size": size, "scenes": [line._asdict() for line in lines if line]}))
    return sorted(problems)


def _decoded(pairs: list[Scene], todo: list[int], size: tuple[int, int]) -> Iterator[tuple[int, Any]]:
    """(index, packed pixels or what is wrong) as threads finish. PIL decodes and resizes outside Python's lock.

    At most four scenes per thread are in flight, so memory does not grow with the dataset.
    """
    workers = os.cpu_count() or 1
    waiting = iter(todo)
    with ThreadPoolExecutor(workers) as pool:
        running = {}
        try:
            while True:
                for index in waiting:
                    running[pool.submit(_decode, pairs[index], size)] = index
                    if len(running) >= 4 * workers:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(scene: Scene, size: tuple[int, int]) -> tuple[Any, Any, dict[str, int]] | str:
    """The scene's packed image, packed labels and pixels per raw id, or one sentence saying what is wrong with it."""
    height, width = size
    try:
        with Image.open(scene.labels) as file:
            if file.mode not in ("L", "P"):
                return f"labels are {file.mode} pixels; expected 8-bit label ids (is this a colour or instance file?)"
            ids = file.copy()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"labels cannot be read: {error}"
    try:
        with Image.open(scene.image) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"image cannot be read: {error}"
    if image.size != ids.size:
        return f"image is {_by(image.size)}, labels are {_by(ids.size)} (height x width); expected the same"
    pixels = np.bincount(np.asarray(ids).reshape(-1), minlength=256)
    unknown = [raw for raw in np.flatnonzero(pixels) if table.CATEGORY_OF_RAW[raw] == table.UNKNOWN]
    if unknown:
        return f"labels hold ids Cityscapes does not have: {', '.join(map(str, unknown[:5]))}; expected 0..33 or 255"
    packed = image.resize((width, height), Image.Resampling.BILINEAR)
    nearest = ids.resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(packed), np.asarray(nearest), {str(raw): int(pixels[raw]) for raw in np.flatnonzero(pixels)}


def _which(root: Path, scene: Scene, what: str) -> str:
    return str((scene.labels if what.startswith("labels") else scene.image).relative_to(root))


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _stamp(scene: Scene) -> list[int]:
    image, labels = scene.image.stat(), scene.labels.stat()
    return [image.st_size, image.st_mtime_ns, labels.st_size, labels.st_mtime_ns]


def _array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """The array at `path` where it has this shape, else a fresh one."""
    try:
        existing = np.lib.format.open_memmap(path, mode="r+")
        if existing.shape == shape and existing.dtype == np.uint8:
            return existing
    except (OSError, ValueError):
        pass
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _journal(path: Path) -> dict[str, _Line]:
    known = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = _Line(**json.loads(text))
            except (ValueError, TypeError):
                continue  # the line a kill cut short
            known[line.name] = line
    return known


def _digest(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    total = hashlib.sha256(np.ascontiguousarray(image).data)
    total.update(np.ascontiguousarray(labels).data)
    return total.hexdigest()
