"""The objective of a search: trains one configuration and stores the trial's results."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import torch
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from PIL.Image import Image

from segbench.architectures.segmenter import Segmenter
from segbench.core import artefacts, paths
from segbench.core.crops import WHOLE, Passes
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol, Search
from segbench.core.recipe import Recipe
from segbench.core.records import EpochRecord, Hyperparameters, WeightsOrigin, to_json
from segbench.core.space import extremes, merged
from segbench.core.study_record import TrialState
from segbench.data import pictures, segment_files
from segbench.data.batches import Batches, Shown
from segbench.engine import checkpoint, inference, resume, training
from segbench.experiment import training_run
from segbench.experiment.training_run import Images, Task, TrainingRun
from segbench.ledger import device_hours, models, queue, runs, samplers, showcase, studies
from segbench.runtime import interrupts, terminal
from segbench.runtime.compute import Compute

if TYPE_CHECKING:
    from mlflow import MlflowClient

Show = Callable[[int, EpochRecord], None]  # (trial, record)
_MASK_CELL = 16  # pixels: masks at a quarter of the size cannot show smaller instances, which are not taught


class Initial:
    """The untrained models of a search, one per combination of options, each built and read from disk once."""

    def __init__(self, architecture: Architecture, seed: int, classes: int, passes: Passes = WHOLE) -> None:
        self._architecture = architecture
        self._seed = seed
        self._classes = classes
        self._passes = passes
        self._built: dict[str, tuple[Segmenter, WeightsOrigin]] = {}

    def model(self, hyperparameters: Hyperparameters) -> tuple[Segmenter, WeightsOrigin]:
        """A copy on the CPU, bit by bit equal to a newly built model. Raises UserError like `build`."""
        key = repr(sorted(hyperparameters.model.items()))
        if key not in self._built:
            shared = (self._seed, self._classes, self._passes)
            self._built[key] = training_run.build(self._architecture, hyperparameters, *shared)
        model, origin = self._built[key]
        return copy.deepcopy(model), origin


@dataclass(frozen=True)
class Job:
    """What all trials of one search share."""

    architecture: Architecture
    recipe: Recipe  # what trials are trained by, but for what they search
    search: Search
    images: Images
    initial: Initial
    compute: Compute
    mlflow: MlflowClient
    parent: str  # the study's MLflow run
    keep_weights: bool  # of every trial, not only of the best


def check_buildable(protocol: Protocol, architecture: Architecture, images: Images, initial: Initial) -> None:
    """Builds the model once, so that unusable weights, options, batch sizes and recipes are refused before a study is
    created for them. Raises UserError."""
    space = merged(architecture.space)
    first = {name: extremes(values)[0] for name, values in space.items()}
    model, _ = initial.model(Hyperparameters.from_params(first))
    _require_queries(model, images.train)
    searched = [{name: value} for name in Recipe.names() if name in space for value in extremes(space[name])]
    recipe, epochs = protocol.recipe_of(architecture), protocol.search.epochs
    for drawn in searched or [{}]:
        chosen = Hyperparameters.from_params({**first, **drawn}, recipe)
        training.require_trainable(model, chosen, images.train, epochs)
    _require_sizes(model, protocol, architecture)


def _require_sizes(model: Segmenter, protocol: Protocol, architecture: Architecture) -> None:
    """Raises UserError if the network cannot take the protocol's crops or windows. Whole images are not tried: a
    network that takes none fails in the first step."""
    for name, size in {"[train] crop": protocol.train.crop, "[final] window": protocol.passes.window}.items():
        if size is None:
            continue
        try:
            with torch.inference_mode():
                model.eval()(torch.zeros(1, 3, *size))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"{architecture.name} cannot take images of {size[0]}x{size[1]} ({reason}); change {name} in "
                f"'{protocol.name}', such as to multiples of 32"
            ) from error


def _require_queries(model: Segmenter, train: Batches) -> None:
    """Raises UserError if an image has more segments to learn than the network has queries: it would learn badly."""
    if model.query_count is None or not model.learns_segments:
        return
    most = train.most_segments(_MASK_CELL)
    if most > model.query_count:
        raise UserError(
            f"an image of the search has {most} segments, and the network {model.query_count} queries, each for one; "
            f"set queries = {math.ceil(1.25 * most / 10) * 10} or so in the architecture's [model]"
        )


def objective(trial: optuna.Trial, job: Job, show: Show) -> float:
    """Trains one configuration and returns its best epoch's value. Every epoch is saved in the trial's folder, then
    logged to the trial's MLflow run and its Optuna attempt, and passed to `show`. Epochs that an earlier attempt saved
    are not trained again. A search by device-hours ends the trial when they are spent; the trial keeps its epochs.
    Raises TrialPruned if the pruner ends the trial, TrialFailed if training cannot continue, Stopped if the user asked
    for it, BudgetSpent if the trial has no epoch.
    """
    started = time.perf_counter()
    if interrupts.requested():
        raise studies.Stopped
    budget = None if studies.index_of(trial) == studies.BASELINE else job.search.seconds
    if budget is not None and not device_hours.affords(trial, 1, budget):
        raise studies.BudgetSpent  # before a network is built for nothing
    run = _begin(trial, job)
    trial.set_user_attr("run_id", run.id)
    trial.set_user_attr("device", to_json(job.compute.record))
    studies.remember_weights(trial, run.origin)
    # UpdateFinishedTrialError: this process was thought dead, and another continues its trial.
    with run.in_mlflow(fine=(optuna.TrialPruned, studies.BudgetSpent), handed_over=(UpdateFinishedTrialError,)):
        trial.set_user_attr("startup_seconds", time.perf_counter() - started)
        trial.set_user_attr("earlier_seconds", sum(record.seconds.total for record in run.session.records))
        try:
            _train(trial, run, budget, show)
        except optuna.TrialPruned:
            _keep_confusions(run)
            _show(trial, run)
            raise
        _keep_confusions(run)
        _show(trial, run)
        if studies.index_of(trial) != studies.BASELINE:
            _keep_weights(trial, run, job.keep_weights)
    return run.session.best.record.value


def clean_up_finished(study: optuna.Study, mlflow: MlflowClient) -> None:
    """Removes the checkpoints of ended trials, which nothing resumes from. Ends the MLflow runs of trials that failed
    because their processes were killed."""
    for index, attempt in queue.latest(study, ["run_id"]).items():
        if attempt.unfinished:
            continue
        resume.clear(paths.trial_folder(study.study_name, index))
        if attempt.trial_state == TrialState.FAILED and "run_id" in attempt.attributes:
            runs.give_up(mlflow, attempt.attributes["run_id"])


def _begin(trial: optuna.Trial, job: Job) -> TrainingRun:
    """The trial's training: a new one, or the continuation of an earlier attempt's."""
    hyperparameters = Hyperparameters.from_params(samplers.suggest(trial, job.architecture.space), job.recipe)
    # Every trial starts from the same weights and sees the same batches: only the hyperparameters differ.
    model, origin = job.initial.model(hyperparameters)
    study, index = trial.study.user_attrs, studies.index_of(trial)
    fingerprints = (study.get("fingerprint", ""), study.get("data_fingerprint", ""))
    task = Task(*fingerprints, job.images, hyperparameters, job.search.epochs, job.search.seed)
    folder = paths.trial_folder(trial.study.study_name, index)
    run = TrainingRun.begin(task, model, origin, folder, job.compute)
    name = f"{job.architecture.name} {'baseline' if index == studies.BASELINE else f'trial {index}'}"
    tags = {"kind": "trial", **runs.trial_tags(trial.study.study_name, trial.number, index)}
    run.open_mlflow(job.mlflow, name, tags, lambda: job.parent, known=str(trial.user_attrs.get("run_id", "")))
    return run


def _train(trial: optuna.Trial, run: TrainingRun, seconds: float | None, show: Show) -> None:
    """`seconds`: the trial's budget, if it is in device-hours. Raises BudgetSpent if it pays for no epoch."""
    restored = run.state.epoch
    known = studies.epochs_reported(trial)  # by an earlier attempt; the number never falls
    last = run.task.epochs

    def report(record: EpochRecord) -> None:
        if record.epoch > min(known, restored):  # epochs that are trained again replace the stored ones
            studies.report(trial, record)

    within = functools.partial(_within, trial, seconds, restored + 1)
    for record in run.epochs(report, within):
        show(studies.index_of(trial), record)
        if max(restored, known) <= record.epoch < last and trial.should_prune():
            raise optuna.TrialPruned(f"after epoch {record.epoch}")
    if not run.session.has_best:
        raise studies.BudgetSpent


