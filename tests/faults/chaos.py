"""Kills the demo experiment a hundred times and compares it with an undisturbed run.

    python -m tests.faults.chaos --kills 100 --seed 0

The protocol is a copy of studies/demo: its models, images and steps, with the number of trials given by --trials. First
both architectures are searched and promoted undisturbed. Then the same commands run again, are killed by SIGKILL at
random instants, and are rerun each time. At the end nothing may be lost, duplicated, or different by a bit.

The ledger fails a trial on purpose when its process has died three times without a new epoch in between. So a process
is stopped before it is killed, and the ledger is read: if this would be a trial's third death, the process continues
for a while. All other instants are random: the table shows in which phases the kills fell.

Also, eight processes share sixty trials of a trivial objective, on SQLite and on PostgreSQL; and a finished experiment
is rerun, which must train nothing. Exit code 1 on any difference; figures go to reports/chaos.json.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import multiprocessing.process
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from segbench.core import paths
from segbench.ledger import database, queue
from segbench.runtime import terminal
from tests import postgres
from tests.faults import harness
from tests.faults.harness import Found, Place

_LONGEST_WAIT = 3600  # seconds for one command
_EIGHT, _SIXTY = 8, 60


def main(argv: list[str] | None = None) -> int:
    """Prints the tables and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the instants (default: 0)")
    parser.add_argument("--trials", type=int, default=10, help="per architecture (default: 10, the demo's)")
    arguments = parser.parse_args(argv)
    started = time.perf_counter()
    Place.longest = _LONGEST_WAIT
    with tempfile.TemporaryDirectory() as folder:
        content = _experiment(Path(folder), arguments)
    content["eight"] = _eight()
    content["seconds"] = round(time.perf_counter() - started)
    wrong = content["differences"] + [line for row in content["eight"] for line in row["wrong"]]
    harness.write_json(paths.reports() / "chaos.json", {"wrong": wrong, **vars(arguments), **content})
    for line in wrong:
        terminal.warn(line)
    print(f"\n{len(wrong)} differences, {content['seconds']} s; figures: {paths.reports() / 'chaos.json'}")
    return 1 if wrong else 0


def _experiment(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    asked = Path(shutil.copytree(paths.protocol_folder("demo"), folder / "demo"))
    text = (asked / "protocol.toml").read_text()
    (asked / "protocol.toml").write_text(re.sub(r"trials = \d+", f"trials = {arguments.trials}", text, count=1))
    whole = Place(folder / "whole", ["--protocol", str(asked)], share=None)
    seconds = {}
    for command in ("search", "promote"):
        print(f"{command}, undisturbed …", flush=True)
        begun = time.perf_counter()
        assert whole.run(command) == 0, whole.output()
        seconds[f"{command} undisturbed"] = time.perf_counter() - begun
    reference = whole.found()
    epochs = sum(len(index[3]) for index in reference.trials.values()) + sum(
        c.epochs for c, _ in reference.cards.values()
    )
    hurt = Place(folder / "hurt", ["--protocol", str(asked)], share=None)
    shutil.copytree(whole.storage / "cache", hurt.storage / "cache")
    killer = Killer(hurt, arguments.kills, arguments.seed, sum(seconds.values()) / epochs)
    for command in ("search", "promote"):
        begun = time.perf_counter()
        killer.drive(command)
        seconds[f"{command} killed"] = time.perf_counter() - begun
    differences = harness.differences(hurt, reference) + _other_masks(hurt, whole)
    if killer.left:
        differences.append(f"only {arguments.kills - killer.left} kills could be placed")
    again, trained = _again(hurt, reference)
    seconds |= again
    _table(killer.kills, seconds)
    return {
        "kills": {f"{command}, {phase}": number for (command, phase), number in sorted(killer.kills.items())},
        "epochs": epochs,
        "times": {name: round(value, 2) for name, value in seconds.items()},
        "differences": differences + trained,
    }


class Killer:
    """Types a command again and again, and kills it."""

    def __init__(self, place: Place, kills: int, seed: int, seconds: float) -> None:
        """`seconds`: of an epoch, about."""
        self.place, self.left, self.seconds = place, kills, seconds
        self.kills: collections.Counter[tuple[str, str]] = collections.Counter()
        self.random = random.Random(seed)

    def drive(self, command: str) -> None:
        """Until the command ends by itself."""
        while True:
            process = self.place.start(command, events=str(self.place.events))
            process.join(self._delay() if self.left else _LONGEST_WAIT)
            while process.exitcode is None and self.left and self._would_spend_a_trial(process):
                process.join(self._delay())
            if process.exitcode is not None:
                assert process.exitcode == 0, self.place.output()
                return
            assert self.left, f"{command} did not end in {_LONGEST_WAIT} s: {self.place.output()}"
            process.kill()
            process.join()
            self.left -= 1
            phase = self.place.events.read_text().split("\n")[-2]
            self.kills[command, phase] += 1
            print(f"{command} killed in {phase}; {self.left} kills left", flush=True)

    def _delay(self) -> float:
        """Seconds until the next kill: often in the first epoch of a process, and seldom in its third."""
        return self.random.uniform(0.05, 1.3 * self.seconds + 1)

    def _would_spend_a_trial(self, process: multiprocessing.process.BaseProcess) -> bool:
        """Stops the process. If killing it now would be a trial's third death, lets it continue."""
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        file = self.place.storage / "studies.db"
        if not file.exists():
            return False
        try:  # not segbench's own storage: it would wait for locks that the stopped process may hold
            plain = optuna.storages.RDBStorage(f"sqlite:///{file}")
            found = optuna.get_all_study_names(plain)
            every = [a for name in found for a in optuna.load_study(study_name=name, storage=plain).get_trials()]
        except OperationalError:  # the process is making the database
            return False
        running = [attempt for attempt in every if attempt.state == TrialState.RUNNING]
        died = [queue.deaths(a.user_attrs.get("deaths", []), len(a.intermediate_values)) for a in running]
        if all(len(deaths) < queue.DEATHS_THAT_SPEND_A_TRIAL for deaths in died):
            return False
        os.kill(process.pid, signal.SIGCONT)
        return True


def _other_masks(hurt: Place, whole: Place) -> list[str]:
    """Of the promoted models, those files that hold no weights."""
    names = {p.relative_to(whole.storage) for p in (whole.storage / "models").rglob("*.png")}
    ours = {p.relative_to(hurt.storage) for p in (hurt.storage / "models").rglob("*.png")}
    same = {n for n in names & ours if (whole.storage / n).read_bytes() == (hurt.storage / n).read_bytes()}
    return [f"the mask {name} differs" for name in sorted(names ^ ours | names - same)]


def _again(place: Place, reference: Found) -> tuple[dict[str, float], list[str]]:
    """Seconds of the commands where all is done, in new processes with all their imports."""
    seconds, wrong = {}, []
    environment = {"SEGBENCH_STORAGE": str(place.storage), "OMP_NUM_THREADS": "1"}
    for command in ("search", "promote"):
        begun = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-m", f"segbench.{command}", *place.where],
            env={**os.environ, **environment}, capture_output=True, text=True,
        )  # fmt: skip
        seconds[f"{command} again, a new process"] = time.perf_counter() - begun
        begun = time.perf_counter()
        code = place.run(command)
        seconds[f"{command} again, without imports"] = time.perf_counter() - begun
        wrong += [f"{command} again: {said.stderr}"] if said.returncode or code else []
    wrong += [f"trained again: {line}" for line in harness.differences(place, reference)]
    return seconds, wrong


