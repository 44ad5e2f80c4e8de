"""Opens a search's Optuna study, runs its trials, and stores their epochs."""

from __future__ import annotations

import math
import time
import uuid
import warnings
from collections.abc import Callable, Mapping

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState as AttemptState

from segbench.core.errors import UserError
from segbench.core.names import part
from segbench.core.protocol import Architecture, Protocol, fingerprint
from segbench.core.records import EpochRecord, WeightsOrigin, to_json
from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.ledger import (
    attempts,
    database,
    liveness,
    optuna_private,
    queue,
    reading,
    samplers,
    starts,
    study_folders,
)
from segbench.ledger.database import StorageUnavailable, StudyStorage
from segbench.ledger.queue import BASELINE as BASELINE
from segbench.ledger.queue import index_of as index_of
from segbench.ledger.reading import names as names
from segbench.ledger.reading import record as record
from segbench.runtime import interrupts, terminal

_SECONDS_BETWEEN_LOOKS = 1.0


class TrialFailed(Exception):
    """The configuration cannot be finished, here or on a retry. `outcome` is the trial's final state."""

    def __init__(self, outcome: TrialState, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class BudgetSpent(Exception):
    """The search's device-hours ended before the trial's first epoch: the trial is withdrawn."""


class Stopped(Exception):
    """The attempt was asked to stop and has saved its progress: its trial resumes from there."""


def open_study(
    storage: StudyStorage, protocol: Protocol, architecture: Architecture, data_fingerprint: str, subset: str
) -> optuna.Study:
    """The study `<protocol>-<architecture>`, created on first use.

    Raises UserError if it was created under another protocol, space or dataset: trials would not be comparable; and if
    its plan cannot begin as the protocol says (see starts.py).
    """
    identity = {"fingerprint": fingerprint(protocol, architecture), "data_fingerprint": data_fingerprint}
    is_new = study_name(protocol, architecture) not in names(storage)
    begins = starts.of(storage, protocol, architecture) if is_new else []
    with storage.locked():  # only one of several starting workers describes the study
        study = optuna.create_study(
            storage=storage,
            study_name=study_name(protocol, architecture),
            direction="maximize",
            load_if_exists=True,
            sampler=samplers.sampler(protocol.search),
            pruner=samplers.pruner(protocol.search),
        )
        known = study.user_attrs
        _require_same(study.study_name, known, identity)
        if "id" not in known:
            study.set_user_attr("id", uuid.uuid4().hex)
        study_folders.claim(study.study_name, id_of(study), adopt="fingerprint" in known)
        if "fingerprint" not in known:  # set last: if this process is killed before, the next one starts over
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([protocol.data.value_name])
        if begins and queue.STARTS not in known and "fingerprint" not in known:
            study.set_user_attr(queue.STARTS, begins)
        description = {"protocol": to_json(protocol), "architecture": to_json(architecture), "subset": subset}
        for key, content in {**description, **dict(reversed(identity.items()))}.items():
            if known.get(key) != content:
                study.set_user_attr(key, content)
    return study


def id_of(study: optuna.Study) -> str:
    """The id that distinguishes it from a study of the same name in another database; "" for another program's."""
    return str(study.user_attrs.get("id", ""))


def study_name(protocol: Protocol, architecture: Architecture) -> str:
    """`<protocol>-<architecture>`. Raises UserError if that is too long."""
    return part(f"{protocol.name}-{architecture.name}", "study")


def run(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    wait: bool = True,
    ended: Callable[[int], None] = lambda index: None,
) -> None:
    """Runs queued trials, beside any number of other processes, until every trial has ended; without `wait` only until
    the queue is empty. Calls `ended` with the index of every trial that ended here.

    TrialFailed ends its trial. After any other exception, which is raised, the trial is requeued; after Stopped and
    Ctrl-C it resumes from its checkpoint. A killed process's trial is requeued by the remaining processes.

    Raises UserError if the study is deleted meanwhile.
    """
    try:
        _run_all(study, objective, wait, ended)
    except (UserError, Stopped):
        raise
    except Exception:
        _require_still_there(study)
        raise
    _require_still_there(study)


def _require_still_there(study: optuna.Study) -> None:
    if not reading.is_there(database.storage_of(study), optuna_private.study_id(study)):
        raise UserError(
            f"study '{study.study_name}' was deleted while it was being searched; rerun the search to recreate it"
        )


def _run_all(
    study: optuna.Study, objective: Callable[[optuna.Trial], float], wait: bool, ended: Callable[[int], None]
) -> None:
    owner, waits = str(liveness.me()), False
    while True:
        if interrupts.requested():
            raise Stopped
        for line in queue.requeue_dead(study):
            terminal.say(line)
        attempt = queue.claim(study, owner)
        if attempt:
            if _run(study, attempt, objective):
                ended(index_of(attempt))
            continue
        others = queue.unfinished(study)
        if not others or not wait:
            return
        if not waits:
            waits = True
            names = sorted({other.attributes.get("owner", "an unknown process") for other in others})
            terminal.say(f"waiting for trials of other processes ({len(others)}): {', '.join(names)}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def report(attempt: optuna.Trial, record: EpochRecord) -> None:
    """Stores an epoch and its value for the pruner, in one transaction. An epoch that is trained again replaces the
    stored one. Raises UpdateFinishedTrialError if the trial was given to another process."""
    attempt_id, content = optuna_private.attempt_id(attempt), to_json(record)
    database.storage_of(attempt.study).writing(
        lambda connection: attempts.report(connection, attempt_id, record.epoch, record.value, content)
    )
    optuna_private.tell_pruner(attempt, record.epoch, record.value)


def epochs_reported(attempt: optuna.Trial) -> int:
    """The number of stored epochs, including those of earlier attempts at the trial."""
    attempt_id = optuna_private.attempt_id(attempt)
    return database.storage_of(attempt.study).reading(lambda connection: attempts.epochs(connection, attempt_id))


def remember_weights(attempt: optuna.Trial, origin: WeightsOrigin) -> None:
    """Stores the attempt's initial weights, and the first attempt's with the study, since all start from the same."""
    attempt.set_user_attr("weights", to_json(origin))
    if "weights" not in attempt.study.user_attrs:
        attempt.study.set_user_attr("weights", to_json(origin))


def best(study: StudyRecord) -> TrialRecord | None:
    """The finished trial with the highest value, the first of equals; never the baseline."""
    finished = [t for t in study.planned if t.state == TrialState.COMPLETE and t.value is not None]
    return max(finished, key=lambda t: (t.value or 0.0, -t.index), default=None)


def _require_same(name: str, known: Mapping[str, str], identity: Mapping[str, str]) -> None:
    for key, value in identity.items():
        if known.get(key, value) != value:
            what = "protocol or space" if key == "fingerprint" else "dataset"
            raise UserError(
                f"study '{name}' was created with another {what} (fingerprint {known[key]}, now {value}); its trials "
                "would not be comparable; undo the change, or copy the protocol folder under a new name and give "
                "--protocol NEW, or set SEGBENCH_STORAGE to another folder"
            )


def _run(study: optuna.Study, attempt: optuna.Trial, objective: Callable[[optuna.Trial], float]) -> bool:
    """Whether the trial has ended."""
    attempt_id = optuna_private.attempt_id(attempt)
    try:
        value, state = None, AttemptState.COMPLETE
        with liveness.heartbeat(database.storage_of(study), attempt_id):
            try:
                value = objective(attempt)
            except optuna.TrialPruned:
                state = AttemptState.PRUNED
        if value is not None and not math.isfinite(value):
            raise TrialFailed(TrialState.FAILED, f"its objective is {value}")
        return study.tell(attempt, value, state, skip_if_finished=True).state == state
    except TrialFailed as failure:
        return queue.end(study, attempt_id, outcome=failure.outcome, reason=str(failure))
    except BudgetSpent:
        return queue.end(study, attempt_id, withdrawn=True)
    except UpdateFinishedTrialError:
        return False  # this process sent no heartbeat for so long that its trial was given to another
    except StorageUnavailable:
        raise
    except BaseException:
        queue.hand_back(study, attempt_id)
        raise
