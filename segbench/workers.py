"""Several workers on one search: started, shown, stopped together, and started again when one is killed.

Each is the same command in a process of its own. They share nothing but the ledger, which gives every slot to one of
them; so here is nothing that the result could depend on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, NamedTuple, Protocol

import optuna

from segbench import compute, database, owners, slots, stopping, terminal, trials
from segbench.errors import UserError
from segbench.records import StudyRecord, TrialRecord

NUMBER = "{worker}"  # in a command: the worker's number

_SECONDS_BETWEEN_LOOKS = 1.0  # into the ledger
_SECONDS_BETWEEN_SIGNS = 0.1  # of life
_SECONDS_TO_LEAVE = 10.0  # at once, before they are killed
_DEATHS_WITHOUT_PROGRESS = 3  # as many as spend a slot: a worker that dies before it has claimed one spends none


class Team(Protocol):
    """Workers, wherever they run, numbered from 0."""

    size: int  # how many there may be
    words: str  # for people: "2 workers, GPUs 0, 1"

    def start(self, worker: int) -> None: ...

    def ended(self) -> list[tuple[int, int]]:
        """(worker, exit code) of those that have ended since the last call; of a signal the code is negative."""
        ...

    @property
    def running(self) -> int:
        """How many have not ended."""
        ...

    def name(self, owner: str) -> str:
        """What to call the process that the ledger names."""
        ...

    def stop(self) -> None:
        """Asks all to leave when their epoch has ended."""
        ...

    def kill(self) -> None:
        """Makes all leave at once; when it returns they are gone."""
        ...


class Standing(NamedTuple):
    """Where all the studies of a command stand."""

    done: int  # epochs; those of a slot that has ended count as done
    total: int  # epochs
    left: int  # slots that have not ended
    slots: int
    best: float  # mIoU, 0 where there is none
    running: tuple[tuple[TrialRecord, int], ...]  # and the epochs it is given

    @classmethod
    def of(cls, studies: Sequence[StudyRecord]) -> Standing:
        done = total = left = number = 0
        best, running = 0.0, []
        for study in studies:
            epochs = int(study.protocol.get("search", {}).get("epochs", 1))
            for trial in study.trials:
                unfinished = trial.state in ("waiting", "running")
                number, left, total = number + 1, left + unfinished, total + epochs
                done += len(trial.epochs) if unfinished else epochs
                best = max([best, *(epoch.miou for epoch in trial.epochs)])
            running += [(trial, epochs) for trial in study.trials if trial.state == "running"]
        return cls(done, total, left, number, best, tuple(running))


def run(team: Team, studies: Sequence[optuna.Study]) -> None:
    """Starts the team, or as many of it as there are slots, and returns when all have ended: no slot is left then.

    One that is killed is started again, unless that happens three times without any progress of the search. One that
    ends with an error is not. The first SIGINT or SIGTERM lets all end their epochs, the second stops them at once;
    both then raise KeyboardInterrupt. Raises UserError at the end where a worker has failed.
    """
    first = _look(studies)
    number = min(team.size, first.left)
    if number < team.size:
        terminal.say(f"only {number} of {team.size} workers are started: that is how many slots are left")
    with terminal.board("search", first.total, first.done) as show, stopping.graceful():
        try:
            for worker in range(number):
                team.start(worker)
            failed = _Watch(team, studies, show).until_all_have_ended()
        except BaseException:
            team.kill()
            _mend(studies)
            raise
        if stopping.requested():
            raise stopping.interrupt()
    if failed:
        left = _look(studies).left
        raise UserError(
            f"{len(failed)} of {number} workers ended with an error, which is shown above; "
            + (f"{left} slots are left: mend it and type the same command again" if left else "the others did the rest")
        )


class _Watch:
    """Over one team."""

    def __init__(self, team: Team, studies: Sequence[optuna.Study], show: terminal.Show) -> None:
        self._team, self._studies, self._show = team, studies, show
        self._next_look = 0.0
        self._deaths: dict[int, list[tuple[int, int]]] = {}  # of each worker: what was left, what was done

    def until_all_have_ended(self) -> list[int]:
        """The workers that failed."""
        failed, told = [], False
        while self._team.running:
            if stopping.requested() and not told:
                told = True
                self._team.stop()
                terminal.say(f"waiting for {self._team.running} workers to end their epochs")
            for worker, code in self._team.ended():
                if stopping.requested() or code == 0:
                    continue
                if code > 0 or not self._start_again(worker, -code):
                    failed.append(worker)
            if time.monotonic() > self._next_look:
                self._look()
            time.sleep(_SECONDS_BETWEEN_SIGNS)
        self._look()
        return failed

    def _start_again(self, worker: int, number: int) -> bool:
        """False where that would be in vain."""
        _mend(self._studies)
        standing = _look(self._studies)
        what = f"worker {worker} was killed by {_signal(number)}"
        if not standing.left:
            return True
        now = (standing.left, standing.done)
        deaths = [one for one in self._deaths.get(worker, []) if one == now] + [now]
        self._deaths[worker] = deaths
        if len(deaths) >= _DEATHS_WITHOUT_PROGRESS:
            terminal.warn(f"{what}, for the {len(deaths)}th time without any progress; it is not started again")
            return False
        terminal.warn(f"{what}; it is started again")
        self._team.start(worker)
        return True

    def _look(self) -> None:
        started = time.monotonic()
        standing = _look(self._studies)
        rows = sorted(self._row(trial, epochs) for trial, epochs in standing.running)
        text = f"{standing.slots - standing.left}/{standing.slots} trials, best {standing.best:.3f}"
        self._show(standing.done, text, rows)
        now = time.monotonic()
        self._next_look = now + max(_SECONDS_BETWEEN_LOOKS, 10 * (now - started))  # a large ledger is read less often

    def _row(self, trial: TrialRecord, epochs: int) -> terminal.Row:
        name = "baseline" if trial.baseline else f"trial {trial.slot}"
        score = f": mIoU {trial.epochs[-1].miou:.3f}" if trial.epochs else ""
        return terminal.Row(self._team.name(trial.owner), len(trial.epochs), epochs, f"{trial.study} {name}{score}")


class Local:
    """Workers on this host, each a session of its own: Ctrl-C on the terminal reaches their parent alone."""

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        """`command`: NUMBER in it becomes the worker's number; `environments`: of each worker, beside our own."""
        self.size = len(environments)
        gpus = dict.fromkeys(one["CUDA_VISIBLE_DEVICES"] for one in environments if "CUDA_VISIBLE_DEVICES" in one)
        threads = {**os.environ, **environments[0]}["OMP_NUM_THREADS"]
        self.words = f"{self.size} workers, " + (f"GPU {', '.join(gpus)}" if gpus else f"cpu ({threads} threads each)")
        self._command, self._environments = command, environments
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._relays: dict[int, threading.Thread] = {}
        self._names: dict[str, str] = {}
        self._shown: set[str] = set()
        self._asked = False

    def start(self, worker: int) -> None:
        process = subprocess.Popen(
            [str(worker) if part == NUMBER else part for part in self._command],
            stdin=subprocess.PIPE,  # nobody writes into it: its end tells the worker that we are gone, see `enlist`
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **self._environments[worker]},
            start_new_session=True,
        )
        self._processes[worker] = process
        self._names[str(owners.Owner.of(process.pid))] = f"worker {worker}"
        self._relays[worker] = threading.Thread(target=self._relay, args=(worker, process.stdout), daemon=True)
        self._relays[worker].start()

    def ended(self) -> list[tuple[int, int]]:
        found = [(worker, code) for worker, p in self._processes.items() if (code := p.poll()) is not None]
        for worker, _ in found:
            self._relays.pop(worker).join(_SECONDS_BETWEEN_LOOKS)  # its last words come before ours
            process = self._processes.pop(worker)
            assert process.stdin is not None
            process.stdin.close()
        return found

    @property
    def running(self) -> int:
        return len(self._processes)

    def name(self, owner: str) -> str:
        return self._names.get(owner, owner.rsplit(":", 1)[0])

    def stop(self) -> None:
        self._asked = True
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        try:
            if not self._asked:
                self.stop()
                self._wait(_SECONDS_BETWEEN_LOOKS)
            self._send(signal.SIGTERM)  # the second: at once, but in order
            self._wait(_SECONDS_TO_LEAVE)
        finally:
            self._send(signal.SIGKILL)
            self._wait(_SECONDS_TO_LEAVE)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            process.send_signal(number)  # nothing to one that has ended

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def _relay(self, worker: int, lines: IO[str]) -> None:
        """What the worker says, with its number; what several say word for word only once."""
        for line in lines:
            said = line + (lines.read() if line.startswith("Traceback") else "")
            if said.strip() and said not in self._shown:
                self._shown.add(said)
                text = said.rstrip().replace("\n", f"\nworker {worker}: ")
                print(f"worker {worker}: {text}", file=sys.stderr, flush=True)


