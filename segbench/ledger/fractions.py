"""Trainings on a fraction of the final training images, beside the promotions.

<storage>/models/<study>/fractions/<images>-seed<k>/fraction.json     what it is; written last
                                                   /confusions.npz    as a promotion's
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from segbench.core import artefacts, files, paths
from segbench.core.records import EpochRecord, Hyperparameters, from_json, to_json

_FOLDER = re.compile(r"(\d+)-seed(\d+)")


@dataclass(frozen=True)
class Fraction:
    """One training on some of the images."""

    fingerprint: str  # of the protocol and the architecture
    data_fingerprint: str
    hyperparameters: Hyperparameters
    train_images: int
    val_images: int
    epochs: int
    seed: int
    precision: str  # of forward passes: "bf16" | "fp32"
    best: EpochRecord


def read(folder: Path) -> Fraction | None:
    """None if the training is unfinished, or its file damaged."""
    try:
        return from_json(Fraction, json.loads((folder / artefacts.FRACTION).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write(folder: Path, fraction: Fraction) -> None:
    """Atomically. Raises OSError."""
    with files.replaced(folder / artefacts.FRACTION) as partial:
        partial.write_text(json.dumps(to_json(fraction), indent=1), encoding="utf-8")


def of_study(study: str) -> list[tuple[Path, Fraction]]:
    """The finished ones of a study with their folders, in order of images and seed."""
    root = paths.fractions_folder(study)
    named = [(match, path) for path in root.glob("*-seed*") if (match := _FOLDER.fullmatch(path.name))]
    ordered = [path for match, path in sorted(named, key=lambda pair: (int(pair[0][1]), int(pair[0][2])))]
    return [(path, fraction) for path in ordered if (fraction := read(path))]
