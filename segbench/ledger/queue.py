"""The queue of a study's trials: they are planned, queued, claimed, and requeued when a process dies.

A *trial* is one planned configuration. An *attempt* is one Optuna trial that tries it. A killed attempt is followed by
another, so the key is always the user attribute `trial`, never the attempt's number.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as AttemptState
from sqlalchemy import Connection

from segbench.core import space as spaces
from segbench.core.protocol import Architecture, Protocol, Search
from segbench.core.records import Scalar, from_json
from segbench.core.space import Space
from segbench.core.study_record import FRUITLESS_TRIALS, TrialState
from segbench.ledger import attempts, database, device_hours, liveness, optuna_private, samplers
from segbench.ledger.attempts import Attempt, Planned
from segbench.ledger.liveness import WorkerId

BASELINE = -1  # the trial of the known-good configuration that runs beside the plan
UNPLANNED = -2
DEATHS_THAT_SPEND_A_TRIAL = 3
STARTS = "starts"  # the study's attribute with the configurations that begin its plan; see starts.py
_STANDING = ("outcome", "withdrawn", "owner")


@dataclass(frozen=True)
class Plan:
    """What decides the configurations of a search's trials."""

    space: Space
    search: Search
    starts: Sequence[Mapping[str, Scalar]]  # of the first trials

    def trial(self, index: int) -> Planned:
        """The planned trial, without parameters if a sampler chooses them when it starts."""
        distributions = {entry: samplers.distribution(values) for entry, values in self.space.items()}
        drawn: Mapping[str, Any] = {}
        if index < len(self.starts):
            drawn = _by_entry(self.space, self.starts[index])
        elif self.search.sampler == "random":
            drawn = samplers.draw(distributions, self.search.seed, index)
        entries = samplers.chosen(self.space, drawn) if drawn else {}
        return Planned(index, drawn, {entry: distributions[entry] for entry in entries})


