"""Deletes a study with its runs, registered models, trials and promoted models, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import TrialState

from segbench.core import paths, urls
from segbench.core.errors import UserError
from segbench.ledger import database, queue, registry, runs, showcase, studies, study_folders, tracking
from segbench.ledger.database import StudyStorage


class Deletable(NamedTuple):
    name: str
    id: str  # what carries it is deleted with the study; "" if nothing is
    trials: int
    folders: list[Path]


class Deleted(NamedTuple):
    runs: int
    removed: list[Path]
    kept: list[Path]  # folders of the study that hold foreign files


@contextlib.contextmanager
def ready(storage: StudyStorage, where: str, name: str) -> Iterator[Deletable]:
    """A study that no process searches, and that none can promote while the block runs. `where`: the storage's URL or
    path.

    Raises UserError if a process searches or promotes it.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    queue.requeue_dead(study)
    attempts = study.get_trials(deepcopy=False)
    if running := [attempt for attempt in attempts if attempt.state == TrialState.RUNNING]:
        owners = ", ".join(sorted({attempt.user_attrs.get("owner", "an unknown process") for attempt in running}))
        raise UserError(
            f"study '{name}' is being searched by {owners}; stop that first (a dead host counts as gone after 3 "
            "minutes)"
        )
    study_id = "" if _is_copy(where, name, studies.id_of(study)) else studies.id_of(study)
    with study_folders.unused(name):
        yield Deletable(name, study_id, len(attempts), study_folders.owned(name, study_id))


def delete(storage: StudyStorage, study: Deletable) -> Deleted:
    """Deletes the study's runs, models and folders, and the study itself last, so that an interrupted deletion can be
    rerun."""
    number = 0
    if study.id and tracking.is_there():
        mlflow = tracking.client()
        registry.delete(mlflow, study.id)
        number = runs.delete(mlflow, study.id)
    removed, kept = study_folders.remove(study.name, study.id)
    if study.id:
        showcase.forget(optuna.load_study(study_name=study.name, storage=storage))
    optuna.delete_study(study_name=study.name, storage=storage)
    return Deleted(number, removed, kept)


def _is_copy(where: str, name: str, study_id: str) -> bool:
    """Whether `where` is another database, such as a backup, that holds a copy of a study of the storage's database:
    the original keeps its runs and folders."""
    main = paths.studies_database()
    if urls.read(where) == urls.read(main) or not database.is_there(main):
        return False
    storage = database.connect(main)
    return name in studies.names(storage) and studies.record(storage, name).id == study_id
