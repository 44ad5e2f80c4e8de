"""Packs a dataset once into uint8 arrays at the protocol's size, so that no epoch decodes PNGs.

<cache>/<key>/<split>/images.npy   (N, H, W, 3) uint8, RGB
                      labels.npy   (N, H, W) uint8, raw ids
                      instances.npy  (N, H, W) uint8, of panoptic protocols, see core/panoptic.py
                      done.jsonl   one line per packed scene, for resuming and for the fingerprint
                      manifest.json  written at the end; without it the folder is unfinished
                      digests.json  what the rows were when the split was last found complete
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from segbench.core import files
from segbench.core.labels import DEFAULT, IGNORED, LabelSet
from segbench.data import archives, digests, journal, masks, pictures, scenes, space
from segbench.data.archives import File
from segbench.data.arrays import Arrays, create, digest, remove
from segbench.data.digests import Digests
from segbench.data.journal import Line
from segbench.data.layouts import CITYSCAPES, Layout
from segbench.data.rows import Plane
from segbench.data.scenes import Problem, Scene
from segbench.runtime import memory, pools
from segbench.runtime.terminal import Advance

_WORTH_A_PROCESS = 64 << 20  # bytes of photographs: a second of decoding, several times what a start takes
_PROCESS_TAKES = 256 << 20  # bytes of memory
_LAYOUT = 1  # raise it when the arrays' meaning changes: then new caches are made beside old ones


@dataclass(frozen=True)
class Split:
    """One packed split, opened read-only; its rows are read from disk on access."""

    images: Plane  # (N, H, W, 3) uint8 RGB
    labels: Plane  # (N, H, W) uint8 raw ids
    names: tuple[str, ...]
    cities: tuple[str, ...]
    histogram: NDArray[np.int64]  # (256,) pixels per raw id, counted at the photographs' own size
    void_only: tuple[str, ...]  # scenes without a labelled pixel
    aspects: NDArray[np.float64]  # (N,) width / height of the photographs, which packing may squeeze; NaN if unknown
    digest: str  # SHA-256 of the content
    label_set: LabelSet  # what the raw ids mean
    instances: Plane | None = None  # (N, H, W), of panoptic protocols: see core/panoptic.py
    digests: Digests | None = None  # of the scenes, if they are on disk

    def __len__(self) -> int:
        return len(self.names)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Images and labels; instances, if there are."""
        return (self.images, self.labels, *(() if self.instances is None else (self.instances,)))


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    size: tuple[int, int]  # (height, width)
    folder: Path
    originals: tuple[File, ...] = ()  # the masks of `val` in the dataset, if [final] score_at needs them

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of the content, the same on every machine."""
        return hashlib.sha256((self.train.digest + self.val.digest).encode()).hexdigest()[:12]


class DamagedScenes(Exception):
    """Some scenes cannot be used; `problems` lists them all."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


class _Bad(NamedTuple):
    """Why a scene cannot be packed."""

    file: File
    what: str
    unknown: tuple[tuple[str, int], ...] = ()  # as in Problem


class _Decoded(NamedTuple):
    planes: list[NDArray[Any]]
    digest: str
    ids: dict[str, int]  # pixels per raw id
    size: list[int]  # the photograph's own: height, width


def prepare(
    root: Path,
    size: tuple[int, int],
    cache: Path,
    advance: Advance = lambda text="": None,
    label_set: LabelSet = DEFAULT,
    layout: Layout = CITYSCAPES,
) -> Dataset:
    """Verifies and packs the dataset at `root` as far as necessary, and opens it. `size` is (height, width).

    Packed scenes whose files have changed are checked against their digests, and damaged ones are packed again; see
    digests.py. `advance` is called once per scene. Interrupted packing resumes. Raises UserError for missing folders
    and if the disk lacks space, DamagedScenes with every unusable file (then nothing is marked as finished), and
    OSError.
    """
    listings = {split: layout.find(root, split) for split in scenes.SPLITS}
    problems = [problem for _, unusable in listings.values() for problem in unusable]
    folder = cache / _key(root, size, cache, layout.identity)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, (pairs, unusable) in listings.items():
        with FileLock(folder / f"{split}.lock"):
            if pairs:
                later = scenes.SPLITS[scenes.SPLITS.index(split) :]
                space.require(folder, {one: len(listings[one][0]) for one in later}, size, layout.panoptic)
                problems += _pack(root, pairs, folder / split, size, label_set, advance, complete=not unusable)
            if not problems:
                splits[split] = open_split(folder / split, label_set, layout.panoptic)
    if problems:
        raise DamagedScenes(problems)
    return Dataset(splits["train"], splits["val"], size, folder)


