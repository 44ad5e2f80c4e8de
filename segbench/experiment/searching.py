"""Search: runs the trials of each architecture's study, in this process or with several workers.

searching.run(protocol, architectures, SearchSettings("demo"))  → the studies' records

It runs until exactly `trials` trials of each study have ended, or until its `hours` are spent. Rerun, it resumes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segbench.core import paths
from segbench.core import protocol as protocols
from segbench.core.protocol import Architecture, Protocol
from segbench.core.study_record import StudyRecord
from segbench.experiment.settings import SearchSettings, Settings
from segbench.runtime import interrupts, process_group, terminal

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient

    from segbench.data.packing import Dataset
    from segbench.data.subsets import Subset
    from segbench.experiment.objective import Initial, Job, Show
    from segbench.experiment.training_run import Images
    from segbench.experiment.workers import Launcher
    from segbench.runtime.compute import Compute


def run(
    protocol: Protocol,
    architectures: Sequence[Architecture],
    settings: SearchSettings,
    launcher: Launcher | None = None,
) -> list[StudyRecord]:
    """Searches each architecture in turn, or all with `launcher`'s workers, and returns the studies.

    Raises UserError for unusable settings, data or weights, and if a study of the same name was created with others;
    KeyboardInterrupt after Ctrl-C, with progress saved.
    """
    process_group.refuse("search", "use --workers N instead")
    protocol, architectures = settings.applied(protocol, architectures)
    if launcher:  # the workers train; this process only checks, on the CPU, that the models can be built
        settings = dataclasses.replace(settings, device="cpu", precision="auto", compiled=False)
    elif settings.device != "auto" or settings.compiled:
        from segbench.runtime import compute

        # Check an explicit device before packing the data.
        compute.choose(settings.device, settings.precision, settings.compiled)

    from segbench.data import dataset, inspection

    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = dataset.ready(protocol, str(settings.data) if settings.data else None)
    if absent := inspection.absent(data):
        terminal.warn(inspection.note_of(absent))
    if launcher:
        return _together(launcher, [_plan(protocol, each, data, settings) for each in architectures])
    return [_alone(_plan(protocol, each, data, settings)) for each in architectures]


def work(protocol: Protocol, architectures: Sequence[Architecture], settings: SearchSettings) -> bool:
    """One of several workers: runs trials that `run` has planned. It waits for other workers only when no trial of any
    architecture is queued. Returns False if it was stopped before all trials had ended."""
    from segbench.data import dataset
    from segbench.experiment import objective
    from segbench.ledger import studies

    protocol, architectures = settings.applied(protocol, architectures)
    data = dataset.ready(protocol, str(settings.data) if settings.data else None)
    searches = [_open(protocol, each, data, settings) for each in architectures]
    with interrupts.graceful(message=b""):
        jobs = [(search, search.job()) for search in searches]
        try:
            for wait in (False, True):
                for search, job in jobs:
                    train = functools.partial(objective.objective, job=job, show=lambda index, record: None)
                    studies.run(search.study, train, wait, search.clean_up)
        except (studies.Stopped, KeyboardInterrupt):
            return False
    return True


def can_be_promoted(study: StudyRecord) -> bool:
    """Whether the study has a finished trial."""
    from segbench.ledger import studies

    return studies.best(study) is not None


def nothing_to_promote(study: StudyRecord, settings: Settings) -> str:
    """Why a study cannot be promoted, and how to fix that."""
    if not study.trials or any(not trial.state.ended for trial in study.trials):
        command = f"python -m segbench.search{settings.repeat(study.architecture.name)}"
        return f"study '{study.name}' has no finished trial to promote; search first: {command}"
    reasons = "; ".join(dict.fromkeys(trial.reason or trial.state for trial in study.trials))
    copy = f"python -m segbench.study new NAME --from {shlex.quote(settings.protocol)}"
    return (
        f"all {len(study.trials)} trials of study '{study.name}' ended without a result ({reasons}), so there is "
        f"nothing to promote; copy the protocol ({copy}), fix the copy and search there"
    )


@dataclass
class _Search:
    """One architecture's search. Whatever needs torch is created on first use, so that a finished search does not
    import torch."""

    study: optuna.Study = field(init=False)
    architecture: Architecture
    protocol: Protocol
    data: Dataset
    subset: Subset
    settings: SearchSettings

    @property
    def description(self) -> str:
        """A line for people."""
        return f"{self.subset.description}; initial weights: {self.architecture.weights}"

    @functools.cached_property
    def device(self) -> Compute:
        from segbench.runtime import compute

        return compute.choose(self.settings.device, self.settings.precision, self.settings.compiled)

    @functools.cached_property
    def images(self) -> Images:
        from segbench.experiment.training_run import Images

        batch_size, augment = self.architecture.batch_size, self.protocol.augment_of(self.architecture)
        return Images.of(self.data, self.subset, batch_size, self.device, augment, self.protocol.train.crop)

    @functools.cached_property
    def initial(self) -> Initial:
        from segbench.experiment import objective

        seed, classes = self.protocol.search.seed, len(self.protocol.data.labels)
        return objective.Initial(self.architecture, seed, classes, self.protocol.passes)

    def study_run(self) -> tuple[MlflowClient, str]:
        """MLflow's client and the id of the study's run, created on first use."""
        from segbench.ledger import database, runs, studies, tracking

        mlflow = tracking.client()
        with database.storage_of(self.study).locked():  # workers that start together share one run
            tags = {"architecture": self.architecture.name}
            run = runs.study_run(mlflow, self.protocol.name, self.study.study_name, studies.id_of(self.study), tags)
            self.study.set_user_attr("run_id", run)
        return mlflow, run

    def job(self) -> Job:
        from segbench.experiment import objective

        return objective.Job(
            self.architecture,
            self.protocol.recipe_of(self.architecture),
            self.protocol.search,
            self.images,
            self.initial,
            self.device,
            *self.study_run(),
            self.settings.keep_weights,
        )

    def clean_up(self, index: int) -> None:
        """Removes the checkpoint of an ended trial, which nothing resumes from."""
        from segbench.engine import resume

        resume.clear(paths.trial_folder(self.study.study_name, index))

    def record(self) -> StudyRecord:
        from segbench.ledger import database, studies

        return studies.record(database.storage_of(self.study), self.study.study_name)


def _open(protocol: Protocol, architecture: Architecture, data: Dataset, settings: SearchSettings) -> _Search:
    """Opens the study. Raises UserError for too few images, or if the network cannot be built."""
    from segbench.data import subsets
    from segbench.ledger import database, studies

    subset = subsets.draw_search(data, protocol.search)
    subsets.draw_full_training(data, protocol)  # raises now, before the search, if the promotion would lack images
    search = _Search(architecture, protocol, data, subset, settings)
    storage = database.connect(paths.studies_database(settings.study_db))
    if studies.study_name(protocol, architecture) not in studies.names(storage):
        from segbench.experiment import objective

        objective.check_buildable(protocol, architecture, search.images, search.initial)
    search.study = studies.open_study(storage, protocol, architecture, data.fingerprint, subset.description)
    return search


def _plan(protocol: Protocol, architecture: Architecture, data: Dataset, settings: SearchSettings) -> _Search:
    """Opens the study and plans its trials."""
    from segbench.ledger import queue, showcase

    search = _open(protocol, architecture, data, settings)
    name = architecture.name
    commands = (
        f"python -m segbench.search{settings.repeat_search(name)}",
        f"python -m segbench.promote{settings.repeat(name)}",
    )
    showcase.describe(search.study, *commands)
    baseline = architecture.baseline if settings.baseline else None
    for line in queue.plan(search.study, architecture.space, protocol.search, baseline):
        terminal.say(line)
    return search


def _announced(search: _Search, where: Callable[[], str]) -> StudyRecord:
    """Prints what is left; returns the study, whose open trials may be those of other processes."""
    from segbench.experiment import search_display

    record = search.record()
    left = sum(not trial.state.ended for trial in record.trials)
    by_trials = search.protocol.search.seconds is None
    what = f"{left} of {len(record.trials)} trials to run" if by_trials else search_display.used(record)
    terminal.say(f"\n{search.architecture.title}: study {record.name}, {what}")
    for index, source in record.starts.items():
        terminal.say(f"trial {index}: {'the known-good values' if source == 'baseline' else f'as {source}'}")
    terminal.say(search.description if record.finished else f"{search.description}; {where()}")
    return record


def _alone(search: _Search) -> StudyRecord:
    """Runs what is left in this process."""
    from segbench.experiment import search_display

    record = _announced(search, lambda: search.device.description)
    if not record.finished:
        from segbench.experiment import objective
        from segbench.ledger import showcase, studies

        if search.protocol.search.seconds is None:  # else the budget is the cost
            _say_cost(search, sum(not trial.state.ended for trial in record.trials))
        job = search.job()
        with _display(search, record) as show, interrupts.graceful():
            try:
                studies.run(search.study, lambda trial: objective.objective(trial, job, show), ended=search.clean_up)
            except studies.Stopped:
                raise interrupts.interrupt() from None
        objective.clean_up_finished(search.study, job.mlflow)
        showcase.finish(search.study)
        record = search.record()
    search_display.table(record)
    return record


@contextlib.contextmanager
def _display(search: _Search, record: StudyRecord) -> Iterator[Show]:
    """Shows epochs of trials, or seconds of a budget in device-hours."""
    from segbench.experiment import search_display

    name, epochs, seconds = search.architecture.name, search.protocol.search.epochs, search.protocol.search.seconds
    if seconds is not None:
        with terminal.board(name, round(seconds), round(record.used_seconds)) as show:
            yield search_display.HoursProgress(record, epochs, show)
        return
    total, left = len(record.trials) * epochs, sum(not trial.state.ended for trial in record.trials) * epochs
    with (
        terminal.progress(name, total, total - left) as advance,
        contextlib.closing(search_display.Progress(record, epochs, advance)) as progress,
    ):
        yield progress


def _say_cost(search: _Search, left: int) -> None:
    """Says what the trials that are left will take, from a few timed steps; nothing if they fail: trials will tell."""
    from segbench.engine.training import Diverged
    from segbench.experiment import estimating

    counts = estimating.Counts(len(search.data.train), len(search.data.val))
    sample = estimating.Sample(search.data.train, search.data.val, counts)
    with contextlib.suppress(Diverged, RuntimeError, MemoryError):
        build = search.initial.model
        estimate = estimating.of(search.protocol, search.architecture, sample, search.device, build, trials=left)
        terminal.say(estimate.line)


def _together(launcher: Launcher, searches: list[_Search]) -> list[StudyRecord]:
    """Runs what is left with several workers."""
    from segbench.experiment import search_display

    before = [_announced(search, lambda: launcher.description) for search in searches]
    if not all(record.finished for record in before):
        from segbench.experiment import objective, workers
        from segbench.ledger import showcase

        # Create MLflow's database and the studies' runs before any worker needs them.
        clients = [search.study_run()[0] for search in searches]
        workers.run(launcher, [search.study for search in searches])
        for search, mlflow in zip(searches, clients, strict=True):
            objective.clean_up_finished(search.study, mlflow)
            showcase.finish(search.study)
    records = [search.record() for search in searches]
    for record in records:
        search_display.table(record)
    return records
