"""One objective per architecture: joins pixels to a trial."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import torch
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core import artefacts, files, paths
from segbench.core.labels import CATEGORIES
from segbench.core.protocol import Architecture, Augment, Choice, Search
from segbench.core.records import EpochRecord, Hyperparameters, Scalar, WeightsOrigin, to_json
from segbench.core.study_record import TrialState
from segbench.data import subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset
from segbench.data.subsets import Subset
from segbench.engine import checkpoint, inference, resume, training
from segbench.engine.resume import TrainingSession
from segbench.engine.training import State
from segbench.ledger import queue, runs, samplers, showcase, studies
from segbench.runtime import interrupts, process_group, terminal
from segbench.runtime.compute import Compute

if TYPE_CHECKING:
    from mlflow import MlflowClient

Show = Callable[[int, EpochRecord], None]  # (trial, record)


@dataclass(frozen=True)
class Images:
    """What a training trains on and is scored on."""

    train: Batches
    val: Batches
    chosen: Subset
    names: tuple[str, ...]  # of the images of `val`

    @classmethod
    def of(
        cls, dataset: Dataset, chosen: Subset, batch_size: int, compute: Compute, augmented: Augment | None
    ) -> Images:
        split = subsets.split_of(dataset, chosen)
        train = Batches(dataset.train, chosen.train, batch_size, compute.device, augmented)
        val = Batches(split, chosen.val, batch_size, compute.device)
        return cls(train, val, chosen, tuple(split.names[index] for index in chosen.val))


class Initial:
    """The untrained model of each combination of options a search meets, built and read from disk once."""

    def __init__(self, architecture: Architecture, seed: int) -> None:
        self._architecture = architecture
        self._seed = seed
        self._built: dict[str, tuple[Segmenter, WeightsOrigin]] = {}

    def model(self, hyperparameters: Hyperparameters) -> tuple[Segmenter, WeightsOrigin]:
        """A copy of one's own, on the CPU, equal bit by bit to one newly built. Raises UserError as `build` does."""
        key = repr(sorted(hyperparameters.model.items()))
        if key not in self._built:
            self._built[key] = build(self._architecture, hyperparameters, self._seed)
        model, origin = self._built[key]
        return copy.deepcopy(model), origin


@dataclass(frozen=True)
class Job:
    """What all trials of one search share."""

    architecture: Architecture
    search: Search
    images: Images
    initial: Initial
    compute: Compute
    mlflow: MlflowClient
    parent: str  # the study's MLflow run
    keep_weights: bool  # every trial's, not the best's alone


def build(architecture: Architecture, hyperparameters: Hyperparameters, seed: int) -> tuple[Segmenter, WeightsOrigin]:
    """An untrained model of this architecture with these hyperparameters. Raises UserError where it cannot be had."""
    options = {**architecture.model, **hyperparameters.model}
    weights, code = architecture.weights, architecture.code
    return architectures.create(architecture.name, len(CATEGORIES), weights, options, seed, code)


def check_buildable(architecture: Architecture, images: Images, initial: Initial) -> None:
    """Builds the model once, so that weights, options and batch sizes that cannot work are known before a study is
    made for them. Raises UserError."""
    any_of = {name: v.values[0] if isinstance(v, Choice) else v.low for name, v in architecture.space.items()}
    model, _ = initial.model(Hyperparameters.from_params(any_of))
    training.require_batches(model, images.train)


def objective(trial: optuna.Trial, job: Job, show: Show) -> float:
    """Trains one configuration and returns its best epoch's miou. Every epoch is kept in the trial's folder, then goes
    to the trial, to an MLflow run of its own and to `show`; those that an earlier attempt has kept are not
    trained again. Raises TrialPruned where the pruner says so, TrialFailed where training cannot go on, Stopped where
    the user asked for it.
    """
    started = time.perf_counter()
    if interrupts.requested():
        raise studies.Stopped
    params = samplers.suggest(trial, job.architecture.space)
    hyperparameters = Hyperparameters.from_params(params)
    # Every trial starts from the same weights and sees the same batches: only the hyperparameters differ.
    model, origin = job.initial.model(hyperparameters)
    state = training.begin(model, hyperparameters, job.compute)
    kept = _kept(trial, job, params, origin)
    kept.restore(state)
    run = _run(trial, job, kept, params)
    trial.set_user_attr("run_id", run)
    trial.set_user_attr("device", to_json(job.compute.record))
    studies.remember_weights(trial, origin)
    handed_over = (UpdateFinishedTrialError,)  # this process was thought dead, and another goes on with its trial
    with runs.ended(job.mlflow, run, fine=(optuna.TrialPruned,), killed=(studies.Stopped,), handed_over=handed_over):
        trial.set_user_attr("startup_seconds", time.perf_counter() - started)
        trial.set_user_attr("earlier_seconds", sum(record.seconds.total for record in kept.records))
        try:
            _train(trial, job, state, kept, run, show)
        except optuna.TrialPruned:
            _keep_confusions(kept, job.images)
            _show(trial, job, state, kept)
            raise
        _keep_confusions(kept, job.images)
        _show(trial, job, state, kept)
        if studies.index_of(trial) != studies.BASELINE:
            _keep_weights(trial, job, state, kept)
    return kept.best.record.miou


