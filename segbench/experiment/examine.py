"""What a full training is worth: its weights, masks, confusions, speed and card, written into its folder."""

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
from segbench.core.labels import CATEGORIES
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import Hyperparameters, ModelCard, SpeedCard, WeightsOrigin
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.data import pictures
from segbench.data.packing import Dataset
from segbench.engine import checkpoint, evaluation, inference, speed
from segbench.engine.resume import TrainingSession
from segbench.engine.training import State
from segbench.experiment.objective import Images

_VERSIONS = ("segbench", "torch", "torchvision", "transformers", "optuna", "mlflow", "numpy")


@dataclass(frozen=True)
class Plan:
    """What is promoted: the best trial of a study, under the protocol that study was made with."""

    protocol: Protocol
    architecture: Architecture
    study: StudyRecord
    trial: TrialRecord


@dataclass(frozen=True)
class Trained:
    """What training left, before it is examined."""

    plan: Plan
    state: State
    kept: TrainingSession
    hyperparameters: Hyperparameters
    origin: WeightsOrigin
    seed: int
    run: str
    started: float  # time.perf_counter(), put back by what was trained before a kill


def examine(trained: Trained, images: Images, data: Dataset) -> ModelCard:
    """Writes the last and the best weights, then runs the best once over the final images for confusions and masks,
    and measures their speed. Returns the card, which the caller writes when all else is done. Raises UserError where
    the disk is full.
    """
    model, compute, folder = trained.state.model, trained.state.compute, trained.kept.folder
    try:
        if (code := trained.plan.architecture.code) is not None:
            sources.keep(folder, code)
        checkpoint.save(model, folder / artefacts.LAST_WEIGHTS)
        model.load_state_dict(trained.kept.best.weights)
        checkpoint.save(model, folder / artefacts.WEIGHTS)
        result = evaluation.evaluate(model, images.val, compute, _mask_writer(folder / artefacts.MASKS, images.names))
        confusions = result.confusions.astype(np.int32)
        with files.replaced(folder / artefacts.CONFUSIONS) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, confusions=confusions, names=np.array(images.names))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space and type the same command again: nothing is "
            "trained twice"
        ) from error
    measured = speed.measure(inference.ready(model, compute), data.size, images.val.batch_size, compute)
    return _card(trained, images, data, measured)


def _mask_writer(folder: Path, names: Sequence[str]) -> Callable[[Tensor], None]:
    """What writes each batch of predicted categories, (B, H, W), as PNGs under the images' names."""
    shutil.rmtree(folder, ignore_errors=True)
    left = iter(names)

    def write(predicted: Tensor) -> None:
        for categories in predicted.to("cpu").numpy().astype(np.uint8):
            path = folder / f"{next(left)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures.mask(categories).save(path)

    return write


def _card(trained: Trained, images: Images, data: Dataset, measured: SpeedCard) -> ModelCard:
    plan, records = trained.plan, trained.kept.records
    train = np.bincount(data.train.labels[images.chosen.train].reshape(-1), minlength=256)
    val = np.bincount(data.val.labels[images.chosen.val].reshape(-1), minlength=256)
    return ModelCard(
        architecture=plan.architecture.name,
        title=plan.architecture.title,
        model=plan.architecture.model,
        categories=CATEGORIES,
        size=data.size,
        mean=trained.state.model.normalisation.mean,
        std=trained.state.model.normalisation.std,
        hyperparameters=trained.hyperparameters,
        batch_size=plan.architecture.batch_size,
        protocol=plan.protocol.name,
        protocol_title=plan.protocol.title,
        drawn=plan.protocol.drawn,
        fingerprint=plan.study.fingerprint,
        data_fingerprint=data.fingerprint,
        cache=data.folder.name,
        weights=trained.origin,
        study=plan.study.name,
        trial=plan.trial.index,
        attempt=plan.trial.attempt,
        seed=trained.seed,
        epochs=len(records),
        train_images=len(images.chosen.train),
        val_images=len(images.chosen.val),
        best=trained.kept.best.record,
        last=records[-1],
        majority_miou=metrics.majority_miou(train, val),
        speed=measured,
        device=trained.state.compute.record,
        versions={name: version(name) for name in _VERSIONS},
        run_id=trained.run,
        seconds=time.perf_counter() - trained.started,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=architectures.origin(plan.architecture.name, plan.architecture.code),
    )
