"""The search's ledger: an Optuna study, its trials, and what became of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as AttemptState

from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol, fingerprint
from segbench.core.records import EpochRecord, WeightsOrigin, from_json, to_json
from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.ledger import database, liveness, queue, samplers
from segbench.ledger.database import StorageUnavailable, StudyStorage
from segbench.ledger.queue import BASELINE as BASELINE
from segbench.ledger.queue import index_of as index_of
from segbench.runtime import interrupts, terminal

FINAL_SCORES = "final_scores"  # the study's attribute that `hindsight` writes
NO_FINAL_SCORES: dict[str, Any] = {"images": "", "scores": {}}  # and what it holds at first
_SECONDS_BETWEEN_LOOKS = 1.0


class TrialFailed(Exception):
    """This configuration cannot be finished, here or on a retry. `outcome` is its trial's state."""

    def __init__(self, outcome: TrialState, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Stopped(Exception):
    """The trial was asked to stop and has kept all it did: its trial goes on where it stopped."""


def open_study(
    storage: StudyStorage, protocol: Protocol, architecture: Architecture, data_fingerprint: str, subset: str
) -> optuna.Study:
    """The study `<protocol>-<architecture>`, made on first use.

    Raises UserError where it was made under another protocol, space or dataset: its trials would not be comparable.
    """
    identity = {"fingerprint": fingerprint(protocol, architecture), "data_fingerprint": data_fingerprint}
    with storage.locked():  # of workers that start together, one describes the study
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
        if "fingerprint" not in known:  # set last: a process that was killed in here leaves all to the next
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["mIoU"])
        description = {"protocol": to_json(protocol), "architecture": to_json(architecture), "subset": subset}
        for key, content in {**description, **dict(reversed(identity.items()))}.items():
            if known.get(key) != content:
                study.set_user_attr(key, content)
    return study


def study_name(protocol: Protocol, architecture: Architecture) -> str:
    """`<protocol>-<architecture>`."""
    return f"{protocol.name}-{architecture.name}"