def _within(
    trial: optuna.Trial, seconds: float | None, first: int, fresh: Iterator[EpochRecord]
) -> Iterator[EpochRecord]:
    """The fresh epochs, from number `first` on, while the study's budget pays for them."""
    if seconds is None:
        yield from fresh
        return
    for epoch in itertools.count(first):
        if not device_hours.affords(trial, epoch, seconds):
            return
        started = time.perf_counter()
        try:
            record = next(fresh, None)
        except studies.TrialFailed:
            device_hours.charge(trial, epoch, time.perf_counter() - started, seconds)
            raise
        if record is None or not device_hours.charge(trial, epoch, device_hours.cost(record), seconds):
            return
        yield record


def _keep_confusions(run: TrainingRun) -> None:
    """Saves the best epoch's confusion of each image, from which the report computes how certain the choice of the best
    trial is."""
    best = run.session.best
    path = run.session.folder / artefacts.CONFUSIONS
    with _warning_where_unwritable(path):
        names, epoch = run.task.images.names, best.record.epoch
        models.write_confusions(path, names, best.confusions, best.segments, epoch=epoch)


def _show(trial: optuna.Trial, run: TrainingRun) -> None:
    """Writes the trial's pictures and note. The model has the best epoch's weights afterwards."""
    model = run.state.evaluated
    model.load_state_dict(run.session.best.weights)
    shown = run.task.images.val.some(showcase.SCENES)
    with torch.compiler.set_stance("force_eager"):  # under --compile, a new batch size would trigger a compilation
        truths, predictions = _pictures(model.eval(), shown, run)
    with _warning_where_unwritable(paths.artifacts()):
        showcase.show(trial, run.session.records, showcase.Scenes(shown.images.numpy(), truths, predictions))


