"""The trials of a study: planned, queued, claimed, and queued again where a process died.

A *trial* is one planned configuration. An *attempt* is one Optuna trial that tries it; a killed attempt is followed by
another, so everything is keyed by the user attribute `trial`, never by the attempt's number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as AttemptState

from segbench.core.protocol import Search, Space
from segbench.core.records import Scalar
from segbench.core.study_record import TrialState
from segbench.ledger import database, liveness, samplers
from segbench.ledger.liveness import WorkerId

BASELINE = -1  # the trial of the known-good configuration that runs beside the plan
UNPLANNED = -2
_DEATHS_THAT_SPEND_A_TRIAL = 3
_ATTRIBUTES_OF_ONE_ATTEMPT = {"owner", "device", "stopped", "withdrawn", "outcome", "reason"}
ENDED = (AttemptState.COMPLETE, AttemptState.PRUNED)  # or failed, with an attribute `outcome`
_QUEUED = (AttemptState.WAITING, AttemptState.RUNNING)


def index_of(trial: FrozenTrial | optuna.Trial) -> int:
    """Which planned configuration this is, or UNPLANNED for a trial that somebody else put into the study."""
    return int(trial.user_attrs.get("trial", UNPLANNED))


def plan(study: optuna.Study, space: Space, search: Search, baseline: Mapping[str, Scalar] | None) -> list[str]:
    """Queues every trial that is neither waiting, running nor spent. Returns what `mend` did before.

    With the random sampler a trial's parameters come from (seed, trial) alone: the plan is the same whatever the number
    of runs, the order or the crashes. Other samplers choose when the trial starts.
    """
    with database.storage_of(study).locked():  # workers that start together plan once
        said = _requeue_dead(study)
        _withdraw(study, search.trials)
        _plan(study, space, search, baseline)
    return said


def claim(study: optuna.Study, owner: str) -> optuna.Trial | None:
    """The next queued trial, if any. Optuna's own `ask` would make a trial up where none waits."""
    storage = database.storage_of(study)
    for trial in unfinished(study):
        if trial.state == AttemptState.WAITING and storage.claim(trial._trial_id, owner):
            return optuna.Trial(study, trial._trial_id)
    return None


def requeue_dead(study: optuna.Study) -> list[str]:
    """Ends the running trials whose process is gone and queues their trials again, unless that happened too often.

    A process is gone where this host does not know it any more, or where it has sent no heartbeat for database's
    GRACE_SECONDS; one of this host has two beats more, for its clock may have been set. Returns what was done, a line
    each.
    """
    if not _stale(study) and not _left_alone(study):
        return []
    with database.storage_of(study).locked():
        return _requeue_dead(study)


def end(study: optuna.Study, trial_id: int, **attributes: Scalar) -> None:
    """Ends a trial without a value, unless it has ended already."""
    storage = database.storage_of(study)
    with contextlib.suppress(UpdateFinishedTrialError):
        for key, value in attributes.items():
            storage.set_trial_user_attr(trial_id, key, value)
        storage.set_trial_state_values(trial_id, AttemptState.FAIL)


def latest(study: optuna.Study) -> dict[int, FrozenTrial]:
    """The last attempt of each trial: it replaces the earlier ones. Withdrawn trials are left out."""
    last = {index_of(t): t for t in study.get_trials(deepcopy=False)}
    return {index: t for index, t in last.items() if index != UNPLANNED and not _withdrawn(t)}


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """The last attempts of the trials that have not ended, the one queued first first."""
    found = [t for t in latest(study).values() if t.state not in ENDED and "outcome" not in t.user_attrs]
    return sorted(found, key=lambda trial: trial.number)


