"""Search hyperparameters under a protocol, one independent search per architecture.

    python -m segbench.search deeplab
    python -m segbench.search                        every architecture of the protocol, in turn
    python -m segbench.search --data DIR deeplab     the note's protocol on a Cityscapes folder
    python -m segbench.search --gpus 0,1             two workers, one per GPU
    python -m segbench.search --workers 4            four workers, on all GPUs or sharing the CPU's cores

Stop it with Ctrl-C and run it again: it goes on until exactly `trials` slots are finished.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shlex
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

from segbench import distributed, options, places, stopping, terminal
from segbench import protocol as protocols
from segbench.errors import UserError
from segbench.protocol import PRUNERS, SAMPLERS, Architecture, Protocol, Search
from segbench.records import EpochRecord, StudyRecord, TrialRecord

if TYPE_CHECKING:
    import optuna

    from segbench.compute import Compute
    from segbench.data.packed import Dataset
    from segbench.objective import Images, Initial, Job
    from segbench.workers import Team

LAUNCHERS = ("local", "ray")


def main(argv: list[str] | None = None) -> int:
    """Searches each architecture in turn."""
    arguments = _arguments(argv)
    distributed.refuse("search", "say --workers N instead")
    protocol, chosen = options.read(arguments)
    protocol = _overridden(protocol, arguments)
    if arguments.weights:
        chosen = [dataclasses.replace(one, weights=arguments.weights) for one in chosen]
    if arguments.baseline and (bare := [one.name for one in chosen if not one.baseline]):
        raise UserError(f"--baseline: {bare[0]}.toml of '{protocol.name}' has no table [baseline]; write one there")
    if arguments.worker is not None:
        return _work(protocol, chosen, arguments)
    team = _team(arguments, sys.argv[1:] if argv is None else argv, _slots(protocol, chosen, arguments))

    from segbench import compute, dataset

    device = compute.choose("cpu" if team else arguments.device, arguments.compile and not team)
    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = dataset.ready(protocol, arguments.data)
    if team:
        _together(team, [_prepare(protocol, one, data, device, arguments) for one in chosen])
    else:
        for architecture in chosen:
            _alone(_prepare(protocol, architecture, data, device, arguments))
    terminal.say(f"look at the trials: python -m segbench.dashboard{options.study_db_again(arguments)}")
    terminal.next_command(f"python -m segbench.promote{options.again(arguments)}")
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, metavar="N", help="finished trials in total; default: the protocol's")
    parser.add_argument("--weights", metavar="WHICH", help="pretrained, random, a state-dict file or a folder")
    parser.add_argument("--sampler", choices=SAMPLERS, help="default: the protocol's (random unless it says otherwise)")
    parser.add_argument("--pruner", choices=PRUNERS, help="default: the protocol's (none unless it says otherwise)")
    parser.add_argument("--baseline", action="store_true", help="also run the [baseline] values, beside the plan")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the slots; default: one")
    parser.add_argument("--gpus", metavar="0,1,…", help="of the workers; default: all there are, in turn")
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help="what starts the workers; default: local"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # this process is that one of them
    return options.parse(parser, argv)


def _overridden(protocol: Protocol, arguments: argparse.Namespace) -> Protocol:
    given = {name: getattr(arguments, name) for name in ("trials", "sampler", "pruner")}
    with protocols.located("command line"):
        search = dataclasses.replace(protocol.search, **{k: v for k, v in given.items() if v is not None})
    return dataclasses.replace(protocol, search=search)


def _overrides(arguments: argparse.Namespace) -> str:
    """What the command line said otherwise than the protocol, as text: the study was made with it."""
    given = ((name, getattr(arguments, name)) for name in ("trials", "weights", "sampler", "pruner"))
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given if value is not None)


class _Ready(NamedTuple):
    """One architecture's search, with all that a worker needs for it."""

    study: optuna.Study
    words: str  # for people
    architecture: Architecture
    search: Search
    images: Images
    initial: Initial
    device: Compute
    protocol: str

    def job(self) -> Job:
        """With the study's MLflow run, made on first use."""
        from segbench import database, objective, runs

        mlflow = runs.client()
        with database.ledger_of(self.study).locked():  # workers that start together share one run
            tags = {"architecture": self.architecture.name}
            parent = runs.study_run(mlflow, self.protocol, self.study.study_name, tags)
            self.study.set_user_attr("run_id", parent)
        return objective.Job(self.architecture, self.search, self.images, self.initial, self.device, mlflow, parent)

    def record(self) -> StudyRecord:
        from segbench import database, trials

        return trials.record(database.ledger_of(self.study), self.study.study_name)


