"""Search hyperparameters under a protocol, one independent search per architecture.

    python -m segbench.search deeplab
    python -m segbench.search                        every architecture of the protocol, in turn
    python -m segbench.search --data DIR deeplab     the note's protocol on a Cityscapes folder
    python -m segbench.search --gpus 0,1             two workers, one per GPU
    python -m segbench.search --workers 4            four workers, on all GPUs or sharing the CPU's cores

Stop it with Ctrl-C and run it again: it goes on until exactly `trials` trials are finished.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segbench.core import paths
from segbench.core import protocol as protocols
from segbench.core.errors import UserError
from segbench.core.protocol import PRUNERS, SAMPLERS, Architecture, Protocol
from segbench.core.study_record import StudyRecord
from segbench.runtime import interrupts, options, process_group, terminal

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient

    from segbench.data.packing import Dataset
    from segbench.data.subsets import Subset
    from segbench.experiment.objective import Images, Initial, Job
    from segbench.experiment.workers import Launcher
    from segbench.runtime.compute import Compute

LAUNCHERS = ("local", "ray")


def main(argv: list[str] | None = None) -> int:
    """Searches each architecture in turn."""
    arguments = _arguments(argv)
    process_group.refuse("search", "say --workers N instead")
    protocol, chosen = options.read(arguments)
    protocol = _overridden(protocol, arguments)
    if arguments.weights:
        chosen = [dataclasses.replace(one, weights=arguments.weights) for one in chosen]
    if arguments.baseline and (bare := [one.name for one in chosen if not one.baseline]):
        raise UserError(f"--baseline: {bare[0]}.toml of '{protocol.name}' has no table [baseline]; write one there")
    if arguments.worker is not None:
        return _work(protocol, chosen, arguments)
    planned = len(chosen) * (protocol.search.trials + bool(arguments.baseline))
    launcher = _launcher(arguments, sys.argv[1:] if argv is None else argv, planned)
    _require_device(arguments, launcher)

    from segbench.data import dataset

    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = dataset.ready(protocol, arguments.data)
    if launcher:
        trains_nothing = argparse.Namespace(**{**vars(arguments), "device": "cpu", "compile": False})
        _together(launcher, [_prepare(protocol, one, data, trains_nothing) for one in chosen])
    else:
        for architecture in chosen:
            _alone(_prepare(protocol, architecture, data, arguments))
    terminal.say(f"look at the trials: python -m segbench.dashboard{options.repeat_study_db(arguments)}")
    terminal.next_command(f"python -m segbench.promote{options.repeat_args(arguments)}")
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, metavar="N", help="finished trials in total; default: the protocol's")
    parser.add_argument("--weights", metavar="WHICH", help="pretrained, random, a state-dict file or a folder")
    parser.add_argument("--sampler", choices=SAMPLERS, help="default: the protocol's (random unless it says otherwise)")
    parser.add_argument("--pruner", choices=PRUNERS, help="default: the protocol's (none unless it says otherwise)")
    parser.add_argument("--baseline", action="store_true", help="also run the [baseline] values, beside the plan")
    parser.add_argument("--keep-weights", action="store_true", help="of every trial, so that promote scores them all")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the trials; default: one")
    parser.add_argument("--gpus", metavar="0,1,…", help="of the workers; default: all there are, in turn")
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help="what starts the workers; default: local"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # this process is that one of them
    return options.parse(parser, argv)


def _require_device(arguments: argparse.Namespace, launcher: Launcher | None) -> None:
    """What was asked for and is not there is better known before the data is packed; of "auto" there is always one."""
    if not launcher and (arguments.device != "auto" or arguments.compile):
        from segbench.runtime import compute

        compute.choose(arguments.device, arguments.compile)


def _overridden(protocol: Protocol, arguments: argparse.Namespace) -> Protocol:
    given = {name: getattr(arguments, name) for name in ("trials", "sampler", "pruner")}
    with protocols.located("command line"):
        search = dataclasses.replace(protocol.search, **{k: v for k, v in given.items() if v is not None})
    return dataclasses.replace(protocol, search=search)


def _overrides(arguments: argparse.Namespace) -> str:
    """What the command line said otherwise than the protocol, as text: the study was made with it."""
    given = ((name, getattr(arguments, name)) for name in ("trials", "weights", "sampler", "pruner"))
    text = "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given if value is not None)
    return f"{text} --keep-weights" if arguments.keep_weights else text


@dataclass
class _Ready:
    """One architecture's search, with all that a worker needs for it. What needs torch is made when it is first asked
    for: where nothing is left to train, torch is not even imported."""

    study: optuna.Study = field(init=False)
    architecture: Architecture
    protocol: Protocol
    data: Dataset
    subset: Subset
    arguments: argparse.Namespace

    @property
    def description(self) -> str:
        """For people."""
        return f"{self.subset.description}; initial weights: {self.architecture.weights}"

    @functools.cached_property
    def device(self) -> Compute:
        from segbench.runtime import compute

        return compute.choose(self.arguments.device, self.arguments.compile)

    @functools.cached_property
    def images(self) -> Images:
        from segbench.experiment import objective

        batch_size, augment = self.architecture.batch_size, self.protocol.augment
        return objective.Images.of(self.data, self.subset, batch_size, self.device, augment)

    @functools.cached_property
    def initial(self) -> Initial:
        from segbench.experiment import objective

        return objective.Initial(self.architecture, self.protocol.search.seed)

    def study_run(self) -> tuple[MlflowClient, str]:
        """MLflow, and the id of the study's run there, made on first use."""
        from segbench.ledger import database, runs, tracking

        mlflow = tracking.client()
        with database.storage_of(self.study).locked():  # workers that start together share one run
            tags = {"architecture": self.architecture.name}
            run = runs.study_run(mlflow, self.protocol.name, self.study.study_name, tags)
            self.study.set_user_attr("run_id", run)
        return mlflow, run

    def job(self) -> Job:
        from segbench.experiment import objective

        search = self.protocol.search
        mlflow, run = self.study_run()
        keep = self.arguments.keep_weights
        return objective.Job(self.architecture, search, self.images, self.initial, self.device, mlflow, run, keep)

    def clean_up(self, index: int) -> None:
        """Removes the checkpoint of a trial that has ended: nothing goes on from it."""
        from segbench.engine import resume

        resume.clear(paths.trial_folder(self.study.study_name, index))

    def record(self) -> StudyRecord:
        from segbench.ledger import database, studies

        return studies.record(database.storage_of(self.study), self.study.study_name)


