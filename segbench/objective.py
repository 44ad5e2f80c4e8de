"""One objective per architecture: joins pixels to a trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
import torch

from segbench import architectures, runs, sampling, training, trials
from segbench.compute import Compute
from segbench.data import subset
from segbench.data.batches import Batches
from segbench.data.packed import Dataset
from segbench.data.subset import Subset
from segbench.labels import CATEGORIES
from segbench.protocol import Architecture, Choice, Search
from segbench.records import EpochRecord, Hyperparameters, WeightsOrigin
from segbench.training import State

if TYPE_CHECKING:
    from mlflow import MlflowClient

Show = Callable[[int, EpochRecord], None]  # (slot, record)


@dataclass(frozen=True)
class Images:
    """What a training trains on and is scored on."""

    train: Batches
    val: Batches
    chosen: Subset

    @classmethod
    def of(cls, dataset: Dataset, chosen: Subset, batch_size: int, compute: Compute) -> Images:
        train = Batches(dataset.train, chosen.train, batch_size, compute.device)
        val = Batches(subset.split_of(dataset, chosen), chosen.val, batch_size, compute.device)
        return cls(train, val, chosen)


@dataclass(frozen=True)
class Job:
    """What all trials of one search share."""

    architecture: Architecture
    search: Search
    images: Images
    compute: Compute
    mlflow: MlflowClient
    parent: str  # the study's MLflow run


def begin(
    architecture: Architecture, hyperparameters: Hyperparameters, seed: int, compute: Compute
) -> tuple[State, WeightsOrigin]:
    """A model of this architecture with these hyperparameters, ready to be trained."""
    options = {**architecture.model, **hyperparameters.model}
    model, origin = architectures.create(architecture.name, len(CATEGORIES), architecture.weights, options, seed)
    return training.begin(model, hyperparameters, compute), origin


def rehearse(architecture: Architecture, images: Images, compute: Compute) -> None:
    """Builds the model once, so that weights, options and batch sizes that cannot work are known before a study is
    made for them. Raises UserError."""
    any_of = {name: v.values[0] if isinstance(v, Choice) else v.low for name, v in architecture.space.items()}
    state, _ = begin(architecture, Hyperparameters.from_params(any_of), 0, compute)
    training.require_batches(state.model, images.train)


def objective(trial: optuna.Trial, job: Job, show: Show) -> float:
    """Trains one configuration and returns its best epoch's miou. Every epoch goes to the trial, to an MLflow run of
    its own and to `show`. Raises TrialPruned where the pruner says so, TrialFailed where training cannot go on.
    """
    slot = trials.slot_of(trial)
    params = sampling.suggest(trial, job.architecture.space)
    run = runs.nested_run(job.mlflow, job.parent, *_described(job.architecture, trial, slot), params)
    trial.set_user_attr("run_id", run)
    trial.set_user_attr("device", job.compute.words)
    records: list[EpochRecord] = []
    with runs.ended(job.mlflow, run, fine=(optuna.TrialPruned,)):
        # Every trial starts from the same weights and sees the same batches: only the hyperparameters differ.
        seed = job.search.seed
        state, origin = begin(job.architecture, Hyperparameters.from_params(params), seed, job.compute)
        trials.remember_weights(trial, origin)
        for record in epochs(state, job.images, job.search.epochs, seed):
            records.append(record)
            trials.report(trial, records)
            runs.log_epoch(job.mlflow, run, record)
            show(slot, record)
            if record.epoch < job.search.epochs and trial.should_prune():
                raise optuna.TrialPruned(f"after epoch {record.epoch}")
    return max(record.miou for record in records)


def _described(architecture: Architecture, trial: optuna.Trial, slot: int) -> tuple[str, dict[str, str]]:
    """The name and the tags of a trial's MLflow run."""
    name = f"{architecture.name} {'baseline' if slot == trials.BASELINE else f'slot {slot}'}"
    return name, {"kind": "trial", "trial": str(trial.number), "slot": str(slot)}


def epochs(state: State, images: Images, number: int, seed: int) -> Iterator[EpochRecord]:
    """Training's records; its two expected ends become TrialFailed."""
    try:
        yield from training.fit(state, images.train, images.val, epochs=number, seed=seed)
    except training.Diverged as error:
        raise trials.TrialFailed("diverged", str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = images.train.batch_size
        raise trials.TrialFailed(
            "out of memory", f"out of memory at batch_size {size}; lower it in the architecture's TOML, or [data] size"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether this is a device's or the host's memory running out."""
    words = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in words
