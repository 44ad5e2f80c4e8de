"""Search hyperparameters under a protocol, one independent search per architecture.

    python -m segbench.search deeplab
    python -m segbench.search                        every architecture of the protocol, in turn
    python -m segbench.search --data DIR deeplab     the note's protocol on a Cityscapes folder

Stop it with Ctrl-C and run it again: it goes on until exactly `trials` slots are finished.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
from typing import TYPE_CHECKING

from segbench import options, places, stopping, terminal
from segbench import protocol as protocols
from segbench.errors import UserError
from segbench.protocol import PRUNERS, SAMPLERS, Architecture, Protocol
from segbench.records import EpochRecord, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from segbench.compute import Compute
    from segbench.data.packed import Dataset


def main(argv: list[str] | None = None) -> int:
    """Searches each architecture in turn."""
    arguments = _arguments(argv)
    protocol, chosen = options.read(arguments)
    protocol = _overridden(protocol, arguments)
    if arguments.weights:
        chosen = [dataclasses.replace(one, weights=arguments.weights) for one in chosen]

    from segbench import compute, dataset

    device = compute.choose(arguments.device, arguments.compile)
    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = dataset.ready(protocol, arguments.data)
    if arguments.baseline and (bare := [one.name for one in chosen if not one.baseline]):
        raise UserError(f"--baseline: {bare[0]}.toml of '{protocol.name}' has no table [baseline]; write one there")
    for architecture in chosen:
        _search(protocol, architecture, data, device, arguments)
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


def _search(
    protocol: Protocol, architecture: Architecture, data: Dataset, device: Compute, arguments: argparse.Namespace
) -> None:
    from segbench import database, objective, runs, showcase, slots, trials
    from segbench.data import subset

    chosen = subset.draw_search(data, protocol.search)
    subset.draw_final(data, protocol.final)  # too few images for the promotion are better known now
    images = objective.Images.of(data, chosen, architecture.batch_size, device)
    storage = database.connect(places.studies_database(arguments.study_db))
    initial = objective.Initial(architecture, protocol.search.seed)
    if trials.study_name(protocol, architecture) not in trials.names(storage):
        objective.rehearse(architecture, images, initial)
    study = trials.open_study(storage, protocol, architecture, data.fingerprint, chosen.words)
    again = options.again(arguments, architecture.name)
    showcase.describe(
        study, f"python -m segbench.search{again}{_overrides(arguments)}", f"python -m segbench.promote{again}"
    )
    baseline = architecture.baseline if arguments.baseline else None
    for line in slots.plan(study, architecture.space, protocol.search, baseline):
        terminal.say(line)
    record = trials.record(storage, study.study_name)
    left = sum(t.state in ("waiting", "running") for t in record.trials)  # those that run elsewhere may come back
    terminal.say(f"\n{architecture.title}: study {study.study_name}, {left} of {len(record.trials)} trials to run")
    terminal.say(f"{chosen.words}; {device.words}; initial weights: {architecture.weights}")
    if left:
        mlflow = runs.client()
        with storage.locked():  # workers that start together share one run
            parent = runs.study_run(mlflow, protocol.name, study.study_name, {"architecture": architecture.name})
            study.set_user_attr("run_id", parent)
        job = objective.Job(architecture, protocol.search, images, initial, device, mlflow, parent)
        epochs = protocol.search.epochs
        total = len(record.trials) * epochs
        with (
            terminal.progress(architecture.name, total, total - left * epochs) as advance,
            contextlib.closing(_Shown(record, epochs, advance)) as show,
            stopping.graceful(),
        ):
            try:
                trials.run(study, lambda trial: objective.objective(trial, job, show))
            except trials.Stopped:
                raise stopping.interrupt() from None
        objective.tidy(study)
        record = trials.record(storage, study.study_name)
    _table(record)


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