def _prepare(
    protocol: Protocol, architecture: Architecture, data: Dataset, device: Compute, arguments: argparse.Namespace
) -> _Ready:
    """Opens the study and plans its slots, unless a worker asks: the process that started it has done so."""
    from segbench import database, objective, showcase, slots, trials
    from segbench.data import subset

    chosen = subset.draw_search(data, protocol.search)
    subset.draw_final(data, protocol.final)  # too few images for the promotion are better known now
    images = objective.Images.of(data, chosen, architecture.batch_size, device)
    storage = database.connect(places.studies_database(arguments.study_db))
    initial = objective.Initial(architecture, protocol.search.seed)
    if trials.study_name(protocol, architecture) not in trials.names(storage):
        objective.rehearse(architecture, images, initial)
    study = trials.open_study(storage, protocol, architecture, data.fingerprint, chosen.words)
    if arguments.worker is None:
        again = options.again(arguments, architecture.name)
        search = f"python -m segbench.search{again}{_overrides(arguments)}"
        showcase.describe(study, search, f"python -m segbench.promote{again}")
        baseline = architecture.baseline if arguments.baseline else None
        for line in slots.plan(study, architecture.space, protocol.search, baseline):
            terminal.say(line)
    words = f"{chosen.words}; initial weights: {architecture.weights}"
    return _Ready(study, words, architecture, protocol.search, images, initial, device, protocol.name)


def _announced(ready: _Ready, where: str) -> tuple[StudyRecord, int]:
    """The study, and how many of its slots have not ended: those that run elsewhere may come back."""
    record = ready.record()
    left = sum(t.state in ("waiting", "running") for t in record.trials)
    title = ready.architecture.title
    terminal.say(
        f"\n{title}: study {record.name}, {left} of {len(record.trials)} trials to run\n{ready.words}; {where}"
    )
    return record, left


def _alone(ready: _Ready) -> None:
    """Runs what is left in this process."""
    from segbench import objective, trials

    record, left = _announced(ready, ready.device.words)
    if left:
        job = ready.job()
        epochs = ready.search.epochs
        total = len(record.trials) * epochs
        with (
            terminal.progress(ready.architecture.name, total, total - left * epochs) as advance,
            contextlib.closing(_Shown(record, epochs, advance)) as show,
            stopping.graceful(),
        ):
            try:
                trials.run(ready.study, lambda trial: objective.objective(trial, job, show))
            except trials.Stopped:
                raise stopping.interrupt() from None
        objective.tidy(ready.study)
        record = ready.record()
    _table(record)


def _slots(protocol: Protocol, chosen: list[Architecture], arguments: argparse.Namespace) -> int:
    return len(chosen) * (protocol.search.trials + bool(arguments.baseline))


def _team(arguments: argparse.Namespace, argv: list[str], most: int) -> Team | None:
    """Who shares the slots, of which there are `most`; None where this process runs them alone."""
    number = arguments.workers
    if number is None and arguments.gpus is None:
        if arguments.launcher != "local":
            raise UserError(f"--launcher {arguments.launcher}: how many workers? Add --workers N")
        return None
    count = len(arguments.gpus.split(",")) if number is None else number
    if not 1 <= count <= most:
        given = f"--workers is {number}" if number is not None else f"--gpus {arguments.gpus} asks {count} workers"
        raise UserError(f"{given}: expected 1 to {most}, as many as there are slots to share")

    from segbench import processes

    # In front of the user's own, which may end in `-- deeplab`.
    command = [sys.executable, "-m", "segbench.search", "--worker", processes.NUMBER, *argv]
    if arguments.launcher == "ray":
        from segbench import cluster

        return cluster.Ray(command, number, arguments.gpus)
    return processes.Local(command, processes.environments(number, arguments.gpus, arguments.device))


