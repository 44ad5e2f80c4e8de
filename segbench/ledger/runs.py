"""Trainings in MLflow: logs epochs as they end, and reads them back.

One experiment per protocol holds one run per study, which holds the runs of its trials and promotions.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.records import EpochRecord, EpochSeconds, Quality, Scalar, from_json, to_json
from segbench.ledger.tracking import OUTAGE, literal, patient

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ATTEMPT = "optuna.trial"
_UNDEFINED = -1.0  # the IoU of a category that occurs nowhere: MLflow cannot store None


@patient
def study_run(mlflow: MlflowClient, protocol: str, study: str, study_id: str, tags: Mapping[str, str]) -> str:
    """The MLflow id of the study's run, created on first use together with the protocol's experiment."""
    experiment = _experiment(mlflow, protocol)
    existing = mlflow.search_runs([experiment], _of_study(study_id), max_results=1)
    all_tags = {**tags, "study": study, "study_id": study_id, "kind": "study"}
    run = existing[0] if existing else mlflow.create_run(experiment, run_name=study, tags=all_tags)
    if run.info.status == "RUNNING":  # new, or left by a process that was killed here
        mlflow.set_terminated(run.info.run_id)
    return str(run.info.run_id)


@patient
def nested_run(
    mlflow: MlflowClient, parent: str, name: str, tags: Mapping[str, str], params: Mapping[str, Scalar]
) -> str:
    """The id of a new run inside `parent`, with its parameters. An empty run with the same tags is reused: its process
    was killed before it could store the id."""
    from mlflow.entities import Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    experiment = mlflow.get_run(parent).info.experiment_id
    all_tags = {**tags, MLFLOW_PARENT_RUN_ID: parent}
    same = " and ".join(f"tags.`{key}` = {literal(value)}" for key, value in all_tags.items() if key != _ATTEMPT)
    unfinished = mlflow.search_runs([experiment], f"attributes.status = 'RUNNING' and {same}")
    run = next((run for run in unfinished if not run.data.metrics), None)
    run = run or mlflow.create_run(experiment, run_name=name, tags=all_tags)
    if _ATTEMPT in tags:  # Optuna's number changes with every attempt
        mlflow.set_tag(run.info.run_id, _ATTEMPT, tags[_ATTEMPT])
    mlflow.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
    return str(run.info.run_id)


def trial_tags(study: str, attempt: int, trial: int) -> dict[str, str]:
    """The tags that lead from a run to its trial in Optuna."""
    return {"optuna.study": study, _ATTEMPT: str(attempt), "trial": str(trial)}


@patient
def reopened(mlflow: MlflowClient, run: str, tags: Mapping[str, str]) -> bool:
    """Sets an ended or killed run to running again. Returns False if it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        if mlflow.get_run(run).info.lifecycle_stage != "active":
            return False
        mlflow.update_run(run, status="RUNNING")
        for key, value in tags.items():
            mlflow.set_tag(run, key, value)
    except MlflowException as error:
        if error.error_code == OUTAGE:
            raise
        return False
    return True


@patient
def give_up(mlflow: MlflowClient, run: str) -> None:
    """Ends a run that still counts as running as failed. A deleted run is ignored."""
    from mlflow.exceptions import MlflowException

    try:
        if mlflow.get_run(run).info.status == "RUNNING":
            mlflow.set_terminated(run, "FAILED")
    except MlflowException as error:
        if error.error_code == OUTAGE:
            raise


@patient
def steps(mlflow: MlflowClient, run: str) -> set[int]:
    """The epochs that are logged already: an epoch logged twice would be two points."""
    return {metric.step for metric in mlflow.get_metric_history(run, "miou")}


@patient
def log_epoch(mlflow: MlflowClient, run: str, record: EpochRecord, classes: Sequence[str]) -> None:
    """Logs an epoch in one synchronous call: an asynchronous call would be lost if the process is killed. `classes`:
    whose IoU it holds."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, record.epoch) for key, value in _flat(record, classes).items()]
    mlflow.log_batch(run, metrics=metrics)


@patient
def log_metrics(mlflow: MlflowClient, run: str, values: Mapping[str, float]) -> None:
    """Logs numbers that belong to no epoch. Existing ones are not changed."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    logged = mlflow.get_run(run).data.metrics
    mlflow.log_batch(run, metrics=[Metric(key, value, now, 0) for key, value in values.items() if key not in logged])


