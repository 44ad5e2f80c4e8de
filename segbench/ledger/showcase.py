"""What optuna-dashboard shows beside Optuna's own: notes of studies and trials, a trial's pictures, a plot of classes.

A trial's part is written before the trial is told, by the process that runs it. Its pictures are named after its MLflow
run, which it shares with the other attempts at its trial: an attempt that goes on after a kill replaces them.

<storage>/artifacts/optuna/<uuid>   a picture; the trial's system attribute artifacts:<uuid> says what it is
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.artifacts import ArtifactMeta, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from PIL import Image

from segbench.core import artefacts, paths
from segbench.core.labels import CATEGORIES, COLOURS
from segbench.core.protocol import DRAWN
from segbench.core.records import Device, EpochRecord, from_json
from segbench.data import pictures
from segbench.ledger import curves, database, notes, queue

SCENES = 4  # of the selection images, the same for all trials of a protocol
PLOT = "iou-per-class"
_PREFIX = "artifacts:"  # of the attributes that tell Optuna's artifacts
_JPEG_QUALITY = 88


class Scenes(NamedTuple):
    """What a trial's best epoch makes of the shown scenes."""

    images: NDArray[np.uint8]  # (N, H, W, 3) RGB
    truths: NDArray[np.uint8]  # (N, H, W) categories
    predictions: NDArray[np.uint8]  # (N, H, W) categories

    def picture(self) -> Image.Image:
        """All of them on one sheet."""
        return pictures.sheet(*self)


def store() -> FileSystemArtifactStore:
    """Where the pictures lie, which the dashboard must be told. Raises UserError where it cannot be made."""
    return FileSystemArtifactStore(paths.writable(paths.artifacts() / "optuna", "SEGBENCH_STORAGE"))


def describe(study: optuna.Study, search: str, promote: str) -> None:
    """Writes the study's note. `search`, `promote`: the commands that go on with it, as its user would type them. A
    note that a person has changed stays."""
    with database.storage_of(study).locked():
        if study.user_attrs.get("commands") != [search, promote]:
            study.set_user_attr("commands", [search, promote])
        _describe(study)


def show(trial: optuna.Trial, records: Sequence[EpochRecord], scenes: Scenes) -> None:
    """Gives a trial that is about to end its pictures and its note, and puts it into the study's plot.

    Raises OSError where the pictures cannot be written.
    """
    _attach(trial, "scenes.jpg", "image/jpeg", _encoded(scenes.picture(), "JPEG", quality=_JPEG_QUALITY))
    _attach(trial, artefacts.LEARNING_CURVE, "image/png", curves.png(records))
    notes.write_note(trial.study, _trial_note(trial, records), trial)
    with database.storage_of(trial.study).locked():
        _describe(trial.study)
        _plot(trial)


def forget(study: optuna.Study) -> None:
    """Deletes the pictures of all trials of a study that is about to be deleted."""
    own = store()
    for trial in study.get_trials(deepcopy=False):
        for key in trial.system_attrs:
            if re.fullmatch(_PREFIX + r"[0-9a-f-]{36}", key):  # anybody may write attributes: no other path is ours
                try:
                    own.remove(key.removeprefix(_PREFIX))
                except ArtifactNotFound:
                    continue  # another attempt at the trial had the same