def count(root: Path, layout: Layout = CITYSCAPES) -> int:
    """The number of scenes that `prepare` processes."""
    return sum(len(layout.find(root, split)[0]) for split in scenes.SPLITS)


def open_split(folder: Path, label_set: LabelSet = DEFAULT, panoptic: bool = False) -> Split:
    """Opens a finished split. Raises OSError or ValueError if it is unfinished or damaged."""
    lines, arrays = journal.finished(folder), Arrays(folder, panoptic)
    if not lines or len(lines) != len(arrays):
        raise ValueError(f"{folder} is not packed completely")
    histogram = np.zeros(256, np.int64)
    void_only = []
    for line in lines:
        for raw, pixels in line.ids.items():
            histogram[int(raw)] += pixels
        if all(label_set.class_of_raw[int(raw)] in (IGNORED, *label_set.void) for raw in line.ids):
            void_only.append(line.name)
    return Split(
        images=arrays.images,
        labels=arrays.labels,
        names=tuple(line.name for line in lines),
        cities=tuple(line.name.split("/")[0] for line in lines),
        histogram=histogram,
        void_only=tuple(void_only),
        aspects=np.array([line.size[1] / line.size[0] if line.size else np.nan for line in lines]),
        digest=hashlib.sha256("".join(line.name + line.digest for line in lines).encode()).hexdigest(),
        label_set=label_set,
        instances=arrays.instances,
        digests=Digests(folder, [line.name for line in lines], [line.digest for line in lines]),
    )


