"""What optuna-dashboard shows beside Optuna's own: notes of studies and trials, a trial's pictures, a plot of classes.

An attempt's part is written before it ends, by the process that runs it. Its pictures are named after its MLflow run,
which it shares with the other attempts at its trial: an attempt that goes on after a kill replaces them.

<storage>/artifacts/optuna/<uuid>   a picture; the attempt's system attribute artifacts:<uuid> says what it is
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
from segbench.core.labels import CATEGORIES, COLOURS
from segbench.core.protocol import DRAWN, Architecture, Protocol
from segbench.core.records import Device, EpochRecord, WeightsOrigin, best_epoch, from_json
from segbench.core.study_record import TrialState
from segbench.data import pictures
from segbench.ledger import attempts, curves, database, notes, optuna_private, queue, reading

SCENES = 4  # of the selection images, the same for all trials of a protocol
PLOT = "iou-per-class"
_PREFIX = "artifacts:"  # of the attributes that tell Optuna's artifacts
_JPEG_QUALITY = 88
_PLOTTED = "segbench:plotted"  # the study's system attribute that says of how many trials the plot is
_GROWTH = 1.1  # the plot is drawn anew when there are so many times more trials than it shows


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


def show(attempt: optuna.Trial, records: Sequence[EpochRecord], scenes: Scenes) -> None:
    """Gives an attempt that is about to end its pictures and its note, and now and then draws the study's plot anew:
    its cost grows with the study, so it is drawn when there are a tenth more trials, and by `finish`.

    Raises OSError where the pictures cannot be written.
    """
    _attach(attempt, "scenes.jpg", "image/jpeg", _encoded(scenes.picture(), "JPEG", quality=_JPEG_QUALITY))
    _attach(attempt, artefacts.LEARNING_CURVE, "image/png", curves.png(records))
    notes.write_note(attempt.study, _trial_note(attempt, records), attempt)
    with database.storage_of(attempt.study).locked():
        _describe(attempt.study)
        if _ended(attempt.study) + 1 >= _GROWTH * _plotted(attempt.study):
            _plot(attempt.study, queue.index_of(attempt))


def finish(study: optuna.Study) -> None:
    """Draws the plot of a study whose search has ended, unless it shows all trials."""
    with database.storage_of(study).locked():
        if _ended(study) != _plotted(study):
            _plot(study)


def forget(study: optuna.Study) -> None:
    """Deletes the pictures of all trials of a study that is about to be deleted."""
    own = store()
    for attempt in study.get_trials(deepcopy=False):
        for key in attempt.system_attrs:
            if re.fullmatch(_PREFIX + r"[0-9a-f-]{36}", key):  # anybody may write attributes: no other path is ours
                try:
                    own.remove(key.removeprefix(_PREFIX))
                except ArtifactNotFound:
                    continue  # another attempt at the trial had the same


def _attach(attempt: optuna.Trial, name: str, mimetype: str, content: bytes) -> None:
    """Like `optuna.artifacts.upload_artifact`, but under an id that stays the same when the trial is tried again, and
    without a moment in which the dashboard would look for a file that is not there yet."""
    own = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{attempt.user_attrs['run_id']}/{name}"))
    store().write(own, io.BytesIO(content))
    about = json.dumps(asdict(ArtifactMeta(artifact_id=own, filename=name, mimetype=mimetype, encoding=None)))
    attempt.storage.set_trial_system_attr(optuna_private.attempt_id(attempt), _PREFIX + own, about)


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
    protocol, architecture = from_json(Protocol, known["protocol"]), from_json(Architecture, known["architecture"])
    search_command, promote_command = known["commands"]
    search, (height, width) = protocol.search, protocol.data.size
    origin = from_json(WeightsOrigin, known["weights"]) if "weights" in known else None
    weights = f"{origin.name} (SHA-256 {origin.sha256[:12]})" if origin else architecture.weights
    drawn = f"> **{DRAWN}**\n\n" if protocol.drawn else ""
    return (
        f"{drawn}## {architecture.title}\n\n"
        f"**Protocol.** {protocol.title}: trials: {search.trials}, of {search.epochs} epochs at "
        f"{height}x{width}; {known.get('subset', '')}. Sampler "
        f"{search.sampler}, pruner {search.pruner}, seed {search.seed}.\n\n"
        f"**Initial weights.** {weights}.\n\n"
        "**Value.** A trial's value is its best epoch's mIoU over the 8 categories, void included. A trial is one "
        "planned configuration; where a process was killed, several attempts (Optuna trials) share it, and the last "
        "one counts.\n\n"
        f"**Go on.** `{search_command}`, then `{promote_command}`; the trainings epoch by epoch: "
        "`python -m segbench.runs`.\n"
    )


def _trial_note(attempt: optuna.Trial, records: Sequence[EpochRecord]) -> str:
    best, last, known = best_epoch(records), records[-1], attempt.user_attrs
    assert best
    index, run = queue.index_of(attempt), known["run_id"]
    weights = known.get("weights", {})
    rows = {
        "mIoU": f"**{best.miou:.4f}** in epoch {best.epoch} of {last.epoch}; {last.miou:.4f} in the last",
        "official mIoU": f"{best.miou_official:.4f}",
        "pixel accuracy": f"{best.pixel_accuracy:.4f}",
        **{name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in attempt.params.items()},
        "initial weights": f"{weights.get('name', '')} (SHA-256 {weights.get('sha256', '')[:12]})",
        "device": from_json(Device, known["device"]).description,
        "seconds": f"{sum(record.seconds.total for record in records):.1f} ({last.images_per_second:.1f} images/s)",
        "MLflow run": f"`{run}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    title = "Baseline" if index == queue.BASELINE else f"Trial {index}"
    return f"## {title}\n\n| | |\n|---|---|\n{table}\n\nIts epochs in MLflow: `python -m segbench.runs --run {run}`\n"


def _plot(study: optuna.Study, also: int | None = None) -> None:
    """IoU per class at the best epoch of every trial that has ended with a value, and of `also`, which is about to."""
    trials = reading.record(database.storage_of(study), study.study_name).trials
    shown = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) or t.index == also]
    best = [(trial, trial.best_epoch.iou) for trial in shown if trial.best_epoch]
    classes = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": category,
            "x": ["baseline" if trial.baseline else str(trial.index) for trial, _ in best],
            "y": [None if (value := iou[index]) is None else round(value, 4) for _, iou in best],
            "marker": {"color": f"rgb{colour}"},
        }
        for index, (category, colour) in enumerate(zip(CATEGORIES, COLOURS, strict=True))
    ]
    layout = {
        "title": {"text": "IoU per class at each trial's best epoch"},
        "xaxis": {"title": {"text": "trial"}, "type": "category"},
        "yaxis": {"title": {"text": "IoU"}, "range": [0, 1]},
    }
    notes.write_plot(study, PLOT, {"data": classes, "layout": layout}, {_PLOTTED: len(shown)})


def _plotted(study: optuna.Study) -> int:
    """How many trials the plot shows."""
    return int(notes.read(study, _PLOTTED).get(_PLOTTED, 0))


def _ended(study: optuna.Study) -> int:
    study_id = optuna_private.study_id(study)
    return database.storage_of(study).reading(lambda connection: attempts.ended(connection, study_id))
