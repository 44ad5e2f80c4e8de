"""Examines a fully trained model: writes its weights, masks, confusions, speed and card into its folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core import artefacts, files, metrics
from segbench.core import code as sources
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import ModelCard, SpeedCard
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.data import subsets
from segbench.data.packing import Dataset
from segbench.engine import checkpoint, evaluation, inference, speed
from segbench.experiment import measuring
from segbench.experiment.training_run import Images, TrainingRun
from segbench.ledger import models
from segbench.runtime.compute import Compute

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
    """Writes the last and the best weights, runs the best once over the final images for confusions, masks and kinds of
    errors, and measures their speed. Returns the card, which the caller writes last. Raises UserError if the disk is
    full.
    """
    state, session, images = trained.run.state, trained.run.session, trained.run.task.images
    model, compute, folder = state.evaluated, state.compute, session.folder
    try:
        if (code := trained.plan.architecture.code) is not None:
            sources.keep(folder, code)
        checkpoint.save(model, folder / artefacts.LAST_WEIGHTS)
        model.load_state_dict(session.best.weights)
        checkpoint.save(model, folder / artefacts.WEIGHTS)
        confusions = measure(model, trained.plan, data, images, compute, folder).astype(np.int32)
        with files.replaced(folder / artefacts.CONFUSIONS) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, confusions=confusions, names=np.array(images.names))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space and rerun: nothing is trained twice"
        ) from error
    measured = speed.measure(inference.ready(model, compute), data.size, images.val.batch_size, compute)
    return _card(trained, data, measured)


def measure(
    model: Segmenter, plan: Plan, data: Dataset, images: Images, compute: Compute, folder: Path
) -> NDArray[np.int64]:
    """Runs the model once over the final images: writes masks, entropy maps, how sure it is and the kinds of its
    errors into `folder`. Returns the raw confusion of each image, (N, R, C). Raises OSError."""
    size = plan.architecture.batch_size
    temperature = measuring.fit_temperature(model, data, plan.protocol, images.chosen, size, compute)
    watcher = measuring.Watcher(folder, images.names, images.val.label_set, temperature)
    confusions = evaluation.evaluate(model, images.val, compute, watcher.see).confusions
    watcher.write()
    split = subsets.split_of(data, images.chosen)
    measuring.write_errors(folder, split, images.names, watcher.grid, plan.architecture.name)
    return confusions


def complete(plan: Plan, data: Dataset, images: Images, compute: Compute, folder: Path) -> None:
    """Measures a finished promotion of an earlier version, whose errors were not told apart yet. Raises UserError if
    its weights are not those of its card, or if the disk is full."""
    card = models.read_card(folder / artefacts.CARD)
    model = inference.rebuild(card, folder / artefacts.WEIGHTS).to(compute.device)
    try:
        measure(model, plan, data, images, compute, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}); free some space and rerun") from error


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
