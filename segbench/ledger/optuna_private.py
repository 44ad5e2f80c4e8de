"""Every private name of Optuna that segbench uses, in one place.

Optuna has no public way to claim an attempt, to queue a thousand attempts or to read a study in one query. A test
checks that the installed Optuna has all these names; pyproject.toml allows the versions that passed it.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

METADATA = models.BaseModel.metadata
STUDIES: Any = models.StudyModel.__table__
STUDY_USER_ATTRIBUTES: Any = models.StudyUserAttributeModel.__table__
STUDY_SYSTEM_ATTRIBUTES: Any = models.StudySystemAttributeModel.__table__
ATTEMPTS: Any = models.TrialModel.__table__  # Optuna's trial is our attempt
PARAMS: Any = models.TrialParamModel.__table__
VALUES: Any = models.TrialValueModel.__table__
INTERMEDIATE_VALUES: Any = models.TrialIntermediateValueModel.__table__
USER_ATTRIBUTES: Any = models.TrialUserAttributeModel.__table__
SYSTEM_ATTRIBUTES: Any = models.TrialSystemAttributeModel.__table__
HEARTBEATS: Any = models.TrialHeartbeatModel.__table__
COLUMNS = {  # those that segbench's statements name
    "studies": ("study_id", "study_name"),
    "study_user_attributes": ("study_id", "key", "value_json"),
    "study_system_attributes": ("study_id", "key", "value_json"),
    "trials": ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),  # UTC, naive
    "trial_params": ("trial_id", "param_name", "param_value", "distribution_json"),
    "trial_values": ("trial_id", "objective", "value"),
    "trial_intermediate_values": ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
    "trial_user_attributes": ("trial_id", "key", "value_json"),
    "trial_system_attributes": ("trial_id", "key", "value_json"),
    "trial_heartbeats": ("trial_id", "heartbeat"),
}
# All methods through which Optuna reaches the database while a study is searched.
STORAGE_METHODS = (
    *("create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name"),
    *("get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs"),
    *("get_all_studies", "_create_new_trial", "_set_trial_param", "set_trial_state_values", "get_trial", "_get_trials"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr", "get_trial_system_attrs"),
)


def study_id(study: optuna.Study) -> int:
    """The primary key of its row."""
    return study._study_id


def attempt_id(attempt: optuna.Trial | FrozenTrial) -> int:
    """The primary key of its row."""
    return attempt._trial_id


def storage(study: optuna.Study) -> RDBStorage:
    """The storage that the study was opened with; Optuna wraps it in a cache."""
    backend = getattr(study._storage, "_backend", None)
    assert isinstance(backend, RDBStorage)
    return backend


def finite(value: float) -> dict[str, Any]:
    """The columns that hold a finite intermediate value."""
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"intermediate_value": stored, "intermediate_value_type": kind}


def tell_pruner(attempt: optuna.Trial, step: int, value: float) -> None:
    """The part of `Trial.report` besides writing: pruners read the attempt's values from this process's memory."""
    attempt._cached_frozen_trial.intermediate_values[step] = value