def _attach(trial: optuna.Trial, name: str, mimetype: str, content: bytes) -> None:
    """Like `optuna.artifacts.upload_artifact`, but under an id that stays the same when the trial is tried again, and
    without a moment in which the dashboard would look for a file that is not there yet."""
    own = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{trial.user_attrs['run_id']}/{name}"))
    store().write(own, io.BytesIO(content))
    about = json.dumps(asdict(ArtifactMeta(artifact_id=own, filename=name, mimetype=mimetype, encoding=None)))
    if trial.storage.get_trial_system_attrs(trial._trial_id).get(_PREFIX + own) != about:
        trial.storage.set_trial_system_attr(trial._trial_id, _PREFIX + own, about)


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _describe(study: optuna.Study) -> None:
    known = study.user_attrs
    text, there = _study_note(known), notes.note(study)
    if there and _digest(there) != known.get("note"):
        return
    if text != there:
        study.set_user_attr("note", _digest(text))  # first: a note without it would never be written again
        notes.write_note(study, text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _study_note(known: Mapping[str, Any]) -> str:
    protocol, architecture = known["protocol"], known["architecture"]
    again, promote = known["commands"]
    search, data = protocol["search"], protocol["data"]
    height, width = data["size"]
    origin = known.get("weights")
    weights = f"{origin['name']} (SHA-256 {origin['sha256'][:12]})" if origin else architecture["weights"]
    drawn = f"> **{DRAWN}**\n\n" if data.get("streets") else ""
    return (
        f"{drawn}## {architecture['title']}\n\n"
        f"**Protocol.** {protocol['title']}: trials: {search['trials']}, of {search['epochs']} epochs at "
        f"{height}x{width}; {known.get('subset', '')}. Sampler "
        f"{search['sampler']}, pruner {search['pruner']}, seed {search['seed']}.\n\n"
        f"**Initial weights.** {weights}.\n\n"
        "**Value.** A trial's value is its best epoch's mIoU over the 8 categories, void included. A trial is one "
        "planned configuration; where a process was killed, several attempts (Optuna trials) share it, and the last "
        "one counts.\n\n"
        f"**Go on.** `{again}`, then `{promote}`; the trainings epoch by epoch: `python -m segbench.runs`.\n"
    )


def _trial_note(trial: optuna.Trial, records: Sequence[EpochRecord]) -> str:
    best, last, known = max(records, key=lambda r: r.miou), records[-1], trial.user_attrs
    index, run = queue.index_of(trial), known["run_id"]
    weights = known.get("weights", {})
    rows = {
        "mIoU": f"**{best.miou:.4f}** in epoch {best.epoch} of {last.epoch}; {last.miou:.4f} in the last",
        "official mIoU": f"{best.miou_official:.4f}",
        "pixel accuracy": f"{best.pixel_accuracy:.4f}",
        **{name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in trial.params.items()},
        "initial weights": f"{weights.get('name', '')} (SHA-256 {weights.get('sha256', '')[:12]})",
        "device": from_json(Device, known["device"]).description,
        "seconds": f"{sum(record.seconds.total for record in records):.1f} ({last.images_per_second:.1f} images/s)",
        "MLflow run": f"`{run}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    title = "Baseline" if index == queue.BASELINE else f"Trial {trial}"
    return f"## {title}\n\n| | |\n|---|---|\n{table}\n\nIts epochs in MLflow: `python -m segbench.runs --run {run}`\n"


def _plot(trial: optuna.Trial) -> None:
    """IoU per class at the best epoch of every trial that has ended, and of this one."""
    best = dict(_best_epochs(trial))
    names = ["baseline" if index == queue.BASELINE else str(index) for index in best]
    classes = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": category,
            "x": names,
            "y": [None if iou[index] is None else round(iou[index], 4) for iou in best.values()],
            "marker": {"color": f"rgb{colour}"},
        }
        for index, (category, colour) in enumerate(zip(CATEGORIES, COLOURS, strict=True))
    ]
    layout = {
        "title": {"text": "IoU per class at each trial's best epoch"},
        "xaxis": {"title": {"text": "trial"}, "type": "category"},
        "yaxis": {"title": {"text": "IoU"}, "range": [0, 1]},
    }
    notes.write_plot(trial.study, PLOT, {"data": classes, "layout": layout})


def _best_epochs(trial: optuna.Trial) -> Iterator[tuple[int, Any]]:
    latest = queue.latest(trial.study)
    for index in sorted(latest):
        one = latest[index]
        epochs = one.user_attrs.get("epochs")
        if epochs and (one.state in queue.ENDED or one._trial_id == trial._trial_id):
            yield index, max(epochs, key=lambda epoch: float(epoch["miou"]))["iou"]