def _by_entry(space: Space, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The configuration by the entries of the space: its `lr` is "sgd.lr" if its optimizer has its own."""
    names = spaces.entries(space, str(params["optimizer"]))
    return {names[name]: value for name, value in params.items()}


def index_of(attempt: FrozenTrial | optuna.Trial) -> int:
    """The trial of an attempt; UNPLANNED for a trial that another program added to the study."""
    return int(attempt.user_attrs.get("trial", UNPLANNED))


def plan(study: optuna.Study, space: Space, search: Search, baseline: Mapping[str, Scalar] | None) -> list[str]:
    """Queues every trial that is neither waiting, running nor ended, after `requeue_dead`, whose lines it returns.

    With the random sampler a trial's parameters depend on (seed, trial) alone: the number of runs, their order and
    crashes do not change the plan. Other samplers choose the parameters when the trial starts. The first trials have
    the configurations that are stored with the study (see starts.py). A search by device-hours plans its trials one by
    one, in `claim`.
    """
    storage = database.storage_of(study)
    whole = Plan(space, search, _starts(study))
    with storage.locked():  # workers that start together plan once
        said = _requeue_dead(study)
        storage.writing(lambda connection: _plan(connection, optuna_private.study_id(study), whole, baseline))
    return said


def claim(study: optuna.Study, owner: str) -> optuna.Trial | None:
    """The next queued trial, if any; in a search by device-hours a new one, while hours are left. Optuna's `ask` would
    invent a trial if none waits."""
    study_id, storage = optuna_private.study_id(study), database.storage_of(study)
    claimed = storage.writing(lambda connection: attempts.claim(connection, study_id, owner))
    if claimed is None and (whole := _plan_by_hours(study)):
        claimed = storage.writing(lambda connection: _plan_another(connection, study_id, whole, owner))
    return None if claimed is None else optuna.Trial(study, claimed)


def requeue_dead(study: optuna.Study) -> list[str]:
    """Ends running attempts whose process has died and requeues their trials, unless they died too often.

    A process counts as dead if this host no longer has it, or if it sent no heartbeat for database.GRACE_SECONDS. A
    local process gets two more beats, because the clock may have changed. Returns one line per requeued trial.
    """
    if not _left_behind(study):
        return []
    with database.storage_of(study).locked():
        return _requeue_dead(study)


def end(study: optuna.Study, attempt_id: int, **attributes: Scalar) -> bool:
    """Ends an attempt without a value; an `outcome` also ends its trial. Returns False if it had already ended."""
    return database.storage_of(study).writing(lambda connection: attempts.end(connection, attempt_id, **attributes))


def hand_back(study: optuna.Study, attempt_id: int) -> None:
    """Ends an attempt that was stopped, and requeues its trial, which resumes from its checkpoint."""
    study_id = optuna_private.study_id(study)

    def work(connection: Connection) -> None:
        if attempts.end(connection, attempt_id, stopped=True):
            attempts.requeue(connection, study_id, attempt_id)

    database.storage_of(study).writing(work)


def latest(study: optuna.Study, keys: Sequence[str] = ()) -> dict[int, Attempt]:
    """The last attempt at each trial, with its outcome, owner and the user attributes in `keys`; it replaces earlier
    attempts. Withdrawn trials are left out."""
    study_id, all_keys = optuna_private.study_id(study), (*_STANDING, *keys)
    every = database.storage_of(study).reading(lambda connection: attempts.every(connection, study_id, all_keys))
    return {index: attempt for index, attempt in last(every).items() if "withdrawn" not in attempt.attributes}


def last(every: Iterable[Attempt]) -> dict[int, Attempt]:
    """The last attempt at each trial; `every`: attempts, oldest first."""
    return {attempt.index: attempt for attempt in every}


def unfinished(study: optuna.Study) -> list[Attempt]:
    """The last attempt at each trial that has not ended, in the order of the queue."""
    return sorted((a for a in latest(study).values() if a.unfinished), key=lambda attempt: attempt.id)


def values_of_unfinished(study: optuna.Study) -> dict[int, dict[int, float]]:
    """For each waiting or running attempt, by id: the value of each epoch so far."""
    study_id, states = optuna_private.study_id(study), (AttemptState.WAITING, AttemptState.RUNNING)
    return database.storage_of(study).reading(lambda connection: attempts.values(connection, study_id, states))


def best_value(study: optuna.Study) -> float:
    """The highest value of any epoch of any trial; 0 without epochs."""
    study_id = optuna_private.study_id(study)
    return database.storage_of(study).reading(lambda connection: attempts.best_value(connection, study_id))


def seconds_used(study: optuna.Study) -> float:
    """What a search by device-hours has used; 0 for one by trials."""
    study_id = optuna_private.study_id(study)
    return database.storage_of(study).reading(lambda connection: device_hours.used(connection, study_id))


def plans_more(study: optuna.Study) -> bool:
    """Whether `claim` would plan another trial: device-hours are left, and the search is not hopeless."""
    study_id, whole = optuna_private.study_id(study), _plan_by_hours(study)
    if whole is None:
        return False
    return database.storage_of(study).reading(lambda connection: _is_open(connection, study_id, whole.search))


def deaths(earlier: Sequence[int], epochs: int) -> list[int]:
    """The number of epochs at each death of a trial since its last new epoch, including the newest death."""
    return [*earlier, epochs] if epochs <= max(earlier, default=epochs) else [epochs]


def _plan(connection: Connection, study: int, whole: Plan, baseline: Mapping[str, Scalar] | None) -> None:
    known = last(attempts.every(connection, study, _STANDING))
    trials = whole.search.trials
    for index, attempt in known.items():
        if trials is None:
            continue
        if "withdrawn" in attempt.attributes and index < trials:
            attempts.requeue(connection, study, attempt.id)
        elif attempt.state == AttemptState.WAITING and index >= trials:  # left by a longer search
            attempts.end(connection, attempt.id, withdrawn=True)
    planned = [whole.trial(index) for index in range(trials or 0) if index not in known]
    if baseline and BASELINE not in known:
        space, params = whole.space, _by_entry(whole.space, baseline)
        # Known-good values may lie outside the searched ranges, and then Optuna would refuse them.
        widened = {
            entry: samplers.around(value, samplers.distribution(space[entry])) for entry, value in params.items()
        }
        planned.append(Planned(BASELINE, params, widened))
    attempts.queue(connection, study, planned)


def _plan_another(connection: Connection, study: int, whole: Plan, owner: str) -> int | None:
    """Plans and claims the next trial of a search by device-hours; None if none is left or the search is hopeless."""
    device_hours.lock(connection, study)
    if (claimed := attempts.claim(connection, study, owner)) is not None:
        return claimed  # queued meanwhile by another process
    if not _is_open(connection, study, whole.search):
        return None
    known = last(attempts.every(connection, study, _STANDING))
    attempts.queue(connection, study, [whole.trial(max([-1, *known]) + 1)])
    return attempts.claim(connection, study, owner)


def _is_open(connection: Connection, study: int, search: Search) -> bool:
    """As the opposite of StudyRecord.finished, without reading the study and whatever trials still run."""
    if device_hours.used(connection, study) >= (search.seconds or 0.0):
        return False
    known = last(attempts.every(connection, study, _STANDING))
    ended = sum(not attempt.unfinished for index, attempt in known.items() if index >= 0)
    return ended < FRUITLESS_TRIALS or attempts.any_epoch(connection, study)


def _plan_by_hours(study: optuna.Study) -> Plan | None:
    """What a search by device-hours plans its next trial from; None for one by trials, or of another program."""
    known = study.user_attrs
    if "protocol" not in known or from_json(Protocol, known["protocol"]).search.hours is None:
        return None
    space = from_json(Architecture, known["architecture"]).space
    return Plan(space, from_json(Protocol, known["protocol"]).search, _starts(study))


def _starts(study: optuna.Study) -> list[dict[str, Scalar]]:
    return [params for _, params in study.user_attrs.get(STARTS, [])]


def _requeue_dead(study: optuna.Study) -> list[str]:
    study_id = optuna_private.study_id(study)
    storage, lines = database.storage_of(study), []
    for attempt in _left_behind(study):
        spent = storage.writing(functools.partial(_end_dead, study=study_id, attempt=attempt))
        if attempt.state == AttemptState.RUNNING:
            who = attempt.attributes.get("owner", "its process")
            what = f"failed: {spent}" if spent else "queued again"
            lines.append(f"trial {attempt.index}: {who} is gone; {what}")
    return lines


def _end_dead(connection: Connection, study: int, attempt: Attempt) -> str:
    """Requeues the attempt's trial. If it died too often, ends it instead and returns the reason."""
    attributes = attempts.read_attributes(connection, attempt.id)
    died = deaths(attributes.get("deaths", []), attempts.epochs(connection, attempt.id))
    if attempt.state == AttemptState.RUNNING:
        reason, outcome = "", {}
        if len(died) >= DEATHS_THAT_SPEND_A_TRIAL:
            why = f"in epoch {max(died) + 1} (killed, or the machine ran out of memory)"
            reason = f"its process died {len(died)} times {why}"
            outcome = {"outcome": TrialState.FAILED, "reason": reason}
        if not attempts.end(connection, attempt.id, **outcome) or reason:
            return reason
    attempts.requeue(connection, study, attempt.id, None if "stopped" in attributes else died)
    return ""


def _left_behind(study: optuna.Study) -> list[Attempt]:
    """The running attempts whose process has died, and failed attempts without an outcome."""
    study_id, storage = optuna_private.study_id(study), database.storage_of(study)
    unsettled = storage.reading(lambda connection: attempts.unsettled(connection, study_id))
    grace = storage.grace_period or 0
    silent = [attempt.id for attempt, silence in unsettled if silence is not None and silence > grace]
    silence_seen = storage.seen_silent(study_id, silent)
    return [
        attempt for attempt, silence in unsettled
        if attempt.state == AttemptState.FAIL or _is_silent(attempt, silence_seen) or _is_deserted(attempt)
    ]  # fmt: skip


def _is_silent(attempt: Attempt, seen: Mapping[int, float]) -> bool:
    """A local process without heartbeats hangs, or the clock changed: wait for two more beats."""
    owner = WorkerId.parse(attempt.attributes.get("owner", ""))
    is_local = owner is not None and owner.host == liveness.here()
    return seen.get(attempt.id, -1) >= (2 * database.HEARTBEAT_SECONDS if is_local else 0)


def _is_deserted(attempt: Attempt) -> bool:
    owner = WorkerId.parse(attempt.attributes.get("owner", ""))
    if owner:
        return owner.gone
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    age = now - (attempt.started or datetime.datetime.min)  # not claimed by `run`, so perhaps without heartbeats
    return age.total_seconds() > database.GRACE_SECONDS
