"""Examines a fully trained model: writes its weights, masks, confusions, speed and card into its folder."""

from __future__ import annotations

import dataclasses
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
from segbench.core.protocol import BEST_ON_SELECTION, LAST, Architecture, Protocol
from segbench.core.records import EpochRecord, ModelCard, SpeedCard
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.data import pictures, subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset
from segbench.data.subsets import Subset
from segbench.engine import checkpoint, evaluation, inference, speed
from segbench.engine.evaluation import Evaluation
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
    """Writes the last and the kept weights, runs the kept ones once over the final images for confusions and masks, and
    measures their speed. Returns the card, which the caller writes last. Raises UserError if the disk is full.
    """
    state, session, task = trained.run.state, trained.run.session, trained.run.task
    model, compute, folder = state.evaluated, state.compute, session.folder
    final = subsets.draw_final(data, trained.plan.protocol.final)
    images = Batches(data.val, final.val, task.images.val.batch_size, compute.device)
    names = [data.val.names[index] for index in final.val]
    try:
        if (code := trained.plan.architecture.code) is not None:
            sources.keep(folder, code)
        checkpoint.save(model, folder / artefacts.LAST_WEIGHTS)
        last = session.records[-1]
        kept = last if task.keep == LAST else session.best.record
        if task.keep == BEST_ON_SELECTION:  # training has not seen the final images
            last = scored(last, evaluation.evaluate(model, images, compute))
        if task.keep != LAST:
            model.load_state_dict(session.best.weights)
        checkpoint.save(model, folder / artefacts.WEIGHTS)
        write = _mask_writer(folder / artefacts.MASKS, names, images.label_set.colours)
        result = evaluation.evaluate(model, images, compute, write)
        confusions = result.confusions.astype(np.int32)
        with files.replaced(folder / artefacts.CONFUSIONS) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, confusions=confusions, names=np.array(names))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space and rerun: nothing is trained twice"
        ) from error
    measured = speed.measure(inference.ready(model, compute), data.size, images.batch_size, compute)
    kept = scored(kept, result) if task.keep == BEST_ON_SELECTION else kept
    return _card(trained, data, final, kept, last, measured)


def scored(epoch: EpochRecord, result: Evaluation) -> EpochRecord:
    """The epoch's record with the scores of its weights on other images."""
    scores = result.scores
    return dataclasses.replace(
        epoch,
        val_loss=result.loss,
        val_nll=result.nll,
        pixel_accuracy=scores.pixel_accuracy,
        miou=scores.miou,
        miou_official=scores.miou_official,
        iou=scores.iou,
    )


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


def _card(
    trained: Trained, data: Dataset, final: Subset, kept: EpochRecord, last: EpochRecord, measured: SpeedCard
) -> ModelCard:
    plan, run, images = trained.plan, trained.run, trained.run.task.images
    labels = plan.protocol.data.labels
    train = np.bincount(data.train.labels[images.chosen.train].reshape(-1), minlength=256)
    val = np.bincount(data.val.labels[final.val].reshape(-1), minlength=256)
    selects = run.task.keep == BEST_ON_SELECTION
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
        epochs=len(run.session.records),
        train_images=len(images.chosen.train),
        val_images=len(final.val),
        best=kept,
        last=last,
        majority_miou=metrics.majority_miou(train, val, labels),
        speed=measured,
        device=run.state.compute.record,
        versions={name: version(name) for name in _VERSIONS},
        run_id=run.id,
        seconds=time.perf_counter() - trained.started,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=architectures.origin(plan.architecture.name, plan.architecture.code),
        labels=labels,
        keep=run.task.keep,
        selection_images=len(images.chosen.val) if selects else 0,
        images_given_up=len(final.train) - len(images.chosen.train),
    )
