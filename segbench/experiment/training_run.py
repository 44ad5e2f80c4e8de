"""One training run, of a search's trial or of a promotion: its task, checkpoint, MLflow run and epochs.

run = TrainingRun.begin(task, model, origin, folder, compute)     resumes from the checkpoint in the folder
run.open_mlflow(client, name, tags, parent)
with run.in_mlflow():
    for record in run.epochs(): ...                               restored epochs come first
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core.augment import Augment
from segbench.core.crops import WHOLE, Passes, Size
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture
from segbench.core.records import EpochRecord, Hyperparameters, WeightsOrigin
from segbench.core.study_record import TrialState
from segbench.data import subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset
from segbench.data.subsets import Subset
from segbench.engine import resume, training
from segbench.engine.resume import TrainingSession
from segbench.engine.training import State
from segbench.ledger import runs, studies
from segbench.runtime import interrupts, process_group
from segbench.runtime.compute import Compute

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Images:
    """The images that a training trains on and is scored on."""

    train: Batches
    val: Batches
    chosen: Subset
    names: tuple[str, ...]  # of the images of `val`

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        chosen: Subset,
        batch_size: int,
        compute: Compute,
        augmented: Augment | None,
        crop: Size | None = None,
    ) -> Images:
        split = subsets.split_of(dataset, chosen)
        train = Batches(dataset.train, chosen.train, batch_size, compute.device, augmented, crop)
        val = Batches(split, chosen.val, batch_size, compute.device)
        return cls(train, val, chosen, tuple(split.names[index] for index in chosen.val))


def build(
    architecture: Architecture, hyperparameters: Hyperparameters, seed: int, classes: int, passes: Passes = WHOLE
) -> tuple[Segmenter, WeightsOrigin]:
    """An untrained model of this architecture with these hyperparameters, to be scored by `passes`. Raises UserError if
    it cannot be built."""
    options = {**architecture.model, **hyperparameters.model}
    weights, code = architecture.weights, architecture.code
    model, origin = architectures.create(architecture.name, classes, weights, options, seed, code)
    model.passes = passes
    return model, origin


@dataclass(frozen=True)
class Task:
    """Everything a training's result depends on beside its initial weights and device."""

    fingerprint: str  # of the protocol and the architecture
    data_fingerprint: str
    images: Images
    hyperparameters: Hyperparameters
    epochs: int
    seed: int
    keep: str = ""  # which epoch's weights a promotion keeps, one of protocol.KEEP; "" for a search's trial


@dataclass
class TrainingRun:
    """A training that starts, or resumes from its checkpoint."""

    task: Task
    state: State
    session: TrainingSession
    origin: WeightsOrigin
    id: str = ""  # of its MLflow run; "" in processes other than the main one
    mlflow: MlflowClient | None = None

    @classmethod
    def begin(cls, task: Task, model: Segmenter, origin: WeightsOrigin, folder: Path, compute: Compute) -> TrainingRun:
        """`model`: untrained, with the weights of `origin`; `folder`: of its checkpoint, which need not exist yet.
        Raises UserError if processes that train together find different checkpoints."""
        state = training.begin(model, task.hyperparameters, compute)
        session = TrainingSession(folder, _identity(task, origin, compute))
        session.restore(state)
        if len(set(process_group.gather(state.epoch))) > 1:
            raise UserError(f"the processes found different checkpoints in {folder}; give all one SEGBENCH_STORAGE")
        return cls(task, state, session, origin)

    def open_mlflow(
        self, mlflow: MlflowClient, name: str, tags: Mapping[str, str], parent: Callable[[], str], known: str = ""
    ) -> None:
        """Reopens the MLflow run of this training, else creates one inside `parent` with `tags`. `known`: the run's id
        in the ledger, used if the folder has none."""
        run = self.session.run or known
        if not run or not runs.reopened(mlflow, run, tags):
            run = runs.nested_run(mlflow, parent(), name, tags, self.task.hyperparameters.params())
        self.session.run = run
        self.mlflow, self.id = mlflow, run

    @contextlib.contextmanager
    def in_mlflow(
        self, fine: tuple[type[BaseException], ...] = (), handed_over: tuple[type[BaseException], ...] = ()
    ) -> Iterator[None]:
        """Ends the MLflow run with the block: as FINISHED, also after exceptions in `fine`; as KILLED if the training
        was stopped; as FAILED after any other. After those in `handed_over` another process ends it."""
        if self.mlflow is None:
            yield
            return
        with runs.ended(self.mlflow, self.id, fine, killed=(studies.Stopped,), handed_over=handed_over):
            yield

    def epochs(
        self,
        report: Callable[[EpochRecord], None] = lambda record: None,
        within: Callable[[Iterator[EpochRecord]], Iterator[EpochRecord]] = lambda fresh: fresh,
    ) -> Iterator[EpochRecord]:
        """All epochs, restored ones first. Each is saved, passed to `report`, logged to MLflow, and yielded. `within`
        may end the fresh ones earlier; what it leaves out counts nowhere.

        If another process has taken over the training, `report` raises, and nothing is logged twice. Raises TrialFailed
        if training cannot continue, and Stopped, with everything saved, if a signal requested it before the last epoch.
        """
        restored = self.state.epoch
        logged = runs.steps(self.mlflow, self.id) if self.mlflow else set()
        for record in self.session.epochs(self.state, within(_trained(self.state, self.task))):
            report(record)
            if self.mlflow and record.epoch not in logged:
                runs.log_epoch(self.mlflow, self.id, record, self.task.images.val.label_set.names)
            yield record
            if restored <= record.epoch < self.task.epochs and interrupts.agreed():
                self.keep()
                raise studies.Stopped

    def keep(self) -> None:
        """Writes the checkpoint if it is not up to date. Returns when every process has reached this point: torchrun
        ends all processes as soon as one ends."""
        self.session.write(self.state)
        process_group.gather(None)


def _identity(task: Task, origin: WeightsOrigin, compute: Compute) -> str:
    """The identity that a checkpoint must have to be resumed from."""
    intent = (task.fingerprint, task.data_fingerprint, task.hyperparameters, task.epochs, task.seed)
    keep = (task.keep,) if task.keep else ()
    images = (task.images.train.images, task.images.val.images)
    return resume.identity(*intent, *keep, *images, origin.sha256, compute.record.kind, compute.record.precision)


def _trained(state: State, task: Task) -> Iterator[EpochRecord]:
    """The records of training. Divergence and running out of memory become TrialFailed."""
    images = task.images
    try:
        yield from training.fit(state, images.train, images.val, epochs=task.epochs, seed=task.seed)
    except training.Diverged as error:
        raise studies.TrialFailed(TrialState.DIVERGED, str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if peer_failure := process_group.peer_failure(error):
            raise peer_failure from error
        if not out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise studies.TrialFailed(
            TrialState.OUT_OF_MEMORY,
            f"out of memory at batch_size {images.train.batch_size}; copy the protocol's folder under a new name, "
            "lower batch_size in the architecture's TOML there, and search with --protocol NEW",
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether the device or the host ran out of memory."""
    message = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in message
