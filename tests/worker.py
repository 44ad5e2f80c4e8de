"""A worker process: `python -m tests.worker DATABASE PROCESSES TRIALS [sleeps]` searches the study `tiny`.

Everything from the first use of the database on happens in all processes at once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

import optuna

from segbench.core.protocol import Architecture, Data, Final, Protocol, Search
from segbench.core.records import to_json
from segbench.core.space import Choice, Range
from segbench.ledger import database, queue, studies

SPACE = {"x": Range(0.0, 1.0)}
_REQUIRED = {"lr": Choice((1e-3,)), "weight_decay": Choice((0.0,)), "optimizer": Choice(("adam",))}
ARCHITECTURE = Architecture("net", "Net", 2, "random", {**_REQUIRED, **SPACE})


def study(storage: database.StudyStorage, number: int) -> optuna.Study:
    """The study `tiny` with so many trials planned."""
    made = optuna.create_study(storage=storage, study_name="tiny", direction="maximize", load_if_exists=True)
    search = Search(trials=number, epochs=1, train_images=1, val_images=1)
    made.set_user_attr("protocol", to_json(Protocol("tiny", "Tiny", Data((32, 32)), search, Final(1))))
    made.set_user_attr("architecture", to_json(ARCHITECTURE))
    queue.plan(made, SPACE, search, None)
    return made


def objective(trial: optuna.Trial, what: str = "") -> float:
    os.write(1, f"trial {studies.index_of(trial)}\n".encode())  # in one piece: other processes write to the same pipe
    if what == "sleeps":
        time.sleep(600)
    return float(trial.suggest_float("x", 0.0, 1.0))


def main(where: str, processes: str, number: str, what: str = "") -> int:
    together = multiprocessing.get_context("fork").Barrier(int(processes))
    children: list[int] = []
    for _ in range(int(processes) - 1):
        child = os.fork()
        if not child:
            children = []
            break
        children.append(child)
    first = True

    def contested(trial: optuna.Trial) -> float:
        nonlocal first
        if first:
            first = False
            together.wait(120)  # each process has claimed a trial before any continues
        return objective(trial, what)

    together.wait(120)
    studies.run(study(database.connect(where), int(number)), contested)
    return max((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), default=0)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
