"""Examines a fully trained model: writes its weights, masks, confusions, speed and card into its folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import Tensor

from segbench import architectures
from segbench.core import artefacts, files, metrics
from segbench.core import code as sources
from segbench.core.errors import UserError
from segbench.core.labels import Colour
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import ModelCard, SpeedCard
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.data import pictures
from segbench.data.packing import Dataset
from segbench.engine import checkpoint, evaluation, inference, speed
from segbench.experiment.training_run import TrainingRun

_VERSIONS = ("segbench", "torch", "torchvision", "transformers", "optuna", "mlflow", "numpy")


@dataclass(frozen=True)
class Plan:
    """What to promote: the best trial of a study, under the study's protocol."""

    protocol: Protocol
    architecture: Architecture
    study: StudyRecord
    trial: TrialRecord


@dataclass(frozen=True)
class Trained:
    """A finished training, before it is examined."""

    plan: Plan
    run: TrainingRun
    started: float  # time.perf_counter() at the start, minus the seconds trained before a kill


def examine(trained: Trained, data: Dataset) -> ModelCard:
    """Writes the last and the best weights, runs the best once over the final images for confusions and masks, and
    measures their speed. Returns the card, which the caller writes last. Raises UserError if the disk is full.
    """
    state, session, images = trained.run.state, trained.run.session, trained.run.task.images
    model, compute, folder = state.evaluated, state.compute, session.folder
    try:
        if (code := trained.plan.architecture.code) is not None:
            sources.keep(folder, code)
        checkpoint.save(model, folder / artefacts.LAST_WEIGHTS)
        model.load_state_dict(session.best.weights)
        checkpoint.save(model, folder / artefacts.WEIGHTS)
        write = _mask_writer(folder / artefacts.MASKS, images.names, images.val.label_set.colours)
        result = evaluation.evaluate(model, images.val, compute, write)
        confusions = result.confusions.astype(np.int32)
        with files.replaced(folder / artefacts.CONFUSIONS) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, confusions=confusions, names=np.array(images.names))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space and rerun: nothing is trained twice"
        ) from error
    measured = speed.measure(inference.ready(model, compute), data.size, images.val.batch_size, compute)
    return _card(trained, data, measured)


def _mask_writer(folder: Path, names: Sequence[str], colours: Sequence[Colour]) -> Callable[[Tensor], None]:
    """A function that writes a batch of predicted classes, (B, H, W), as PNGs under the next images' names."""
    shutil.rmtree(folder, ignore_errors=True)
    remaining = iter(names)

    def write(predicted: Tensor) -> None:
        for categories in predicted.to("cpu").numpy().astype(np.uint8):
            path = folder / f"{next(remaining)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures.mask(categories, colours).save(path)

    return write


def _card(trained: Trained, data: Dataset, measured: SpeedCard) -> ModelCard:
    plan, run, images = trained.plan, trained.run, trained.run.task.images
    records, labels = run.session.records, plan.protocol.data.labels
    train = np.bincount(data.train.labels[images.chosen.train].reshape(-1), minlength=256)
    val = np.bincount(data.val.labels[images.chosen.val].reshape(-1), minlength=256)
    return ModelCard(
        architecture=plan.architecture.name,
        title=plan.architecture.title,
        model=plan.architecture.model,
        categories=labels.names,
        size=data.size,
        mean=run.state.model.normalisation.mean,
        std=run.state.model.normalisation.std,
        hyperparameters=run.task.hyperparameters,
        batch_size=plan.architecture.batch_size,
        protocol=plan.protocol.name,
        protocol_title=plan.protocol.title,
        drawn=plan.protocol.drawn,
        fingerprint=plan.study.fingerprint,
        data_fingerprint=data.fingerprint,
        cache=data.folder.name,
        weights=run.origin,
        sha256=files.sha256(run.session.folder / artefacts.WEIGHTS),
        study=plan.study.name,
        study_id=plan.study.id,
        trial=plan.trial.index,
        attempt=plan.trial.attempt,
        seed=run.task.seed,
        epochs=len(records),
        train_images=len(images.chosen.train),
        val_images=len(images.chosen.val),
        best=run.session.best.record,
        last=records[-1],
        majority_miou=metrics.majority_miou(train, val, labels),
        speed=measured,
        device=run.state.compute.record,
        versions={name: version(name) for name in _VERSIONS},
        run_id=run.id,
        seconds=time.perf_counter() - trained.started,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=architectures.origin(plan.architecture.name, plan.architecture.code),
        labels=labels,
    )
