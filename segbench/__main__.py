"""segbench: which segmentation architecture for street scenes? Search, promote, report.

    python -m segbench.search  [ARCHITECTURE]   search hyperparameters, one independent study per architecture
    python -m segbench.promote [ARCHITECTURE]   train each best trial fully
    python -m segbench.explain                  measure why they decide as they do, for the report
    python -m segbench.report                   compare them on one HTML page
    python -m segbench.predict IMAGE --out DIR  segment photographs with the promoted models
    python -m segbench.serve                    the same over HTTP, many at once
    python -m segbench.export MODEL --to FILE   export a model: ONNX, or a folder for transformers

    python -m segbench.dashboard                watch the searches in optuna-dashboard
    python -m segbench.runs                     look at the trainings in MLflow
    python -m segbench.study                    list, repair, export and delete searches; copy a protocol
    python -m segbench.prepare                  verify and pack a dataset (search does it itself)
    python -m segbench.estimate                 what a protocol would cost on this device: hours, memory, disk
    python -m segbench.streets --out DIR        draw a dataset of synthetic streets
    python -m segbench.weights                  list and download the published weights

Each command has --help. Without a dataset they run on drawn streets; CITYSCAPES_DATASET=DIR runs them on Cityscapes.
"""

from __future__ import annotations

import importlib
import sys

from segbench.core.errors import UserError
from segbench.runtime import terminal

COMMANDS = (
    "search",
    "promote",
    "explain",
    "report",
    "predict",
    "serve",
    "export",
    "dashboard",
    "runs",
    "study",
    "prepare",
    "estimate",
    "streets",
    "weights",
)


def main(argv: list[str] | None = None) -> int:
    """`segbench search …` is `python -m segbench.search …`."""
    given = sys.argv[1:] if argv is None else argv
    if not given or given[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if given[0] not in COMMANDS:
        raise UserError(f"no command '{given[0]}'; commands: {', '.join(COMMANDS)}")
    name = f"segbench.{given[0]}.__main__" if given[0] in ("explain", "report", "serve") else f"segbench.{given[0]}"
    return int(importlib.import_module(name).main(given[1:]))


def entry() -> int:
    """The console script."""
    return terminal.run(main)


if __name__ == "__main__":
    raise SystemExit(entry())
