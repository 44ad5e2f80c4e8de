"""A worker that only pretends to train: `python -m tests.team FOLDER WORKER [stubborn]`.

It says which slot it holds by a file `SLOT-PID` in the folder and ends the slot once there is a file `go`; it stops
when it is asked to, unless it is stubborn. `python -m tests.team FOLDER parent` starts two of them.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import optuna

from segbench import database, processes, stopping, trials, workers
from tests import worker

SLOTS = 3


def study(folder: Path) -> optuna.Study:
    return worker.study(database.connect(folder / "studies.db"), SLOTS)


def team(folder: Path, *options: str) -> processes.Local:
    command = [sys.executable, "-m", "tests.team", str(folder), processes.NUMBER, *options]
    return processes.Local(command, [{"OMP_NUM_THREADS": "1"}] * 2)


def main(folder: Path, number: str, *options: str) -> int:
    if number == "parent":
        workers.run(team(folder), [study(folder)])
        return 0
    processes.enlist()
    with stopping.graceful(b""):

        def objective(trial: optuna.Trial) -> float:
            (folder / f"{trials.slot_of(trial)}-{os.getpid()}").touch()
            while not (folder / "go").exists():
                if stopping.requested() and not options:
                    raise trials.Stopped
                time.sleep(0.02)
            return float(trial.suggest_float("x", 0.0, 1.0))

        try:
            made = optuna.load_study(study_name="tiny", storage=database.connect(folder / "studies.db"))
            trials.run(made, objective)
        except (trials.Stopped, KeyboardInterrupt):
            return 143
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:]))