@contextlib.contextmanager
def ended(
    mlflow: MlflowClient,
    run: str,
    fine: tuple[type[BaseException], ...] = (),
    killed: tuple[type[BaseException], ...] = (),
    handed_over: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Ends the run with the block: as FINISHED, also after exceptions in `fine`; as KILLED after those in `killed` and
    after Ctrl-C; as FAILED after any other. After those in `handed_over` another process ends it."""
    status: str | None = "KILLED"
    try:
        yield
        status = "FINISHED"
    except handed_over:
        status = None
        raise
    except fine:
        status = "FINISHED"
        raise
    except killed:
        raise
    except Exception:
        status = "FAILED"
        raise
    finally:
        if status:
            patient(mlflow.set_terminated)(run, status)


def epochs(mlflow: MlflowClient, run: str, classes: Sequence[str]) -> tuple[EpochRecord, ...]:
    """The logged epochs, in order, with the IoU of these `classes`. Raises UserError if the run does not exist."""
    wanted = _keys(classes)
    try:
        keys = [key for key in mlflow.get_run(run).data.metrics if key in wanted]
    except Exception as error:
        raise UserError(f"MLflow has no run {run}: its database was moved or replaced. Promote again") from error
    by_epoch: dict[int, dict[str, float]] = {}
    for key in keys:
        for metric in mlflow.get_metric_history(run, key):
            by_epoch.setdefault(metric.step, {})[key] = metric.value
    return tuple(_epoch(epoch, by_epoch[epoch], classes) for epoch in sorted(by_epoch))


def delete(mlflow: MlflowClient, study_id: str) -> int:
    """Deletes the run of the study of this id, the runs of its trials and promotions, and their files in the storage;
    `mlflow gc` frees files on a server.

    Returns the number of deleted runs.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    everywhere = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    parents = _all(mlflow, everywhere, _of_study(study_id)) if study_id else []
    nested = [
        run
        for parent in parents
        for run in _all(mlflow, everywhere, f"tags.`{MLFLOW_PARENT_RUN_ID}` = {literal(parent.info.run_id)}")
    ]
    for run in (*nested, *parents):  # the parents last, so that an interrupted deletion can be rerun
        shutil.rmtree(paths.artifacts() / "mlflow" / run.info.run_id, ignore_errors=True)  # MLflow would keep them
        mlflow.delete_run(run.info.run_id)
    return len(nested) + len(parents)


def _of_study(study_id: str) -> str:
    return f"tags.study_id = {literal(study_id)} and tags.kind = 'study'"


def _all(mlflow: MlflowClient, experiments: list[str], query: str) -> list[Any]:
    page = mlflow.search_runs(experiments, query)
    runs = list(page)
    while page.token:
        page = mlflow.search_runs(experiments, query, page_token=page.token)
        runs += page
    return runs


def _experiment(mlflow: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = mlflow.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    # MLflow would freeze a location relative to today's working folder.
    location = None if os.environ.get("MLFLOW_TRACKING_URI") else (paths.artifacts() / "mlflow").resolve().as_uri()
    try:
        return str(mlflow.create_experiment(name, artifact_location=location))
    except MlflowException:
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)  # another process created it first


def _flat(record: EpochRecord, classes: Sequence[str]) -> dict[str, float]:
    content = {key: value for key, value in to_json(record).items() if value is not None}  # what older records lack
    content.pop("epoch")
    content |= _quality(content.pop("panoptic"), classes) if record.panoptic else {}
    iou = {f"iou/{c}": _UNDEFINED if v is None else v for c, v in zip(classes, content.pop("iou"), strict=True)}
    seconds = {f"seconds/{part}": value for part, value in content.pop("seconds").items()}
    return {**content, **iou, **seconds}


def _quality(parts: dict[str, Any], classes: Sequence[str]) -> dict[str, float]:
    of_classes = {f"pq/{name}": value for name, value in zip(classes, parts.pop("pq_classes"), strict=True)}
    values = {**{f"panoptic/{name}": value for name, value in parts.items()}, **of_classes}
    return {name: _UNDEFINED if value is None else value for name, value in values.items()}


def _quality_of(flat: Mapping[str, float], classes: Sequence[str]) -> dict[str, Any] | None:
    """What `_quality` made flat; None where there is none."""
    defined = {key: None if value == _UNDEFINED else value for key, value in flat.items()}
    parts = {key.removeprefix("panoptic/"): v for key, v in defined.items() if key.startswith("panoptic/")}
    return {**parts, "pq_classes": [defined[f"pq/{name}"] for name in classes]} if parts else None


def _epoch(epoch: int, flat: Mapping[str, float], classes: Sequence[str]) -> EpochRecord:
    content: dict[str, Any] = {key: value for key, value in flat.items() if "/" not in key}
    iou = [flat[f"iou/{name}"] for name in classes]
    content["iou"] = [None if value == _UNDEFINED else value for value in iou]
    content["seconds"] = {key.removeprefix("seconds/"): v for key, v in flat.items() if key.startswith("seconds/")}
    content["panoptic"] = _quality_of(flat, classes)
    return from_json(EpochRecord, {"epoch": epoch, **content})


def _keys(classes: Sequence[str]) -> set[str]:
    """The metrics that make an epoch."""
    numbers = {name for name in EpochRecord.__dataclass_fields__ if name not in ("epoch", "iou", "seconds", "panoptic")}
    parts = {f"seconds/{part}" for part in EpochSeconds.__dataclass_fields__}
    quality = {f"panoptic/{part}" for part in Quality.__dataclass_fields__}
    return numbers | parts | quality | {f"{score}/{name}" for score in ("iou", "pq") for name in classes}