def _prepare(protocol: Protocol, architecture: Architecture, data: Dataset, arguments: argparse.Namespace) -> _Ready:
    """Opens the study and plans its trials, unless a worker asks: the process that started it has done so."""
    from segbench.data import subsets
    from segbench.ledger import database, queue, showcase, studies

    chosen = subsets.draw_search(data, protocol.search)
    subsets.draw_final(data, protocol.final)  # too few images for the promotion are better known now
    ready = _Ready(architecture, protocol, data, chosen, arguments)
    storage = database.connect(paths.studies_database(arguments.study_db))
    if studies.study_name(protocol, architecture) not in studies.names(storage):
        from segbench.experiment import objective

        objective.check_buildable(architecture, ready.images, ready.initial)
    ready.study = studies.open_study(storage, protocol, architecture, data.fingerprint, chosen.description)
    if arguments.worker is None:
        again = options.repeat_args(arguments, architecture.name)
        search = f"python -m segbench.search{again}{_overrides(arguments)}"
        showcase.describe(ready.study, search, f"python -m segbench.promote{again}")
        baseline = architecture.baseline if arguments.baseline else None
        for line in queue.plan(ready.study, architecture.space, protocol.search, baseline):
            terminal.say(line)
    return ready


def _announced(ready: _Ready, where: Callable[[], str]) -> tuple[StudyRecord, int]:
    """The study, and how many of its trials have not ended: those that run elsewhere may come back."""
    record = ready.record()
    left = sum(not t.state.ended for t in record.trials)
    terminal.say(f"\n{ready.architecture.title}: study {record.name}, {left} of {len(record.trials)} trials to run")
    terminal.say(f"{ready.description}; {where()}" if left else ready.description)
    return record, left