def environments(number: int | None, gpus: str | None, device: str) -> list[dict[str, str]]:
    """What each worker's environment adds: its GPU, and how many threads it may use.

    `number`: how many, by default as many as `gpus`, which is what --gpus gave; `device` is --device. Raises UserError
    where the GPUs are not there.
    """
    visible = _visible()
    if gpus is not None:
        chosen = _chosen(gpus, len(visible), device)
    else:
        chosen = list(range(len(visible))) if device in ("auto", "cuda") else []
    if not chosen:
        compute.choose(device)  # raises where it is not there
    number = len(chosen) if number is None else number
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores() // number))}
    places = [{"CUDA_VISIBLE_DEVICES": visible[gpu]} for gpu in chosen] or [{}]
    return [{**threads, **places[worker % len(places)]} for worker in range(number)]


def cores() -> int:
    """Those this process may use: a batch system or a container gives some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def enlist() -> None:
    """Makes this process a worker: it says nothing but warnings and errors, and where the process that started it
    disappears it stops as after SIGTERM: it ends its epoch, keeps it, and leaves."""
    terminal.hush()
    threading.Thread(target=_leave_with_the_parent, daemon=True, name="parent").start()


def _visible() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them: a batch system may have given us some."""
    import torch

    there = torch.cuda.device_count()  # makes no context on them
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in given.split(",")][:there] if given else [str(gpu) for gpu in range(there)]