def _pictures(model: Segmenter, shown: Shown, run: TrainingRun) -> list[list[Image]]:
    """The true and the predicted maps of some images: of classes, or with every object in a shade of its own."""
    labels, compute = run.task.images.val.label_set, run.state.compute
    if shown.segments is None:
        maps = shown.classes, inference.predict(model, shown.images, compute)
        return [[pictures.mask(one, labels.colours) for one in each.cpu().numpy()] for each in maps]
    with torch.inference_mode():
        found = inference.predictions(model, shown.images, compute, labels)
    predicted = torch.stack([one.segments for one in found if one.segments is not None])
    return [[segment_files.coloured(one, labels) for one in each.cpu().numpy()] for each in (shown.segments, predicted)]


def _keep_weights(trial: optuna.Trial, run: TrainingRun, of_every_trial: bool) -> None:
    """Saves the trial's weights if they are the best of the study's finished trials, and removes the others'. With
    `of_every_trial` all are kept. Of equals the first trial is the best, as in `studies.best`."""
    folder, best = run.session.folder, run.session.best
    path = folder / artefacts.WEIGHTS
    rank = (best.record.value, -studies.index_of(trial))
    with FileLock(folder.parent / "best.lock"):
        others = [] if of_every_trial else sorted(set(folder.parent.glob(f"trial*/{artefacts.WEIGHTS}")) - {path})
        for other in others:
            about = checkpoint.metadata(other)
            same_study = about.get("study") == run.task.fingerprint
            value = about.get("value") or about["miou"]  # as earlier versions called it
            if same_study and (float(value), -int(about["trial"])) > rank:
                path.unlink(missing_ok=True)
                return
        model = run.state.evaluated
        model.load_state_dict(best.weights)
        about = {
            "study": run.task.fingerprint,
            "value": repr(best.record.value),
            "trial": str(studies.index_of(trial)),
            "epoch": str(best.record.epoch),
        }
        with _warning_where_unwritable(path):
            checkpoint.save(model, path, about)
            for other in others:
                other.unlink()


@contextlib.contextmanager
def _warning_where_unwritable(path: Path) -> Iterator[None]:
    """Turns an OSError, such as for a full disk, into a warning: the trial finishes without that file."""
    try:
        yield
    except OSError as error:
        terminal.warn(f"{path} could not be written ({error.strerror or error}); the search continues without it")
