"""The ledger's own time: a trial whose objective is trivial, ours against plain Optuna.

    python -m benchmarks.ledger                      100 and 2,000 trials, three pairs: about two minutes
    python -m benchmarks.ledger --trials 50 200 --pairs 1

Both sides search the same space with Optuna's random sampler into a SQLite file of their own, in turn in one process,
and report nothing but the value. Ours plans all trials first, which counts; plain Optuna draws each when it is asked.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import optuna

from segbench.core.protocol import Architecture, Choice, Data, Final, Protocol, Range, Search
from segbench.ledger import database, queue, samplers, studies
from segbench.runtime import terminal

SPACE = {
    "lr": Range(1e-5, 1e-2, log=True),
    "weight_decay": Range(1e-6, 1e-2, log=True),
    "optimizer": Choice(("adam", "adamw", "sgd")),
}
ARCHITECTURE = Architecture("trivial", "Trivial", 2, "random", SPACE)
RATIO = 1.5  # the most that a trial of ours may take, in plain Optuna's time for one
GROWTH = 1.2  # the most that a trial of the largest study may take, in the time of one of the smallest


class Measured(NamedTuple):
    trials: int
    ours: float  # ms a trial
    plain: float


def ours(folder: Path) -> Callable[[int], None]:
    """A search of so many trials, as `python -m segbench.search` makes it."""
    storage = database.connect(folder / "ours.db")

    def search(trials: int) -> None:
        asked = Protocol("bench", "Bench", Data((32, 32)), Search(trials, 1, 1, 1), Final(1))
        study = studies.open_study(storage, asked, ARCHITECTURE, "data", "1 image")
        queue.plan(study, SPACE, asked.search, None)
        studies.run(study, objective)

    return search


def plain(folder: Path) -> Callable[[int], None]:
    """What one would write instead."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'plain.db'}")

    def search(trials: int) -> None:
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=storage, study_name="bench", direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=trials)

    return search


def objective(trial: optuna.Trial) -> float:
    return float(samplers.suggest(trial, SPACE)["lr"])


def milliseconds(side: Callable[[Path], Callable[[int], None]], trials: int) -> float:
    """Of one trial; the making of the database is left out, for a small study would pay for it alone."""
    with tempfile.TemporaryDirectory() as folder:
        search = side(Path(folder))
        started = time.perf_counter()
        search(trials)
        return 1000 * (time.perf_counter() - started) / trials


def measure(sizes: Sequence[int], pairs: int) -> list[list[Measured]]:
    """All sizes on both sides in turn, so often."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rounds = []
    for _ in range(pairs):
        rounds.append([Measured(n, milliseconds(ours, n), milliseconds(plain, n)) for n in sizes])
        print(", ".join(f"{m.trials} trials: {m.ours:.2f} ms, plain {m.plain:.2f} ms" for m in rounds[-1]), flush=True)
    return rounds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 2000], metavar="N", help="sizes of the study")
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="how often each size runs on both sides")
    arguments = parser.parse_args(argv)
    rounds = measure(arguments.trials, arguments.pairs)
    rows = []
    for measured in zip(*rounds, strict=True):
        times, plain_times = [m.ours for m in measured], [m.plain for m in measured]
        ratios = [m.ours / m.plain for m in measured]
        growth = [m.ours / before[0].ours for m, before in zip(measured, rounds, strict=True)]
        numbers = [*_median(times), *_median(plain_times), *_median(ratios), *_median(growth)]
        rows.append([str(measured[0].trials), *numbers])
    columns = ["trials", "ours, ms a trial", "plain Optuna's", "ratio", "against the smallest"]
    terminal.table("the ledger's own time, medians of paired runs", columns, rows, right={0, 1, 2, 3, 4})
    print(f"Wanted at the largest: a ratio of at most {RATIO}, and at most {GROWTH} times the smallest.")
    return 0


def _median(values: Sequence[float]) -> list[str]:
    return [f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"]


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