def _together(team: Team, searches: list[_Ready]) -> None:
    """Runs what is left with a team."""
    from segbench import objective, workers

    left = 0
    for ready in searches:
        left += _announced(ready, team.words)[1]
        ready.job()  # MLflow's database and the study's run are there before any worker asks for them
    if left:
        workers.run(team, [ready.study for ready in searches])
        for ready in searches:
            objective.tidy(ready.study)
    for ready in searches:
        _table(ready.record())


def _work(protocol: Protocol, chosen: list[Architecture], arguments: argparse.Namespace) -> int:
    """One worker of a team. It waits for others only when no slot of any architecture is left to begin."""
    from segbench import compute, dataset, objective, processes, trials

    processes.enlist()
    device = compute.choose(arguments.device, arguments.compile)
    data = dataset.ready(protocol, arguments.data)
    searches = [_prepare(protocol, one, data, device, arguments) for one in chosen]
    with stopping.graceful(message=b""):
        jobs = [(ready.study, ready.job()) for ready in searches]
        try:
            for wait in (False, True):
                for study, job in jobs:
                    run = functools.partial(objective.objective, job=job, show=lambda slot, record: None)
                    trials.run(study, run, wait)
        except (trials.Stopped, KeyboardInterrupt):
            return 128 + int(signal.SIGTERM)
    return 0


class _Shown:
    """What the progress display says after each epoch: of the whole search, and below of the trial."""

    def __init__(self, record: StudyRecord, epochs: int, advance: terminal.Advance) -> None:
        self.best = max((t.value for t in record.trials if t.value is not None), default=0.0)
        self.epochs = epochs
        self.advance = advance
        self._slot: int | None = None
        self._trial: terminal.Advance = advance
        self._display = contextlib.ExitStack()

    def __call__(self, slot: int, record: EpochRecord) -> None:
        self.best = max(self.best, record.miou)
        name = "baseline" if slot < 0 else f"trial {slot}"
        text = f"mIoU {record.miou:.3f}, best {self.best:.3f}, {record.images_per_second:.1f} images/s"
        self.advance(f"{name}, epoch {record.epoch}/{self.epochs}: {text}")
        if slot != self._slot or record.epoch == 1:
            self.close()
            self._slot, self._trial = slot, self._display.enter_context(terminal.progress(name, self.epochs))
        self._trial(text)

    def close(self) -> None:
        """Ends the trial's part of the display."""
        self._display.close()


def _table(study: StudyRecord) -> None:
    from segbench import trials

    best = trials.best(study)
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    columns = ["trial", "mIoU", "official", "last mIoU", "best epoch", *names, "seconds", "state"]
    rows = [_row(trial, names, trial is best or trial == best) for trial in study.trials]
    terminal.table(study.name, columns, rows, right={1, 2, 3, 4, len(columns) - 2})
    if best is None:
        terminal.say("no trial finished: nothing can be promoted. Look at the last column, mend the TOML, search again")


def _row(trial: TrialRecord, names: list[str], best: bool) -> list[str]:
    name = "baseline" if trial.baseline else str(trial.slot)
    top = max(trial.epochs, key=lambda e: e.miou, default=None)
    scores = [f"{v:.4f}" for v in (top.miou, top.miou_official, trial.epochs[-1].miou)] if top else ["", "", ""]
    values = [_text(trial.params.get(n, "")) for n in names]
    state = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
    return [
        name,
        *scores,
        str(top.epoch) if top else "",
        *values,
        f"{trial.seconds:.1f}",
        state + (" ◀ best" if best else ""),
    ]


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