def _chosen(gpus: str, there: int, device: str) -> list[int]:
    if device not in ("auto", "cuda"):
        raise UserError(f"--gpus {gpus} and --device {device} contradict each other; drop one of them")
    parts = [part.strip() for part in gpus.split(",")]
    known = [str(gpu) for gpu in range(there)]
    if not set(parts) <= set(known):
        has = f"has {', '.join(known)}" if known else "has no GPU that CUDA can use"
        raise UserError(f"--gpus {gpus}: this machine {has}; give some of them, such as --gpus 0, or use --workers")
    if len(set(parts)) < len(parts):
        raise UserError(f"--gpus {gpus} names one twice; for more workers than GPUs add --workers N")
    return [int(part) for part in parts]


def _leave_with_the_parent() -> None:
    while os.read(0, 1):  # until the other end of the pipe is closed, be it by SIGKILL
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)  # nobody reads them any more
    os.kill(os.getpid(), signal.SIGTERM)


def _look(studies: Iterable[optuna.Study]) -> Standing:
    return Standing.of([trials.record(database.ledger_of(study), study.study_name) for study in studies])


def _mend(studies: Iterable[optuna.Study]) -> None:
    for study in studies:
        for line in slots.mend(study):
            terminal.say(f"{study.study_name}, {line}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
