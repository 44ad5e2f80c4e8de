"""Trials and epochs as table rows, for `study export` and the Python API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from segbench.core.records import to_json
from segbench.core.study_record import StudyRecord, TrialRecord

Row = dict[str, Any]


def trial_rows(studies: Iterable[StudyRecord]) -> list[Row]:
    """One row per trial. Columns `params/…` hold its configuration, `device/…` its device."""
    return [_trial_row(trial) for study in studies for trial in study.trials]


def epoch_rows(studies: Iterable[StudyRecord]) -> list[Row]:
    """One row per epoch. Columns `iou/…` hold the IoU per class, 0..1, `seconds/…` the time per part; of panoptic
    protocols `panoptic/…` the panoptic scores and `pq/…` the PQ per class."""
    return [
        row
        for study in studies
        for trial in study.trials
        for row in _epoch_rows(trial, study.protocol.data.labels.names)
    ]


def _trial_row(trial: TrialRecord) -> Row:
    content = to_json(trial)
    params, epochs, device = content.pop("params"), content.pop("epochs"), content.pop("device") or {}
    identity = {"study": content.pop("study"), "trial": content.pop("index")}
    best = trial.best_epoch
    last = trial.epochs[-1] if trial.epochs else None
    scores = {
        "epochs": len(epochs),
        "best_epoch": best and best.epoch,
        "best_miou": best and best.miou,
        "best_miou_official": best and best.miou_official,
        "last_miou": last and last.miou,
    }
    parts = {f"{part}/{k}": v for part, values in (("device", device), ("params", params)) for k, v in values.items()}
    return {**identity, **content, **scores, **parts}


def _epoch_rows(trial: TrialRecord, classes: Sequence[str]) -> list[Row]:
    rows = []
    for epoch in trial.epochs:
        content = to_json(epoch)
        iou = dict(zip((f"iou/{name}" for name in classes), content.pop("iou"), strict=True))
        seconds = {f"seconds/{part}": value for part, value in content.pop("seconds").items()}
        quality = content.pop("panoptic") or {}
        per_class = zip((f"pq/{name}" for name in classes), quality.pop("pq_classes", []), strict=False)
        parts = {**iou, **seconds, **{f"panoptic/{name}": value for name, value in quality.items()}, **dict(per_class)}
        rows.append({"study": trial.study, "trial": trial.index, "attempt": trial.attempt, **content, **parts})
    return rows
