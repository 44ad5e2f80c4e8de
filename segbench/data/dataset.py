"""The dataset of a protocol: drawn or given, verified, packed once, opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from segbench.core import paths
from segbench.core.crops import ORIGINAL
from segbench.core.errors import UserError
from segbench.core.panoptic import PANOPTIC
from segbench.core.protocol import Protocol, Streets
from segbench.data import layouts, packing, streets
from segbench.data.scenes import Problem
from segbench.runtime import terminal

_PROBLEMS_SHOWN = 50


def ready(protocol: Protocol, data: str | None) -> packing.Dataset:
    """Draws, verifies and packs the dataset as far as necessary, and opens it.

    `data`: the value of --data. Raises UserError if there is no dataset or some of its files are unusable; those are
    listed on the terminal and in the error's note.
    """
    try:
        root, layout = root_of(protocol, data), layouts.of(protocol.data)
        with terminal.progress("packing", packing.count(root, layout)) as advance:
            packed = packing.prepare(root, protocol.data.size, paths.cache(), advance, protocol.data.labels, layout)
        _require_instances(packed.train, root)
        if protocol.final.score_at != ORIGINAL:
            return packed
        return dataclasses.replace(packed, originals=tuple(scene.labels for scene in layout.find(root, "val")[0]))
    except packing.DamagedScenes as damaged:
        lines = [f"{problem.file}: {problem.what}" for problem in damaged.problems[:_PROBLEMS_SHOWN]]
        hidden = len(damaged.problems) - _PROBLEMS_SHOWN
        lines += [f"… and {hidden} more"] if hidden > 0 else []
        lines += [
            f"not in the label set: {value}, {pixels} pixels in {number} masks, such as {example.file}"
            for value, pixels, number, example in strange(damaged.problems)[:_PROBLEMS_SHOWN]
        ]
        for line in lines:
            terminal.result(line)
        number = len(damaged.problems)
        error = UserError(
            f"{number} file{'s' * (number > 1)} in {root} cannot be used (see the list); fix or remove them and rerun: "
            "packed scenes are kept"
        )
        error.add_note("\n".join(lines))  # the Python API prints nothing: the traceback lists them
        raise error from damaged
    except OSError as error:
        raise UserError(
            f"{error.filename or paths.cache()}: {error.strerror or error}; packing reads the dataset and writes to "
            f"{paths.cache()}. Fix that (is a disk full?) and rerun: packed scenes are kept"
        ) from error


class Strange(NamedTuple):
    """A value of masks that the label set does not have."""

    value: str  # in words: "id 34", "colour [1, 2, 3]"
    pixels: int
    masks: int
    example: Problem  # the mask with most of its pixels


def strange(problems: Sequence[Problem]) -> list[Strange]:
    """What the label set lacks, most pixels first."""
    values: dict[str, list[tuple[int, Problem]]] = {}
    for problem in problems:
        for value, pixels in problem.unknown:
            values.setdefault(value, []).append((pixels, problem))
    found = [Strange(value, sum(n for n, _ in seen), len(seen), max(seen)[1]) for value, seen in values.items()]
    return sorted(found, key=lambda each: -each.pixels)


def _require_instances(train: packing.Split, root: Path) -> None:
    """Raises UserError if instances are known, and no image has one."""
    plane = train.instances
    if plane is not None and not any(plane[index].any() for index in range(len(train))):
        raise UserError(
            f"no training image in {root} has an instance: the instance files hold label ids alone; expected "
            "label * 1000 + k in each instance, as in Cityscapes' *_instanceIds.png"
        )


def root_of(protocol: Protocol, data: str | None) -> Path:
    """Where the protocol's scenes lie, drawn first if it draws them. Raises UserError if it has no dataset."""
    if protocol.data.streets is not None:
        if data:
            raise UserError(
                f"protocol '{protocol.name}' draws its own streets ([data.streets]) and would not use --data {data}; "
                "drop --data, or choose another protocol with --protocol"
            )
        return _drawn(protocol.data.streets, protocol.data.task == PANOPTIC)
    root = paths.dataset(data)
    if root is None:
        raise UserError(
            f"protocol '{protocol.name}' needs a dataset: give --data DIR or set {paths.DATASET_VARIABLE} to the "
            f"folder that holds {_expected(protocol)}; or use --protocol demo, which draws its own"
        )
    return root


def _expected(protocol: Protocol) -> str:
    data = protocol.data
    return (
        f"{data.images} and {data.masks}"
        if data.layout == "pairs"
        else "leftImg8bit/ and gtFine/, or their .zip archives"
    )


def _drawn(spec: Streets, instances: bool) -> Path:
    height, width = spec.size
    cache = paths.writable(paths.cache(), "SEGBENCH_STORAGE")
    name = f"streets-{spec.train}+{spec.val}-{height}x{width}-seed{spec.seed}"
    folder = cache / f"{name}-instances" if instances else cache / name  # folders drawn earlier have none
    with FileLock(folder.with_suffix(".lock")):  # searches and hosts that start together draw once
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            with terminal.progress("drawing streets", spec.train + spec.val) as advance:
                streets.write(partial, spec.train, spec.val, height, width, spec.seed, advance, instances=instances)
            partial.rename(folder)
    return folder