def clean_up_finished(study: optuna.Study, mlflow: MlflowClient) -> None:
    """Removes the checkpoints of the trials that have ended: nothing goes on from them. Ends the MLflow runs of
    those that were given up: their processes were all killed before they could."""
    for index, attempt in queue.latest(study, ["run_id"]).items():
        if attempt.unfinished:
            continue
        resume.clear(paths.trial_folder(study.study_name, index))
        if attempt.trial_state == TrialState.FAILED and "run_id" in attempt.attributes:
            runs.give_up(mlflow, attempt.attributes["run_id"])


def _kept(trial: optuna.Trial, job: Job, params: dict[str, Scalar], origin: WeightsOrigin) -> TrainingSession:
    known = trial.study.user_attrs
    identity = resume.identity(
        known.get("fingerprint"),
        known.get("data_fingerprint"),
        params,
        job.search.seed,
        job.search.epochs,
        origin.sha256,
        job.compute.record.kind,
        job.compute.record.precision,
    )
    return TrainingSession(paths.trial_folder(trial.study.study_name, studies.index_of(trial)), identity)


def _run(trial: optuna.Trial, job: Job, kept: TrainingSession, params: dict[str, Scalar]) -> str:
    """The trial's MLflow run: the one that an earlier attempt began, where there is one."""
    index = studies.index_of(trial)
    name = f"{job.architecture.name} {'baseline' if index == studies.BASELINE else f'trial {index}'}"
    tags = {"kind": "trial", **runs.trial_tags(trial.study.study_name, trial.number, index)}
    run = kept.run or str(trial.user_attrs.get("run_id", ""))
    if not run or not runs.reopened(job.mlflow, run, tags):
        run = runs.nested_run(job.mlflow, job.parent, name, tags, params)
    kept.run = run
    return run


def _train(trial: optuna.Trial, job: Job, state: State, kept: TrainingSession, run: str, show: Show) -> None:
    logged = runs.steps(job.mlflow, run)
    restored = state.epoch
    known = studies.epochs_reported(trial)  # by an earlier attempt; never fewer from now on
    number = job.search.epochs
    for record in kept.epochs(state, epochs(state, job.images, number, job.search.seed)):
        if record.epoch > min(known, restored):  # those that are trained again replace the earlier ones
            studies.report(trial, record)
        if record.epoch not in logged:
            runs.log_epoch(job.mlflow, run, record)
        show(studies.index_of(trial), record)
        if restored <= record.epoch < number:
            if known <= record.epoch and trial.should_prune():
                raise optuna.TrialPruned(f"after epoch {record.epoch}")
            if interrupts.requested():
                kept.write(state)
                raise studies.Stopped


def _keep_confusions(kept: TrainingSession, images: Images) -> None:
    """The best epoch's, image by image: from them the report computes how sure the choice of the trial is."""
    best = kept.best
    path = kept.folder / artefacts.CONFUSIONS
    with _forgiving(path), files.replaced(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, confusions=best.confusions, names=np.array(images.names), epoch=best.record.epoch)


def _show(trial: optuna.Trial, job: Job, state: State, kept: TrainingSession) -> None:
    """Leaves the best epoch's weights in the model."""
    state.model.load_state_dict(kept.best.weights)
    images, truths = job.images.val.some(showcase.SCENES)
    with torch.compiler.set_stance("force_eager"):  # under --compile, a batch of another size would be compiled anew
        predicted = inference.predict(state.model.eval(), images, job.compute)
    with _forgiving(paths.artifacts()):
        scenes = showcase.Scenes(images.numpy(), truths.numpy(), predicted.cpu().numpy())
        showcase.show(trial, kept.records, scenes)


def _keep_weights(trial: optuna.Trial, job: Job, state: State, kept: TrainingSession) -> None:
    """Of a study's finished trials only the best keeps its weights, unless all were asked for; of equals the first
    trial, as in `trials.best`."""
    study = str(trial.study.user_attrs.get("fingerprint"))
    path, best = kept.folder / artefacts.WEIGHTS, kept.best
    own = (best.record.miou, -studies.index_of(trial))
    with FileLock(kept.folder.parent / "best.lock"):
        kept_weights = set(kept.folder.parent.glob(f"trial*/{artefacts.WEIGHTS}"))
        others = [] if job.keep_weights else sorted(kept_weights - {path})
        for other in others:
            about = checkpoint.metadata(other)
            if about.get("study") == study and (float(about["miou"]), -int(about["trial"])) > own:
                path.unlink(missing_ok=True)
                return
        about = {"study": study, "miou": repr(own[0]), "trial": str(-own[1]), "epoch": str(best.record.epoch)}
        state.model.load_state_dict(best.weights)
        with _forgiving(path):
            checkpoint.save(state.model, path, about)
            for other in others:
                other.unlink()


@contextlib.contextmanager
def _forgiving(path: Path) -> Iterator[None]:
    """What a full disk keeps from being written is missed, but the trial is finished without it."""
    try:
        yield
    except OSError as error:
        terminal.warn(f"{path} could not be written ({error}); the search goes on without it")


def epochs(state: State, images: Images, number: int, seed: int) -> Iterator[EpochRecord]:
    """Training's records; its two expected ends become TrialFailed."""
    try:
        yield from training.fit(state, images.train, images.val, epochs=number, seed=seed)
    except training.Diverged as error:
        raise studies.TrialFailed(TrialState.DIVERGED, str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if lost := process_group.peer_failure(error):
            raise lost from error
        if not out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = images.train.batch_size
        raise studies.TrialFailed(
            TrialState.OUT_OF_MEMORY,
            f"out of memory at batch_size {size}; copy the protocol's folder under a new name, lower batch_size in the "
            "architecture's TOML there, and search with --protocol NEW",
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether this is a device's or the host's memory running out."""
    words = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in words
