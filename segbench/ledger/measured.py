"""What promotion measured of a model's errors and of its confidence: two files beside its card.

The counts are of one image each, so that the report can resample images; see `stats.behaviour`, `stats.calibration`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from segbench.core import files
from segbench.stats.behaviour import Behaviour

VERSION = 1  # raise it when a measure changes: `promote` then measures again

Kind = TypeVar("Kind")


class Errors(NamedTuple):
    """The kinds of errors on N validation images, evenly spread."""

    names: tuple[str, ...]  # of the images
    model: Behaviour  # (N, …)
    ceiling: Behaviour  # (N, …): of the best map that fits the network's grid
    grid: tuple[int, int]  # (h, w) of the network's scores
    looks: NDArray[np.int64]  # (N, C, 4, BINS) histograms of the true classes, by `stats.texture.appearance`


class Reliability(NamedTuple):
    """How sure the model was on N validation images."""

    names: tuple[str, ...]
    bins: NDArray[np.float64]  # (N, BINS, 3) by confidence, as `stats.calibration.reliability` takes it
    entropies: NDArray[np.float64]  # (N, ENTROPIES, 2) by entropy: right and wrong pixels
    tempered: NDArray[np.float64]  # `bins` after division by the temperature
    temperature: float  # fitted on selection images
    selection: int  # how many
    held_out: bool  # whether the full training never saw them


def write_errors(path: Path, errors: Errors) -> None:
    """Atomically. Raises OSError."""
    counts = {f"{side}_{name}": part for side in ("model", "ceiling") for name, part in _parts(errors, side).items()}
    _write(path, errors.names, grid=np.array(errors.grid), looks=errors.looks, **counts)


def read_errors(path: Path) -> Errors | None:
    """None where the file is missing, damaged or of another version."""

    def made(file: Any, names: tuple[str, ...]) -> Errors:
        model, ceiling = (Behaviour(*(file[f"{s}_{part}"] for part in Behaviour._fields)) for s in ("model", "ceiling"))
        height, width = file["grid"].tolist()
        return Errors(names, model, ceiling, (height, width), file["looks"])

    return _read(path, made)


def write_reliability(path: Path, found: Reliability) -> None:
    """Atomically. Raises OSError."""
    parts = found._asdict()
    _write(path, parts.pop("names"), **{name: np.asarray(value) for name, value in parts.items()})


def read_reliability(path: Path) -> Reliability | None:
    """None where the file is missing, damaged or of another version."""

    def made(file: Any, names: tuple[str, ...]) -> Reliability:
        counts = (file["bins"], file["entropies"], file["tempered"])
        rest = float(file["temperature"]), int(file["selection"]), bool(file["held_out"])
        return Reliability(names, *counts, *rest)

    return _read(path, made)


def _parts(errors: Errors, side: str) -> dict[str, NDArray[np.floating]]:
    return dict(getattr(errors, side)._asdict())


def _write(path: Path, names: tuple[str, ...], **arrays: NDArray[Any]) -> None:
    with files.replaced(path) as partial, open(partial, "wb") as file:
        content: dict[str, Any] = {"version": np.array(VERSION), "names": np.array(names), **arrays}
        np.savez_compressed(file, **content)


def _read(path: Path, made: Callable[[Any, tuple[str, ...]], Kind]) -> Kind | None:
    try:
        with np.load(path) as file:
            if int(file["version"]) != VERSION:
                return None
            return made(file, tuple(str(name) for name in file["names"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