def _plan(study: optuna.Study, space: Space, search: Search, baseline: Mapping[str, Scalar] | None) -> None:
    taken = latest(study)
    withdrawn = {index_of(t): t for t in study.get_trials(deepcopy=False) if _withdrawn(t)}
    distributions = {name: samplers.distribution(values) for name, values in space.items()}
    for index in range(search.trials):
        if index in taken:
            continue
        if index in withdrawn:
            _queue_again(study, withdrawn[index])
        else:
            drawn = samplers.draw(distributions, search.seed, index) if search.sampler == "random" else {}
            _queue(study, index, drawn, {name: distributions[name] for name in drawn})
    if baseline and BASELINE not in taken:
        # Known-good values may lie outside the searched ranges, and then Optuna would refuse them.
        own = {name: samplers.around(value, distributions[name]) for name, value in baseline.items()}
        _queue(study, BASELINE, dict(baseline), own)


def _requeue_dead(study: optuna.Study) -> list[str]:
    said = []
    for trial in _stale(study):
        deaths = _deaths(trial)
        spent = {}
        if len(deaths) >= _DEATHS_THAT_SPEND_A_TRIAL:
            why = f"in epoch {max(deaths) + 1} (killed, or the machine ran out of memory)"
            spent = {"outcome": TrialState.FAILED, "reason": f"its process died {len(deaths)} times {why}"}
        end(study, trial._trial_id, **spent)
        what = f"failed: {spent['reason']}" if spent else "queued again"
        said.append(f"trial {index_of(trial)}: {trial.user_attrs.get('owner', 'its process')} is gone; {what}")
    for trial in _left_alone(study):
        _queue_again(study, trial)
    return said


def _stale(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose process is gone."""
    silent = database.storage_of(study).silent(study._study_id)
    running = study.get_trials(deepcopy=False, states=(AttemptState.RUNNING,))
    return [t for t in running if _is_silent(t, silent) or _is_deserted(t)]


def _is_silent(trial: FrozenTrial, silent: Mapping[int, float]) -> bool:
    """Where its process is still there it hangs, or somebody has set the clock: then its next beat will tell."""
    owner = WorkerId.parse(trial.user_attrs.get("owner", ""))
    here = owner is not None and owner.host == liveness.here()
    return silent.get(trial._trial_id, -1) >= (2 * database.HEARTBEAT_SECONDS if here else 0)


def _is_deserted(trial: FrozenTrial) -> bool:
    owner = WorkerId.parse(trial.user_attrs.get("owner", ""))
    if owner:
        return owner.gone
    age = datetime.now() - (trial.datetime_start or datetime.min)  # not claimed by `run`: there may be no heartbeat
    return age.total_seconds() > database.GRACE_SECONDS


def _queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Its trial goes on as a new trial, so that a process thought dead cannot write into it."""
    attributes = {key: value for key, value in trial.user_attrs.items() if key not in _ATTRIBUTES_OF_ONE_ATTEMPT}
    if not {"stopped", "withdrawn"} & set(trial.user_attrs):
        attributes["deaths"] = _deaths(trial)
    study.add_trial(
        create_trial(
            state=AttemptState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attributes,
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
        )
    )


def _deaths(trial: FrozenTrial) -> list[int]:
    """How many epochs stood at each death since the last new epoch, this trial's included."""
    earlier, epochs = trial.user_attrs.get("deaths", []), len(trial.user_attrs.get("epochs", []))
    return [*earlier, epochs] if epochs <= max(earlier, default=epochs) else [epochs]


def _left_alone(study: optuna.Study) -> list[FrozenTrial]:
    """The last attempts of the trials that neither wait nor run nor have ended."""
    return [t for t in unfinished(study) if t.state not in _QUEUED]


def _withdrawn(trial: FrozenTrial) -> bool:
    return "withdrawn" in trial.user_attrs


def _withdraw(study: optuna.Study, trials: int) -> None:
    """Takes back queued trials beyond the budget, left by a longer search; the next longer one queues them again."""
    for trial in study.get_trials(deepcopy=False, states=(AttemptState.WAITING,)):
        if index_of(trial) >= trials:
            end(study, trial._trial_id, withdrawn=True)


def _queue(
    study: optuna.Study, index: int, params: dict[str, Any], distributions: Mapping[str, BaseDistribution]
) -> None:
    study.add_trial(
        create_trial(
            state=AttemptState.WAITING, params=params, distributions=dict(distributions), user_attrs={"trial": index}
        )
    )
