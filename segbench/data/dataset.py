"""The dataset of a protocol: drawn or given, verified, packed once, opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from segbench.core import paths
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
        root, layout = _root(protocol, data), layouts.of(protocol.data)
        with terminal.progress("packing", packing.count(root, layout)) as advance:
            return packing.prepare(root, protocol.data.size, paths.cache(), advance, protocol.data.labels, layout)
    except packing.DamagedScenes as damaged:
        lines = [f"{problem.file}: {problem.what}" for problem in damaged.problems[:_PROBLEMS_SHOWN]]
        hidden = len(damaged.problems) - _PROBLEMS_SHOWN
        lines += [f"… and {hidden} more"] if hidden > 0 else []
        lines += _unknown(damaged.problems)
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


def _unknown(problems: Sequence[Problem]) -> list[str]:
    """What the label set lacks, most pixels first, each with an example."""
    values: dict[str, list[tuple[int, str]]] = {}
    for problem in problems:
        for value, pixels in problem.unknown:
            values.setdefault(value, []).append((pixels, problem.file))
    order = sorted(values, key=lambda value: -sum(pixels for pixels, _ in values[value]))
    return [
        f"not in the label set: {value}, {sum(n for n, _ in values[value])} pixels in {len(values[value])} masks, "
        f"such as {max(values[value])[1]}"
        for value in order[:_PROBLEMS_SHOWN]
    ]


def _root(protocol: Protocol, data: str | None) -> Path:
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
    return f"{data.images} and {data.masks}" if data.layout == "pairs" else "leftImg8bit/ and gtFine/"


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