def _eight() -> list[dict[str, Any]]:
    """Eight processes share sixty trials."""
    rows = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wheres = {"SQLite": str(folder / "studies.db")}
        try:
            server = stack.enter_context(contextlib.contextmanager(postgres.postgres.__wrapped__)())
            wheres["PostgreSQL"] = server.fresh()
        except BaseException as error:  # pytest's skip is none of Exception's
            terminal.warn(f"without PostgreSQL: {error}")
        for name, where in wheres.items():
            begun = time.perf_counter()
            command = [sys.executable, "-m", "tests.worker", where, str(_EIGHT), str(_SIXTY)]
            done = subprocess.run(command, capture_output=True, text=True)
            every = optuna.load_study(study_name="tiny", storage=database.connect(where)).get_trials()
            ended = [queue.index_of(t) for t in every if t.state == TrialState.COMPLETE]
            wrong = [f"{name}: {len(ended)} of {_SIXTY} trials done"] * (sorted(ended) != list(range(_SIXTY)))
            wrong += [f"{name}: {len(every) - len(ended)} attempts were lost"] * (len(every) != len(ended))
            wrong += [f"{name}: {done.stderr.strip()}"] * bool(done.returncode or done.stderr)
            workers = len({t.user_attrs["owner"] for t in every})
            row = {"database": name, "processes": workers, "done": len(set(ended)),
                   "twice": len(ended) - len(set(ended)), "seconds": round(time.perf_counter() - begun, 1)}  # fmt: skip
            print(row)
            rows.append({**row, "wrong": wrong})
    return rows


def _table(kills: collections.Counter[tuple[str, str]], seconds: dict[str, float]) -> None:
    commands, phases = ("search", "promote"), sorted({phase for _, phase in kills})
    rows = [[phase, *(str(kills[command, phase]) for command in commands)] for phase in phases]
    rows.append(["all", *(str(sum(n for (c, _), n in kills.items() if c == command)) for command in commands)])
    terminal.table("kills", ["in", *commands], rows, right={1, 2})
    terminal.table("seconds", ["", "s"], [[name, f"{value:.2f}"] for name, value in seconds.items()], right={1})


if __name__ == "__main__":
    raise SystemExit(main())
