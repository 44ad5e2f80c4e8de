"""The search's ledger: an Optuna study, its trials, and what became of them."""

from __future__ import annotations

import math
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from segbench.core.errors import UserError
from segbench.core.names import part
from segbench.core.protocol import Architecture, Protocol, fingerprint
from segbench.core.records import Device, EpochRecord, StudyRecord, TrialRecord, WeightsOrigin, from_json, to_json
from segbench.ledger import database, liveness, queue, samplers, study_folders
from segbench.ledger.database import StorageUnavailable, StudyStorage
from segbench.ledger.queue import BASELINE as BASELINE
from segbench.ledger.queue import index_of as index_of
from segbench.runtime import interrupts, terminal

FINAL_SCORES = "final_scores"  # the study's attribute that `hindsight` writes
NO_FINAL_SCORES: dict[str, Any] = {"images": "", "scores": {}}  # and what it holds at first
_SECONDS_BETWEEN_LOOKS = 1.0


class TrialFailed(Exception):
    """This configuration cannot be finished, here or on a retry. `outcome` is a TrialRecord state."""

    def __init__(self, outcome: str, reason: str) -> None:
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
        if "id" not in known:
            study.set_user_attr("id", uuid.uuid4().hex)
        study_folders.claim(study.study_name, id_of(study), adopt="fingerprint" in known)
        if "fingerprint" not in known:  # set last: a process that was killed in here leaves all to the next
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["mIoU"])
        description = {"protocol": to_json(protocol), "architecture": to_json(architecture), "subset": subset}
        for key, content in {**description, **dict(reversed(identity.items()))}.items():
            if known.get(key) != content:
                study.set_user_attr(key, content)
    return study


def id_of(study: optuna.Study) -> str:
    """What tells it from a study of the same name in another database; "" where another program made it."""
    return str(study.user_attrs.get("id", ""))


def study_name(protocol: Protocol, architecture: Architecture) -> str:
    """`<protocol>-<architecture>`. Raises UserError where that is too long."""
    return part(f"{protocol.name}-{architecture.name}", "study")


def run(study: optuna.Study, objective: Callable[[optuna.Trial], float], wait: bool = True) -> None:
    """Runs queued trials, beside any number of processes that do the same, until every trial is ended; without `wait`
    only until none is queued.

    TrialFailed ends its trial. Any other exception goes through, and the trial is queued again: after Stopped and
    Ctrl-C it goes on where it was. A trial whose process was killed is queued again by whoever is still there.

    Raises UserError where the study is deleted meanwhile.
    """
    try:
        _run(study, objective, wait)
    except (UserError, Stopped):
        raise
    except Exception as error:
        if study._study_id in {known._study_id for known in database.storage_of(study).get_all_studies()}:
            raise
        raise UserError(
            f"study '{study.study_name}' was deleted while it was being searched; rerun the search to make it anew"
        ) from error


def _run(study: optuna.Study, objective: Callable[[optuna.Trial], float], wait: bool) -> None:
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
    latest = queue.latest(study)
    return StudyRecord(
        name=name,
        id=id_of(study),
        protocol=attributes.get("protocol", {}),
        architecture=attributes.get("architecture", {}),
        fingerprint=attributes.get("fingerprint", ""),
        data_fingerprint=attributes.get("data_fingerprint", ""),
        weights=from_json(WeightsOrigin, attributes["weights"]) if "weights" in attributes else None,
        subset=attributes.get("subset", ""),
        run_id=attributes.get("run_id", ""),
        trials=tuple(_trial_record(name, latest[index], index) for index in sorted(latest)),
        final_scores={int(index): v for index, v in attributes.get(FINAL_SCORES, NO_FINAL_SCORES)["scores"].items()},
    )


def names(storage: RDBStorage) -> list[str]:
    """The studies there are."""
    return sorted(optuna.get_all_study_names(storage))


def best(study: StudyRecord) -> TrialRecord | None:
    """The finished trial with the highest miou; of equals the first trial. The baseline is no candidate."""
    finished = [t for t in study.trials if t.state == "complete" and t.value is not None and not t.baseline]
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
        value, state = None, TrialState.COMPLETE
        with liveness.heartbeat(database.storage_of(study), trial._trial_id):
            try:
                value = objective(trial)
            except optuna.TrialPruned:
                state = TrialState.PRUNED
        if value is not None and not math.isfinite(value):
            raise TrialFailed("failed", f"its objective is {value}")
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
    state = attributes.get("outcome") or {TrialState.FAIL: "failed"}.get(trial.state) or trial.state.name.lower()
    return TrialRecord(
        study=study,
        index=index,
        attempt=trial.number,
        state=state,
        value=trial.value if trial.state in queue.ENDED else None,
        params=trial.params,
        epochs=tuple(from_json(EpochRecord, epoch) for epoch in attributes.get("epochs", [])),
        reason=attributes.get("reason", ""),
        seconds=trial.duration.total_seconds() + attributes.get("earlier_seconds", 0.0) if trial.duration else 0.0,
        startup_seconds=attributes.get("startup_seconds", 0.0),
        device=from_json(Device, attributes["device"]) if "device" in attributes else None,
        run_id=attributes.get("run_id", ""),
        owner=attributes.get("owner", ""),
    )
