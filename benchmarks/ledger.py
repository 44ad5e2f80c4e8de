"""Measures the ledger's overhead: the time of a trial with a trivial objective, compared with plain Optuna.

    python -m benchmarks.ledger                      100 and 2,000 trials, three pairs: about two minutes
    python -m benchmarks.ledger --trials 50 200 --pairs 1

Both search the same space with Optuna's random sampler into separate SQLite files, alternately in one process, and
report only the value. segbench plans all trials first, which is included; plain Optuna draws each when it starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import optuna

from segbench.core.protocol import Architecture, Data, Final, Protocol, Search
from segbench.core.space import Choice, Range, Space
from segbench.ledger import database, queue, samplers, studies
from segbench.runtime import terminal

SPACE: Space = {
    "lr": Range(1e-5, 1e-2, log=True),
    "weight_decay": Range(1e-6, 1e-2, log=True),
    "optimizer": Choice(("adam", "adamw", "sgd")),
}
ARCHITECTURE = Architecture("trivial", "Trivial", 2, "random", SPACE)
RATIO = 1.5  # the most time per trial, relative to plain Optuna
GROWTH = 1.2  # the most time per trial of the largest study, relative to the smallest study


class Measured(NamedTuple):
    trials: int
    ours: float  # ms a trial
    plain: float


def ours(folder: Path) -> Callable[[int], None]:
    """A search of `trials` trials, as in `python -m segbench.search`."""
    storage = database.connect(folder / "ours.db")

    def search(trials: int) -> None:
        protocol = Protocol("bench", "Bench", Data((32, 32)), Search(trials, 1, 1, 1), Final(1))
        study = studies.open_study(storage, protocol, ARCHITECTURE, "data", "1 image")
        queue.plan(study, SPACE, protocol.search, None)
        studies.run(study, objective)

    return search


def plain(folder: Path) -> Callable[[int], None]:
    """The same search with plain Optuna."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'plain.db'}")

    def search(trials: int) -> None:
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=storage, study_name="bench", direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=trials)

    return search


def objective(trial: optuna.Trial) -> float:
    return float(samplers.suggest(trial, SPACE)["lr"])


def milliseconds(side: Callable[[Path], Callable[[int], None]], trials: int) -> float:
    """The time per trial, without creating the database, which would dominate a small study."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGBENCH_STORAGE"] = folder  # each study has folders of its own
        search = side(Path(folder))
        started = time.perf_counter()
        search(trials)
        return 1000 * (time.perf_counter() - started) / trials


def measure(sizes: Sequence[int], pairs: int) -> list[list[Measured]]:
    """Measures all sizes on both sides alternately, `pairs` times."""
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