def _alone(ready: _Ready) -> None:
    """Runs what is left in this process."""
    from segbench.experiment import search_display

    record, left = _announced(ready, lambda: ready.device.description)
    if left:
        from segbench.experiment import objective
        from segbench.ledger import showcase, studies

        job = ready.job()
        epochs = ready.protocol.search.epochs
        total = len(record.trials) * epochs
        with (
            terminal.progress(ready.architecture.name, total, total - left * epochs) as advance,
            contextlib.closing(search_display.Progress(record, epochs, advance)) as show,
            interrupts.graceful(),
        ):
            try:
                studies.run(ready.study, lambda trial: objective.objective(trial, job, show), ended=ready.clean_up)
            except studies.Stopped:
                raise interrupts.interrupt() from None
        objective.clean_up_finished(ready.study, job.mlflow)
        showcase.finish(ready.study)
        record = ready.record()
    search_display.table(record)


def _launcher(arguments: argparse.Namespace, argv: list[str], most: int) -> Launcher | None:
    """Who shares the trials, of which there are `most`; None where this process runs them alone."""
    number = arguments.workers
    if number is None and arguments.gpus is None:
        if arguments.launcher != "local":
            raise UserError(f"--launcher {arguments.launcher}: how many workers? Add --workers N")
        return None
    count = len(arguments.gpus.split(",")) if number is None else number
    if not 1 <= count <= most:
        given = f"--workers is {number}" if number is not None else f"--gpus {arguments.gpus} asks {count} workers"
        raise UserError(f"{given}: expected 1 to {most}, as many as there are trials to share")

    from segbench.experiment import local_launcher

    # In front of the user's own, which may end in `-- deeplab`.
    command = [sys.executable, "-m", "segbench.search", "--worker", local_launcher.NUMBER, *argv]
    if arguments.launcher == "ray":
        from segbench.experiment import ray_launcher

        return ray_launcher.Ray(command, number, arguments.gpus)
    return local_launcher.Local(command, local_launcher.environments(number, arguments.gpus, arguments.device))


def _together(launcher: Launcher, searches: list[_Ready]) -> None:
    """Runs what is left with several workers."""
    from segbench.experiment import search_display

    left = sum(_announced(ready, lambda: launcher.description)[1] for ready in searches)
    if left:
        from segbench.experiment import objective, workers
        from segbench.ledger import showcase

        # MLflow's database and the studies' runs are there before any worker asks for them.
        clients = [ready.study_run()[0] for ready in searches]
        workers.run(launcher, [ready.study for ready in searches])
        for ready, mlflow in zip(searches, clients, strict=True):
            objective.clean_up_finished(ready.study, mlflow)
            showcase.finish(ready.study)
    for ready in searches:
        search_display.table(ready.record())


def _work(protocol: Protocol, chosen: list[Architecture], arguments: argparse.Namespace) -> int:
    """One of several workers. It waits for others only when no trial of any architecture is left to begin."""
    from segbench.data import dataset
    from segbench.experiment import local_launcher, objective
    from segbench.ledger import studies

    local_launcher.become_worker()
    data = dataset.ready(protocol, arguments.data)
    searches = [_prepare(protocol, one, data, arguments) for one in chosen]
    with interrupts.graceful(message=b""):
        jobs = [(ready, ready.job()) for ready in searches]
        try:
            for wait in (False, True):
                for ready, job in jobs:
                    run = functools.partial(objective.objective, job=job, show=lambda index, record: None)
                    studies.run(ready.study, run, wait, ready.clean_up)
        except (studies.Stopped, KeyboardInterrupt):
            return 128 + int(signal.SIGTERM)
    return 0


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