def run(study: optuna.Study, objective: Callable[[optuna.Trial], float], wait: bool = True) -> None:
    """Runs queued trials, beside any number of processes that do the same, until every trial is ended; without `wait`
    only until none is queued.

    TrialFailed ends its trial. Any other exception goes through, and the trial is queued again: after Stopped and
    Ctrl-C it goes on where it was. A trial whose process was killed is queued again by whoever is still there.
    """
    owner, waits = str(liveness.me()), False
    while True:
        if interrupts.requested():
            raise Stopped
        for line in queue.requeue_dead(study):
            terminal.say(line)
        trial = queue.claim(study, owner)
        if trial:
            _attempt(study, trial, objective)
            continue
        others = queue.unfinished(study)
        if not others or not wait:
            return
        if not waits:
            waits = True
            names = sorted({t.user_attrs.get("owner", "an unknown process") for t in others})
            terminal.say(f"waiting for {len(others)} more, which run elsewhere: {', '.join(names)}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def report(trial: optuna.Trial, epochs: list[EpochRecord]) -> None:
    """Keeps all epochs so far, and reports the last to the pruner."""
    trial.set_user_attr("epochs", to_json(epochs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a trial that goes on may report its last epoch again
        trial.report(epochs[-1].miou, epochs[-1].epoch)


def remember_weights(trial: optuna.Trial, origin: WeightsOrigin) -> None:
    """Keeps where the trial started from; the study tells it of its first trial, since all start from the same."""
    trial.set_user_attr("weights", to_json(origin))
    if "weights" not in trial.study.user_attrs:
        trial.study.set_user_attr("weights", to_json(origin))


def record(storage: RDBStorage, name: str, search: str = "python -m segbench.search") -> StudyRecord:
    """The study as a record. Raises UserError where there is none; `search` is the command that would make it."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        there = ", ".join(names(storage)) or "no study at all"
        raise UserError(f"no study '{name}': the storage holds {there}. Search first: {search}") from None
    attributes = study.user_attrs
    try:
        protocol = from_json(Protocol, attributes["protocol"])
        architecture = from_json(Architecture, attributes["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"study '{name}' cannot be read ({error!r}): another program or version made it; search under a new "
            "name, or give another database with --study-db"
        ) from error
    latest = queue.latest(study)
    return StudyRecord(
        name=name,
        protocol=protocol,
        architecture=architecture,
        fingerprint=attributes.get("fingerprint", ""),
        data_fingerprint=attributes.get("data_fingerprint", ""),
        weights=from_json(WeightsOrigin, attributes["weights"]) if "weights" in attributes else None,
        subset=attributes.get("subset", ""),
        run_id=attributes.get("run_id", ""),
        trials=tuple(_trial_record(name, latest[index], index) for index in sorted(latest)),
        final_scores={int(index): v for index, v in attributes.get(FINAL_SCORES, NO_FINAL_SCORES)["scores"].items()},
    )


def names(storage: RDBStorage) -> list[str]:
    """The studies that `open_study` made; those of other programs are left out."""
    return sorted(study.study_name for study in storage.get_all_studies() if "protocol" in study.user_attrs)


def best(study: StudyRecord) -> TrialRecord | None:
    """The finished trial with the highest miou; of equals the first trial. The baseline is no candidate."""
    finished = [t for t in study.planned if t.state == TrialState.COMPLETE and t.value is not None]
    return max(finished, key=lambda t: (t.value or 0.0, -t.index), default=None)


def _require_same(name: str, known: Mapping[str, str], identity: Mapping[str, str]) -> None:
    for key, value in identity.items():
        if known.get(key, value) != value:
            what = "protocol or space" if key == "fingerprint" else "dataset"
            raise UserError(
                f"study '{name}' was made with another {what} (fingerprint {known[key]}, now {value}), so its trials "
                "would not be comparable: undo the change, or copy the protocol folder under a new name and give "
                "--protocol NEW, or set SEGBENCH_STORAGE to another folder"
            )


def _attempt(study: optuna.Study, trial: optuna.Trial, objective: Callable[[optuna.Trial], float]) -> None:
    try:
        value, state = None, AttemptState.COMPLETE
        with liveness.heartbeat(database.storage_of(study), trial._trial_id):
            try:
                value = objective(trial)
            except optuna.TrialPruned:
                state = AttemptState.PRUNED
        if value is not None and not math.isfinite(value):
            raise TrialFailed(TrialState.FAILED, f"its objective is {value}")
        study.tell(trial, value, state, skip_if_finished=True)
    except TrialFailed as failure:
        queue.end(study, trial._trial_id, outcome=failure.outcome, reason=str(failure))
    except UpdateFinishedTrialError:
        pass  # this process was silent for so long that its trial was given to another
    except StorageUnavailable:
        raise
    except BaseException:
        queue.end(study, trial._trial_id, stopped=True)
        queue.requeue_dead(study)
        raise


def _trial_record(study: str, trial: FrozenTrial, index: int) -> TrialRecord:
    attributes = trial.user_attrs
    state = attributes.get("outcome") or {AttemptState.FAIL: "failed"}.get(trial.state) or trial.state.name.lower()
    ended = trial.datetime_complete.astimezone(UTC) if trial.datetime_complete else None  # Optuna's is local time
    return TrialRecord(
        study=study,
        index=index,
        attempt=trial.number,
        state=TrialState(state),
        value=trial.value if trial.state in queue.ENDED else None,
        params=trial.params,
        epochs=tuple(from_json(EpochRecord, epoch) for epoch in attributes.get("epochs", [])),
        reason=attributes.get("reason", ""),
        seconds=trial.duration.total_seconds() + attributes.get("earlier_seconds", 0.0) if trial.duration else 0.0,
        startup_seconds=attributes.get("startup_seconds", 0.0),
        device=attributes.get("device", ""),
        run_id=attributes.get("run_id", ""),
        owner=attributes.get("owner", ""),
        ended=ended.isoformat() if ended else "",
    )