def _key(root: Path, size: tuple[int, int], cache: Path, identity: str) -> str:
    """The name of a packed dataset's folder. It depends on the dataset's path, which is taken relative to the storage
    if it is inside, as drawn streets are, because the storage may be moved."""
    path, storage = root.resolve(), cache.resolve().parent
    name = shown_name(path)
    if path.is_relative_to(storage):
        path = path.relative_to(storage)
    digest = hashlib.sha256(f"{_LAYOUT} {path}{identity}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{name}-{size[0]}x{size[1]}-{digest}"


def shown_name(root: Path) -> str:
    """What the folder of a packed dataset begins with: the name of the dataset's."""
    return re.sub(r"[^\w.-]", "_", root.name)[:60] or "root"


def _pack(
    root: Path,
    pairs: list[Scene],
    folder: Path,
    size: tuple[int, int],
    label_set: LabelSet,
    advance: Advance,
    complete: bool,
) -> list[Problem]:
    """Packs the scenes that are not packed yet, and returns those with problems. Without problems, and if `complete`,
    marks the split as finished."""
    _make_folder(folder)
    stamps = [_stamp(scene) for scene in pairs]
    arrays, lines = _kept(folder, pairs, stamps, size, label_set)
    todo = [index for index, line in enumerate(lines) if line is None]
    if todo or not complete or journal.finished(folder) != lines:
        (folder / journal.MANIFEST).unlink(missing_ok=True)
    for scene, line in zip(pairs, lines, strict=True):
        if line:
            advance(scene.name)
    problems = []
    with open(folder / journal.JOURNAL, "a", encoding="utf-8") as file:
        scenes_to_do = {index: pairs[index] for index in todo}
        for index, result in _decoded(scenes_to_do, size, label_set):
            if isinstance(result, _Bad):
                path = str(result.file.relative_to(root))
                problems.append(Problem(path, result.what, pairs[index].name, result.unknown))
            else:
                arrays.write(index, *result.planes)
                line = Line(pairs[index].name, stamps[index], result.digest, result.ids, result.size)
                lines[index] = line
                file.write(json.dumps(line._asdict()) + "\n")
                file.flush()
            advance(pairs[index].name)
    if complete and not problems and not (folder / journal.MANIFEST).exists():
        arrays.flush()
        with files.replaced(folder / journal.MANIFEST) as partial:
            partial.write_text(json.dumps({"size": size, "scenes": [line._asdict() for line in lines if line]}))
    if complete and not problems:
        digests.record(arrays, folder, [line.digest for line in lines if line])
    return sorted(problems)


def _make_folder(folder: Path) -> None:
    """Creates the folder, and removes what is in its way: a file at its path, or a folder or pipe at a file's."""
    if not folder.is_dir():
        remove(folder)
    folder.mkdir(exist_ok=True)
    for name in (journal.JOURNAL, journal.MANIFEST, digests.RECORD):
        if not (folder / name).is_file():
            remove(folder / name)


def _kept(
    folder: Path, pairs: list[Scene], stamps: list[list[int]], size: tuple[int, int], label_set: LabelSet
) -> tuple[Arrays, list[Line | None]]:
    """The split's arrays, one row per scene, and for each scene its line if it is packed already, else None.

    The pixels decide, not the journal, which may be newer than they are after a power cut. If scenes were added or
    removed, the known rows are copied into new arrays. A line of an earlier version, without the photograph's size, is
    as good as none, and so is one packed under a label set that knows more ids: its problem is then found.
    """
    panoptic = pairs[0].instances is not None
    try:
        old = Arrays(folder, panoptic)
        on_disk = digests.of(old, folder) if old.size == size else []
    except (OSError, ValueError):
        on_disk = []
    row_of = {digest: row for row, digest in enumerate(on_disk)}
    known = journal.read(folder)
    lines: list[Line | None] = []
    rows: list[int | None] = []  # the scenes' rows in the old arrays
    for index, (scene, stamp) in enumerate(zip(pairs, stamps, strict=True)):
        line = known.get(scene.name)
        usable = line and line.stamp == stamp and line.size and not label_set.unknown(map(int, line.ids))
        row = row_of.get(line.digest) if line and usable else None
        if line and row is not None and index < len(on_disk) and on_disk[index] == line.digest:
            row = index  # scenes with equal pixels each keep their row
        rows.append(row)
        lines.append(line if row is not None else None)
    if len(on_disk) == len(pairs) and all(row in (index, None) for index, row in enumerate(rows)):
        return old, lines
    arrays = create(folder, len(pairs), size, panoptic)
    for index, row in enumerate(rows):
        if row is not None:
            arrays.write(index, *old.row(row))
    return arrays, lines


def _decoded(
    todo: dict[int, Scene], size: tuple[int, int], label_set: LabelSet
) -> Iterator[tuple[int, _Decoded | _Bad]]:
    """Yields (index, packed pixels or the problem) as processes finish, or threads if there is little to do.

    At most four scenes per worker are in flight, so memory does not grow with the dataset.
    """
    cores = os.cpu_count() or 1
    bytes_to_decode = sum(archives.stamp(scene.image)[0] for scene in todo.values())
    processes = min(cores, bytes_to_decode // _WORTH_A_PROCESS, memory.available() // _PROCESS_TAKES)
    number, start = (processes, pools.processes) if processes > 1 else (cores, pools.threads)
    waiting = iter(todo.items())
    with start(number) as pool:
        running = {}
        while True:
            for index, scene in waiting:
                running[pool.submit(_decode, scene, size, label_set)] = index
                if len(running) >= 4 * number:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _decode(scene: Scene, size: tuple[int, int], label_set: LabelSet) -> _Decoded | _Bad:
    """The scene packed, or its problem."""
    try:
        ids, counts = masks.counted(scene.labels, label_set)
    except pictures.Unreadable as reason:
        return _Bad(scene.labels, f"labels cannot be read: {reason}")
    except masks.Unknown as unknown:
        return _Bad(scene.labels, f"labels hold {unknown}", tuple(unknown.counts.items()))
    try:
        image = pictures.rgb(pictures.upright(scene.image))
    except pictures.Unreadable as reason:
        return _Bad(scene.image, f"image cannot be read: {reason}")
    if image.size != ids.shape[::-1]:
        sizes = f"image is {image.height}x{image.width}, labels are {ids.shape[0]}x{ids.shape[1]} (height x width)"
        return _Bad(scene.image, f"{sizes}; expected the same")
    planes = [ids]
    if scene.instances is not None:
        try:
            planes.append(masks.instances(scene.instances, ids))
        except pictures.Unreadable as reason:
            return _Bad(scene.instances, f"instances cannot be used: {reason}")
    packed = image.resize(size[::-1], Image.Resampling.BILINEAR)
    nearest = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.NEAREST) for plane in planes]
    arrays = [np.asarray(plane) for plane in (packed, *nearest)]
    ids_in_json = {str(raw): pixels for raw, pixels in counts.items()}
    return _Decoded(arrays, digest(*arrays), ids_in_json, [image.height, image.width])


def _stamp(scene: Scene) -> list[int]:
    files = [file for file in (scene.image, scene.labels, scene.instances) if file is not None]
    return [number for file in files for number in archives.stamp(file)]
