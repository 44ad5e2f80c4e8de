"""A worker that only pretends to train: `python -m tests.launchers FOLDER WORKER [stubborn]`.

It writes a file `TRIAL-PID` into the folder for the trial it runs, and ends the trial once a file `go` exists; it stops
on a signal, unless it is stubborn. `python -m tests.launchers FOLDER parent` starts two of them.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import optuna

from segbench.experiment import local_launcher, workers
from segbench.ledger import database, studies
from segbench.runtime import interrupts
from tests import worker

TRIALS = 3


def study(folder: Path) -> optuna.Study:
    return worker.study(database.connect(folder / "studies.db"), TRIALS)


def launcher(folder: Path, *options: str) -> local_launcher.Local:
    command = [sys.executable, "-m", "tests.launchers", str(folder), local_launcher.NUMBER, *options]
    return local_launcher.Local(command, [{"OMP_NUM_THREADS": "1"}] * 2)


def main(folder: Path, number: str, *options: str) -> int:
    if number == "parent":
        workers.run(launcher(folder), [study(folder)])
        return 0
    local_launcher.become_worker()
    with interrupts.graceful(b""):

        def objective(trial: optuna.Trial) -> float:
            (folder / f"{studies.index_of(trial)}-{os.getpid()}").touch()
            while not (folder / "go").exists():
                if interrupts.requested() and not options:
                    raise studies.Stopped
                time.sleep(0.02)
            return float(trial.suggest_float("x", 0.0, 1.0))

        try:
            made = optuna.load_study(study_name="tiny", storage=database.connect(folder / "studies.db"))
            studies.run(made, objective)
        except (studies.Stopped, KeyboardInterrupt):
            return 143
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:]))
