"""Several workers on one search: started, shown, stopped together, and started again when one is killed.

Each is the same command in a process of its own. They share nothing but the ledger, which gives every trial to one of
them; so here is nothing that the result could depend on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from typing import Protocol as Contract

import optuna

from segbench.core.errors import UserError
from segbench.core.protocol import Protocol
from segbench.core.records import from_json
from segbench.core.study_record import TrialState
from segbench.ledger import queue
from segbench.runtime import interrupts, terminal

_SECONDS_BETWEEN_LOOKS = 1.0  # into the ledger
_SECONDS_BETWEEN_SIGNS = 0.1  # of life
_DEATHS_WITHOUT_PROGRESS = 3  # as many as spend a trial: a worker that dies before it has claimed one spends none


class Launcher(Contract):
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


@dataclass(frozen=True)
class RunningTrial:
    """A trial that a worker runs."""

    study: str
    index: int
    owner: str
    epochs: int  # those it has done
    given: int  # epochs
    miou: float | None  # of its last epoch


class SearchProgress(NamedTuple):
    """Where all the studies of a command stand."""

    done: int  # epochs; those of a trial that has ended count as done
    total: int  # epochs
    left: int  # trials that have not ended
    planned: int  # trials
    best: float  # mIoU, 0 where there is none
    running: tuple[RunningTrial, ...]

    @classmethod
    def of(cls, studies: Iterable[optuna.Study]) -> SearchProgress:
        """Reads what is shown, and no trial that has ended in full: it is asked every second."""
        done = total = left = planned = 0
        best, running = 0.0, []
        for study in studies:
            given, open_epochs = _epochs_given(study), queue.values_of_unfinished(study)
            best = max(best, queue.best_value(study))
            for attempt in queue.latest(study).values():
                values = list(open_epochs.get(attempt.id, {}).values())
                planned, left, total = planned + 1, left + attempt.unfinished, total + given
                done += len(values) if attempt.unfinished else given
                if attempt.trial_state == TrialState.RUNNING:
                    owner, miou = attempt.attributes.get("owner", ""), values[-1] if values else None
                    running.append(RunningTrial(study.study_name, attempt.index, owner, len(values), given, miou))
        return cls(done, total, left, planned, best, tuple(running))


def run(launcher: Launcher, studies: Sequence[optuna.Study]) -> None:
    """Starts the workers, or as many of them as there are trials. Returns when all have ended: no trial is left then.

    One that is killed is started again, unless that happens three times without any progress of the search. One that
    ends with an error is not. The first SIGINT or SIGTERM lets all end their epochs, the second stops them at once;
    both then raise KeyboardInterrupt. Raises UserError at the end where a worker has failed.
    """
    first = SearchProgress.of(studies)
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
        left = SearchProgress.of(studies).left
        raise UserError(
            f"{len(failed)} of {number} workers ended with an error, which is shown above; "
            + (f"{left} trials are left: fix it and rerun" if left else "the others did the rest")
        )


class _Watch:
    """Over the workers of one launcher."""

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
        progress = SearchProgress.of(self._studies)
        what = f"worker {worker} was killed by {_signal(number)}"
        if not progress.left:
            return True
        now = (progress.left, progress.done)
        deaths = [before for before in self._deaths.get(worker, []) if before == now] + [now]
        self._deaths[worker] = deaths
        if len(deaths) >= _DEATHS_WITHOUT_PROGRESS:
            terminal.warn(f"{what}, {len(deaths)} times without any progress; it is not started again")
            return False
        terminal.warn(f"{what}; it is started again")
        self._launcher.start(worker)
        return True

    def _look(self) -> None:
        started = time.monotonic()
        progress = SearchProgress.of(self._studies)
        rows = sorted(self._row(trial) for trial in progress.running)
        text = f"{progress.planned - progress.left}/{progress.planned} trials, best {progress.best:.3f}"
        self._show(progress.done, text, rows)
        now = time.monotonic()
        self._next_look = now + max(_SECONDS_BETWEEN_LOOKS, 10 * (now - started))  # a large ledger is read less often

    def _row(self, trial: RunningTrial) -> terminal.Row:
        name = "baseline" if trial.index < 0 else f"trial {trial.index}"
        score = "" if trial.miou is None else f": mIoU {trial.miou:.3f}"
        return terminal.Row(self._launcher.name(trial.owner), trial.epochs, trial.given, f"{trial.study} {name}{score}")


def _epochs_given(study: optuna.Study) -> int:
    return from_json(Protocol, study.user_attrs["protocol"]).search.epochs


def _requeue_dead(studies: Iterable[optuna.Study]) -> None:
    for study in studies:
        for line in queue.requeue_dead(study):
            terminal.say(f"{study.study_name}, {line}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
