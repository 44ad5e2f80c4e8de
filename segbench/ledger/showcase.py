"""Additions to optuna-dashboard: notes of studies and trials, pictures of each trial, a plot of the classes.

The process that runs an attempt writes its note and pictures before the attempt ends. The pictures are named after the
MLflow run, which all attempts at a trial share, so an attempt that resumes after a kill replaces them.

<storage>/artifacts/optuna/<uuid>   a picture; the attempt's system attribute artifacts:<uuid> describes it
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.artifacts import ArtifactMeta, FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from PIL import Image

from segbench.core import artefacts, paths
from segbench.core.panoptic import PANOPTIC
from segbench.core.protocol import DRAWN, Architecture, Protocol
from segbench.core.records import Device, EpochRecord, WeightsOrigin, best_epoch, from_json
from segbench.core.space import resolved
from segbench.core.study_record import TrialState
from segbench.data import pictures
from segbench.ledger import attempts, curves, database, notes, optuna_private, queue, reading

SCENES = 4  # of the selection images, the same for all trials of a protocol
PLOT = "iou-per-class"
_PREFIX = "artifacts:"  # of the attributes that describe Optuna's artifacts
_JPEG_QUALITY = 88
_PLOTTED = "segbench:plotted"  # the study's system attribute with the number of trials in the plot
_GROWTH = 1.1  # the plot is redrawn when the number of trials has grown by this factor


class Scenes(NamedTuple):
    """The shown scenes with the predictions of a trial's best epoch."""

    images: NDArray[np.uint8]  # (N, H, W, 3) RGB
    truths: Sequence[Image.Image]  # N maps of classes or segments, in the classes' colours
    predictions: Sequence[Image.Image]  # likewise

    def picture(self) -> Image.Image:
        """All of them on one sheet."""
        return pictures.sheet(*self)


def store() -> FileSystemArtifactStore:
    """The store of the pictures, which the dashboard reads. Raises UserError if its folder cannot be created."""
    return FileSystemArtifactStore(paths.writable(paths.artifacts() / "optuna", "SEGBENCH_STORAGE"))


def describe(study: optuna.Study, search: str, promote: str) -> None:
    """Writes the study's note. `search`, `promote`: the commands that continue the study, as the user would type them.
    A note that a person has edited is kept."""
    with database.storage_of(study).locked():
        if study.user_attrs.get("commands") != [search, promote]:
            study.set_user_attr("commands", [search, promote])
        _describe(study)


def show(attempt: optuna.Trial, records: Sequence[EpochRecord], scenes: Scenes) -> None:
    """Writes the pictures and the note of an attempt that is about to end. Redraws the study's plot when the number of
    trials has grown by a tenth, because the plot's cost grows with the study; `finish` draws it, too.

    Raises OSError if the pictures cannot be written.
    """
    _attach(attempt, "scenes.jpg", "image/jpeg", _encoded(scenes.picture(), "JPEG", quality=_JPEG_QUALITY))
    _attach(attempt, artefacts.LEARNING_CURVE, "image/png", curves.png(records))
    notes.write_note(attempt.study, _trial_note(attempt, records), attempt)
    with database.storage_of(attempt.study).locked():
        _describe(attempt.study)
        if _ended(attempt.study) + 1 >= _GROWTH * _plotted(attempt.study):
            _plot(attempt.study, queue.index_of(attempt))


def finish(study: optuna.Study) -> None:
    """Redraws the plot of a study whose search has ended, unless it already shows all trials."""
    with database.storage_of(study).locked():
        if _ended(study) != _plotted(study):
            _plot(study)


def forget(study: optuna.Study) -> None:
    """Deletes the pictures of all trials of a study that is about to be deleted."""
    pictures_store = store()
    for attempt in study.get_trials(deepcopy=False):
        for key in attempt.system_attrs:
            if re.fullmatch(_PREFIX + r"[0-9a-f-]{36}", key):  # anybody may write attributes: accept no other path
                try:
                    pictures_store.remove(key.removeprefix(_PREFIX))
                except ArtifactNotFound:
                    continue  # another attempt at the trial had the same picture


