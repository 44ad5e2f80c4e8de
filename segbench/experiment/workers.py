"""Several workers on one search: starts, shows and stops them together, and restarts killed ones.

Each worker is the same command in a separate process. They share only the ledger, which gives each trial to one of
them; so nothing here can change the results.
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
from segbench.core.protocol import Protocol, Search
from segbench.core.records import from_json
from segbench.core.study_record import TrialState
from segbench.ledger import queue
from segbench.runtime import interrupts, terminal

_SECONDS_BETWEEN_LOOKS = 1.0  # into the ledger
_SECONDS_BETWEEN_POLLS = 0.1  # of the workers' processes
_DEATHS_WITHOUT_PROGRESS = 3  # then a worker is not restarted; deaths before it claims a trial do not fail any trial


class Launcher(Contract):
    """Starts and stops workers, numbered from 0, wherever they run."""

    size: int  # the largest number of workers
    description: str  # for people: "2 workers, GPUs 0, 1"

    def start(self, worker: int) -> None: ...

    def ended(self) -> list[tuple[int, int]]:
        """(worker, exit code) of workers that ended since the last call; the code is negative after a signal."""
        ...

    @property
    def running(self) -> int:
        """The number of workers that have not ended."""
        ...

    def name(self, owner: str) -> str:
        """A short name for the process `owner` of the ledger."""
        ...

    def stop(self) -> None:
        """Asks all workers to exit after their epoch."""
        ...

    def kill(self) -> None:
        """Makes all workers exit at once, and returns when they have."""
        ...


@dataclass(frozen=True)
class RunningTrial:
    """A trial that a worker runs."""

    study: str
    index: int
    owner: str
    epochs: int  # finished
    given: int  # epochs in total
    value: float | None  # of its last epoch


class SearchProgress(NamedTuple):
    """The progress of all studies of a command."""

    done: int  # epochs; an ended trial counts all its epochs; of a search by device-hours: seconds
    total: int  # likewise
    left: int  # trials that have not ended
    planned: int  # trials
    best: float  # value, 0 without epochs
    running: tuple[RunningTrial, ...]
    open: bool = False  # whether more trials will be planned: device-hours are left

    @classmethod
    def of(cls, studies: Iterable[optuna.Study]) -> SearchProgress:
        """Reads the progress without the epochs of ended trials, because it is called every second."""
        done = total = left = planned = 0
        best, running, is_open = 0.0, [], False
        for study in studies:
            search, open_epochs = _search(study), queue.values_of_unfinished(study)
            given = search.epochs
            if search.seconds is not None:
                used = queue.seconds_used(study)
                done, total = done + round(min(used, search.seconds)), total + round(search.seconds)
                is_open |= queue.plans_more(study)
            best = max(best, queue.best_value(study))
            for attempt in queue.latest(study).values():
                values = list(open_epochs.get(attempt.id, {}).values())
                planned, left = planned + 1, left + attempt.unfinished
                if search.seconds is None:
                    total, done = total + given, done + (len(values) if attempt.unfinished else given)
                if attempt.trial_state == TrialState.RUNNING:
                    owner, value = attempt.attributes.get("owner", ""), values[-1] if values else None
                    running.append(RunningTrial(study.study_name, attempt.index, owner, len(values), given, value))
        return cls(done, total, left, planned, best, tuple(running), is_open)


def run(launcher: Launcher, studies: Sequence[optuna.Study]) -> None:
    """Starts the workers, at most one per trial left, and returns when all have ended and no trial is left.

    A killed worker is restarted, unless it is killed three times without progress of the search. A worker that ends
    with an error is not restarted. The first SIGINT or SIGTERM lets all workers finish their epochs, the second stops
    them at once; both then raise KeyboardInterrupt. Raises UserError at the end if a worker failed.
    """
    first = SearchProgress.of(studies)
    number = launcher.size if first.open else min(launcher.size, first.left)
    if number < launcher.size:
        terminal.say(f"starting {number} of {launcher.size} workers, as many as there are trials left")
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
            f"{len(failed)} of {number} workers ended with an error (shown above); "
            + (f"{left} trials are left: fix it and rerun" if left else "the others ran all trials")
        )


class _Watch:
    """Watches the workers of one launcher."""

    def __init__(self, launcher: Launcher, studies: Sequence[optuna.Study], show: terminal.Show) -> None:
        self._launcher, self._studies, self._show = launcher, studies, show
        self._next_look = 0.0
        self._deaths: dict[int, list[tuple[int, int]]] = {}  # per worker: (trials left, epochs done) at each death

    def until_all_have_ended(self) -> list[int]:
        """Returns the workers that failed."""
        failed, stopping = [], False
        while self._launcher.running:
            if interrupts.requested() and not stopping:
                stopping = True
                self._launcher.stop()
                terminal.say(f"waiting for {self._launcher.running} workers to end their epochs")
            for worker, code in self._launcher.ended():
                if interrupts.requested() or code == 0:
                    continue
                if code > 0 or not self._start_again(worker, -code):
                    failed.append(worker)
            if time.monotonic() > self._next_look:
                self._look()
            time.sleep(_SECONDS_BETWEEN_POLLS)
        self._look()
        return failed

    def _start_again(self, worker: int, number: int) -> bool:
        """Restarts a killed worker. Returns False if it was killed too often without progress."""
        _requeue_dead(self._studies)
        progress = SearchProgress.of(self._studies)
        what = f"worker {worker} was killed by {_signal(number)}"
        if not progress.left and not progress.open:
            return True
        now = (progress.left, progress.done)
        deaths = [before for before in self._deaths.get(worker, []) if before == now] + [now]
        self._deaths[worker] = deaths
        if len(deaths) >= _DEATHS_WITHOUT_PROGRESS:
            terminal.warn(f"{what}, {len(deaths)} times without progress; it is not restarted")
            return False
        terminal.warn(f"{what}; restarting it")
        self._launcher.start(worker)
        return True

    def _look(self) -> None:
        started = time.monotonic()
        progress = SearchProgress.of(self._studies)
        rows = sorted(self._row(trial) for trial in progress.running)
        ended = progress.planned - progress.left
        trials = f"{ended} trials" if progress.open else f"{ended}/{progress.planned} trials"
        text = f"{trials}, best {progress.best:.3f}"
        self._show(progress.done, text, rows)
        now = time.monotonic()
        self._next_look = now + max(_SECONDS_BETWEEN_LOOKS, 10 * (now - started))  # a large ledger is read less often

    def _row(self, trial: RunningTrial) -> terminal.Row:
        name = "baseline" if trial.index < 0 else f"trial {trial.index}"
        score = "" if trial.value is None else f": {trial.value:.3f}"
        return terminal.Row(self._launcher.name(trial.owner), trial.epochs, trial.given, f"{trial.study} {name}{score}")


def _search(study: optuna.Study) -> Search:
    return from_json(Protocol, study.user_attrs["protocol"]).search


def _requeue_dead(studies: Iterable[optuna.Study]) -> None:
    for study in studies:
        for line in queue.requeue_dead(study):
            terminal.say(f"{study.study_name}, {line}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
