"""Several workers on one search: started, shown, stopped together, and started again when one is killed.

Each is the same command in a process of its own. They share nothing but the ledger, which gives every trial to one of
them; so here is nothing that the result could depend on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import optuna

from segbench.core.errors import UserError
from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.ledger import database, queue, studies
from segbench.runtime import interrupts, terminal

_SECONDS_BETWEEN_LOOKS = 1.0  # into the ledger
_SECONDS_BETWEEN_SIGNS = 0.1  # of life
_DEATHS_WITHOUT_PROGRESS = 3  # as many as spend a trial: a worker that dies before it has claimed one spends none


class Launcher(Protocol):
    """Workers, wherever they run, numbered from 0."""

    size: int  # how many there may be
    description: str  # for people: "2 workers, GPUs 0, 1"

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


class SearchProgress(NamedTuple):
    """Where all the studies of a command stand."""

    done: int  # epochs; those of a trial that has ended count as done
    total: int  # epochs
    left: int  # trials that have not ended
    planned: int  # trials
    best: float  # mIoU, 0 where there is none
    running: tuple[tuple[TrialRecord, int], ...]  # and the epochs it is given

    @classmethod
    def of(cls, studies: Sequence[StudyRecord]) -> SearchProgress:
        done = total = left = number = 0
        best, running = 0.0, []
        for study in studies:
            epochs = study.protocol.search.epochs
            for trial in study.trials:
                number, left, total = number + 1, left + (not trial.state.ended), total + epochs
                done += epochs if trial.state.ended else len(trial.epochs)
                best = max([best, *(epoch.miou for epoch in trial.epochs)])
            running += [(trial, epochs) for trial in study.trials if trial.state == TrialState.RUNNING]
        return cls(done, total, left, number, best, tuple(running))


def run(launcher: Launcher, studies: Sequence[optuna.Study]) -> None:
    """Starts the team, or as many of it as there are trials, and returns when all have ended: no trial is left then.

    One that is killed is started again, unless that happens three times without any progress of the search. One that
    ends with an error is not. The first SIGINT or SIGTERM lets all end their epochs, the second stops them at once;
    both then raise KeyboardInterrupt. Raises UserError at the end where a worker has failed.
    """
    first = _look(studies)
    number = min(launcher.size, first.left)
    if number < launcher.size:
        terminal.say(f"only {number} of {launcher.size} workers are started: that is how many trials are left")
    with terminal.board("search", first.total, first.done) as show, interrupts.graceful():
        try:
            for worker in range(number):
                launcher.start(worker)
            failed = _Watch(launcher, studies, show).until_all_have_ended()
        except BaseException:
            launcher.kill()
            _requeue_dead(studies)
            raise
        if interrupts.requested():
            raise interrupts.interrupt()
    if failed:
        left = _look(studies).left
        raise UserError(
            f"{len(failed)} of {number} workers ended with an error, which is shown above; "
            + (f"{left} trials are left: fix it and rerun" if left else "the others did the rest")
        )


class _Watch:
    """Over one team."""

    def __init__(self, launcher: Launcher, studies: Sequence[optuna.Study], show: terminal.Show) -> None:
        self._launcher, self._studies, self._show = launcher, studies, show
        self._next_look = 0.0
        self._deaths: dict[int, list[tuple[int, int]]] = {}  # of each worker: what was left, what was done

    def until_all_have_ended(self) -> list[int]:
        """The workers that failed."""
        failed, told = [], False
        while self._launcher.running:
            if interrupts.requested() and not told:
                told = True
                self._launcher.stop()
                terminal.say(f"waiting for {self._launcher.running} workers to end their epochs")
            for worker, code in self._launcher.ended():
                if interrupts.requested() or code == 0:
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
        _requeue_dead(self._studies)
        progress = _look(self._studies)
        what = f"worker {worker} was killed by {_signal(number)}"
        if not progress.left:
            return True
        now = (progress.left, progress.done)
        deaths = [one for one in self._deaths.get(worker, []) if one == now] + [now]
        self._deaths[worker] = deaths
        if len(deaths) >= _DEATHS_WITHOUT_PROGRESS:
            terminal.warn(f"{what}, {len(deaths)} times without any progress; it is not started again")
            return False
        terminal.warn(f"{what}; it is started again")
        self._launcher.start(worker)
        return True

    def _look(self) -> None:
        started = time.monotonic()
        progress = _look(self._studies)
        rows = sorted(self._row(trial, epochs) for trial, epochs in progress.running)
        text = f"{progress.planned - progress.left}/{progress.planned} trials, best {progress.best:.3f}"
        self._show(progress.done, text, rows)
        now = time.monotonic()
        self._next_look = now + max(_SECONDS_BETWEEN_LOOKS, 10 * (now - started))  # a large ledger is read less often

    def _row(self, trial: TrialRecord, epochs: int) -> terminal.Row:
        name = "baseline" if trial.baseline else f"trial {trial.index}"
        score = f": mIoU {trial.epochs[-1].miou:.3f}" if trial.epochs else ""
        return terminal.Row(self._launcher.name(trial.owner), len(trial.epochs), epochs, f"{trial.study} {name}{score}")


def _look(chosen: Iterable[optuna.Study]) -> SearchProgress:
    return SearchProgress.of([studies.record(database.storage_of(study), study.study_name) for study in chosen])


def _requeue_dead(studies: Iterable[optuna.Study]) -> None:
    for study in studies:
        for line in queue.requeue_dead(study):
            terminal.say(f"{study.study_name}, {line}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
