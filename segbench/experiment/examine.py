"""Examines a fully trained model: writes its weights, masks, confusions, speed and card into its folder."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from segbench import __version__, architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core import artefacts, files, metrics
from segbench.core import code as sources
from segbench.core.crops import ORIGINAL
from segbench.core.errors import UserError
from segbench.core.protocol import BEST_ON_SELECTION, LAST, Architecture, Protocol
from segbench.core.records import EpochRecord, ModelCard, SpeedCard
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.data import subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset
from segbench.data.subsets import Subset
from segbench.engine import checkpoint, evaluation, inference, original, speed
from segbench.engine.evaluation import Evaluation
from segbench.experiment import measuring
from segbench.experiment.training_run import Images, TrainingRun
from segbench.ledger import models
from segbench.runtime import terminal
from segbench.runtime.compute import Compute

_PACKAGES = ("torch", "torchvision", "transformers", "optuna", "mlflow", "numpy")


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
    """Writes the last and the kept weights, runs the kept ones once over the final images for confusions, masks and
    kinds of errors, and measures their speed. Returns the card, which the caller writes last. Raises UserError if the
    disk is full.
    """
    state, session, task = trained.run.state, trained.run.session, trained.run.task
    model, compute, folder = state.evaluated, state.compute, session.folder
    images = final_images(trained.plan, data, task.images, compute)
    try:
        if (code := trained.plan.architecture.code) is not None:
            sources.keep(folder, code)
        checkpoint.save(model, folder / artefacts.LAST_WEIGHTS)
        last = session.records[-1]
        kept = last if task.keep == LAST else session.best.record
        selects = task.keep == BEST_ON_SELECTION  # then the final images have scored nothing yet
        if selects and last.epoch != kept.epoch:
            last = scored(last, evaluation.evaluate(model, images.val, compute))
        if task.keep != LAST:
            model.load_state_dict(session.best.weights)
        checkpoint.save(model, folder / artefacts.WEIGHTS)
        result = measure(model, trained.plan, data, images, compute, folder)
        models.write_confusions(folder / artefacts.CONFUSIONS, images.names, result.confusions, result.segments)
        miou_original = score_originals(model, trained.plan, data, images, compute, folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space and rerun: nothing is trained twice"
        ) from error
    measured = speed.measure(inference.ready(model, compute), data.size, images.val.batch_size, compute)
    if selects:
        kept = scored(kept, result)
        last = kept if last.epoch == kept.epoch else last
    return dataclasses.replace(_card(trained, data, images.chosen, kept, last, measured), miou_original=miou_original)


def score_originals(
    model: Segmenter, plan: Plan, data: Dataset, images: Images, compute: Compute, folder: Path
) -> float | None:
    """The mIoU of the final images at their photographs' own sizes, whose confusions are written into `folder`; None
    if the protocol does not ask for it. Raises OSError, and UserError if a photograph's mask is gone."""
    if plan.protocol.final.score_at != ORIGINAL:
        return None
    chosen = images.chosen.val
    with terminal.progress(f"{plan.architecture.name}, at the photographs' own size", len(chosen)) as advance:
        found = original.confusions(model, data.val, chosen, data.originals, compute, advance)
    models.write_confusions(folder / artefacts.ORIGINAL, images.names, found, None)
    return metrics.scores(found.sum(0), data.val.label_set).miou


def final_images(plan: Plan, data: Dataset, trained_on: Images, compute: Compute) -> Images:
    """The final images, beside those that a training trained on, which may have been scored on others."""
    # Not all of draw_final's train images: a training may have held some out to choose its epoch.
    final = subsets.draw_final(data, plan.protocol.final)._replace(train=trained_on.chosen.train)
    val = Batches(data.val, final.val, trained_on.val.batch_size, compute.device)
    return Images(trained_on.train, val, final, tuple(data.val.names[index] for index in final.val))


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
        panoptic=result.quality,
    )


def measure(model: Segmenter, plan: Plan, data: Dataset, images: Images, compute: Compute, folder: Path) -> Evaluation:
    """Runs the model once over the final images: writes masks, entropy maps, how sure it is and the kinds of its
    errors into `folder`. Raises OSError."""
    size = plan.architecture.batch_size
    temperature = measuring.fit_temperature(model, data, plan.protocol, images.chosen, size, compute)
    watcher = measuring.Watcher(folder, images.names, images.val.label_set, temperature)
    result = evaluation.evaluate(model, images.val, compute, watcher.see)
    watcher.write()
    split = subsets.split_of(data, images.chosen)
    measuring.write_errors(folder, split, images.names, watcher.grid, plan.architecture.name)
    return result


def is_complete(plan: Plan, folder: Path) -> bool:
    """Whether a finished promotion has all that this version and its protocol measure."""
    asked = plan.protocol.final.score_at == ORIGINAL
    scored = not asked or models.read_card(folder / artefacts.CARD).miou_original is not None
    return scored and measuring.is_complete(folder)


def complete(plan: Plan, data: Dataset, images: Images, compute: Compute, folder: Path) -> None:
    """Measures what is missing of a finished promotion: of an earlier version, whose errors were not told apart yet, or
    under a protocol that now asks for the score at the photographs' own size. Raises UserError if its weights are not
    those of its card, or if the disk is full."""
    card = models.read_card(folder / artefacts.CARD)
    model = inference.rebuild(card, folder / artefacts.WEIGHTS).to(compute.device)
    try:
        if not measuring.is_complete(folder):
            measure(model, plan, data, images, compute, folder)
        if card.miou_original is None:
            miou_original = score_originals(model, plan, data, images, compute, folder)
            models.write_card(folder / artefacts.CARD, dataclasses.replace(card, miou_original=miou_original))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}); free some space and rerun") from error


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
        versions={"segbench": __version__, **{name: version(name) for name in _PACKAGES}},
        run_id=run.id,
        seconds=time.perf_counter() - trained.started,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=architectures.origin(plan.architecture.name, plan.architecture.code),
        labels=labels,
        keep=run.task.keep,
        selection_images=len(images.chosen.val) if selects else 0,
        crop=plan.protocol.train.crop,
        passes=plan.protocol.passes,
        task=plan.protocol.data.task,
        images_given_up=len(subsets.draw_final(data, plan.protocol.final).train) - len(images.chosen.train),
    )