def _attach(attempt: optuna.Trial, name: str, mimetype: str, content: bytes) -> None:
    """Like `optuna.artifacts.upload_artifact`, but all attempts at a trial use the same id, and the file exists before
    the dashboard can look for it."""
    artifact = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{attempt.user_attrs['run_id']}/{name}"))
    store().write(artifact, io.BytesIO(content))
    about = json.dumps(asdict(ArtifactMeta(artifact_id=artifact, filename=name, mimetype=mimetype, encoding=None)))
    attempt.storage.set_trial_system_attr(optuna_private.attempt_id(attempt), _PREFIX + artifact, about)


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _describe(study: optuna.Study) -> None:
    known = study.user_attrs
    text, current = _study_note(known), notes.note(study)
    if current and _digest(current) != known.get("note"):
        return
    if text != current:
        study.set_user_attr("note", _digest(text))  # first: a note without its digest would never be replaced
        notes.write_note(study, text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _study_note(known: Mapping[str, Any]) -> str:
    protocol, architecture = from_json(Protocol, known["protocol"]), from_json(Architecture, known["architecture"])
    search_command, promote_command = known["commands"]
    search, (height, width) = protocol.search, protocol.data.size
    origin = from_json(WeightsOrigin, known["weights"]) if "weights" in known else None
    weights = f"{origin.name} (SHA-256 {origin.sha256[:12]})" if origin else architecture.weights
    void = ", void included" if protocol.data.labels.void else ""
    value = f"mIoU over the {len(protocol.data.labels)} classes{void}"
    if protocol.data.task == PANOPTIC:
        value = "panoptic quality (PQ), the mean over the classes but void"
    drawn = f"> **{DRAWN}**\n\n" if protocol.drawn else ""
    return (
        f"{drawn}## {architecture.title}\n\n"
        f"**Protocol.** {protocol.title}: {search.budget}, trials of {search.epochs} epochs at "
        f"{height}x{width}; {known.get('subset', '')}. Sampler "
        f"{search.sampler}, pruner {search.pruner}, seed {search.seed}.\n\n"
        f"**Initial weights.** {weights}.\n\n"
        f"**Value.** A trial's value is its best epoch's {value}. "
        "A trial is one planned configuration; if a process was killed, several attempts (Optuna trials) share it, and "
        "the last one counts.\n\n"
        f"**Next.** `{search_command}`, then `{promote_command}`; the trainings epoch by epoch: "
        "`python -m segbench.runs`.\n"
    )


def _trial_note(attempt: optuna.Trial, records: Sequence[EpochRecord]) -> str:
    best, last, known = best_epoch(records), records[-1], attempt.user_attrs
    assert best
    index, run = queue.index_of(attempt), known["run_id"]
    weights = known.get("weights", {})
    params = resolved(attempt.params)
    rows = {
        best.value_name: f"**{best.value:.4f}** in epoch {best.epoch} of {last.epoch}; {last.value:.4f} in the last",
        **_qualities(best),
        "official mIoU": f"{best.miou_official:.4f}",
        "pixel accuracy": f"{best.pixel_accuracy:.4f}",
        **{name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in params.items()},
        "initial weights": f"{weights.get('name', '')} (SHA-256 {weights.get('sha256', '')[:12]})",
        "device": from_json(Device, known["device"]).description,
        "seconds": f"{sum(record.seconds.total for record in records):.1f} ({last.images_per_second:.1f} images/s)",
        "MLflow run": f"`{run}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    title = "Baseline" if index == queue.BASELINE else f"Trial {index}"
    return f"## {title}\n\n| | |\n|---|---|\n{table}\n\nIts epochs in MLflow: `python -m segbench.runs --run {run}`\n"


def _qualities(best: EpochRecord) -> dict[str, str]:
    """What a note says beside the PQ."""
    if best.panoptic is None:
        return {}
    parts = {"PQ of things": best.panoptic.pq_things, "PQ of stuff": best.panoptic.pq_stuff, "mIoU": best.miou}
    return {name: "none" if value is None else f"{value:.4f}" for name, value in parts.items()}


def _plot(study: optuna.Study, also: int | None = None) -> None:
    """Plots the IoU per class at the best epoch of every trial with a value, and of `also`, which is about to end."""
    record = reading.record(database.storage_of(study), study.study_name)
    trials, labels = record.trials, record.protocol.data.labels
    shown = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) or t.index == also]
    best = [(trial, trial.best_epoch.iou) for trial in shown if trial.best_epoch]
    classes = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": one.name,
            "x": ["baseline" if trial.baseline else str(trial.index) for trial, _ in best],
            "y": [None if (value := iou[index]) is None else round(value, 4) for _, iou in best],
            "marker": {"color": f"rgb{one.colour}"},
        }
        for index, one in enumerate(labels.classes)
    ]
    layout = {
        "title": {"text": "IoU per class at each trial's best epoch"},
        "xaxis": {"title": {"text": "trial"}, "type": "category"},
        "yaxis": {"title": {"text": "IoU"}, "range": [0, 1]},
    }
    notes.write_plot(study, PLOT, {"data": classes, "layout": layout}, {_PLOTTED: len(shown)})


def _plotted(study: optuna.Study) -> int:
    """The number of trials in the plot."""
    return int(notes.read(study, _PLOTTED).get(_PLOTTED, 0))


def _ended(study: optuna.Study) -> int:
    study_id = optuna_private.study_id(study)
    return database.storage_of(study).reading(lambda connection: attempts.ended(connection, study_id))
