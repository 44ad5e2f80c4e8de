"""Starts commands, hurts them, and asserts that what they leave is whole: equal to what an unharmed run leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file

from segbench.architectures.parts.weights import digest
from segbench.core.labels import DEFAULT
from segbench.core.records import EpochRecord, ModelCard
from segbench.ledger import database, models, queue, runs, studies, tracking
from segbench.ledger.attempts import EPOCH
from tests.faults import command
from tests.faults.command import Instant, Settings

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.faults.command"])
_OF_THE_MACHINE = (
    "study_id",
    "attempt",
    "run_id",
    "seconds",
    "created",
    "speed",
    "best",
    "last",
    "cache",
)  # fields of a ModelCard


class Found(NamedTuple):
    """What a study has left that must not depend on what befell it."""

    trials: dict[str, tuple[str, float | None, dict[str, Any], list[EpochRecord]]]
    weights: dict[str, str]  # of the best trial and of the promoted models: digest by path
    cards: dict[str, ModelCard]


class Place:
    """A storage, the commands that use it, and what they say."""

    longest = 600.0  # seconds that a command may take

    def __init__(self, storage: Path, where: list[str], study_db: str = "", share: float | None = float("inf")) -> None:
        """`where`: the arguments of every command."""
        self.storage, self.where, self.study_db, self.share = storage, where, study_db, share
        self.said = storage.with_name(f"{storage.name}.said")
        self.events = storage.with_name(f"{storage.name}.events")
        storage.mkdir(exist_ok=True)

    def start(self, module: str = "search", instant: Instant | None = None, **settings: Any) -> BaseProcess:
        """Begins `python -m segbench.<module>`."""
        environment = {"SEGBENCH_STORAGE": str(self.storage), "SEGBENCH_REPORTS": str(self.storage / "reports")}
        if self.study_db:
            environment["SEGBENCH_STUDY_DB"] = self.study_db
        made = Settings(**{
            **{"environment": environment, "said": str(self.said), "share": self.share, "instant": instant},
            **settings,
        })  # fmt: skip
        # Forked by a server, so that its parent is not this process with its threads.
        process = _forks.Process(target=command.run, args=(f"segbench.{module}", self.where, made), daemon=True)
        process.start()
        return process

    def run(self, module: str = "search", instant: Instant | None = None, **settings: Any) -> int:
        """Runs it to its end. Returns its exit code, minus the signal for one that was killed."""
        process = self.start(module, instant, **settings)
        process.join(self.longest)
        assert process.exitcode is not None, self.output()
        return process.exitcode

    def output(self) -> str:
        """What the commands have said since this was asked before."""
        text = self.said.read_text() if self.said.exists() else ""
        self.said.unlink(missing_ok=True)
        return text

    def wait_for(self, event: str, times: int) -> None:
        """Until a command has told so often of an event."""
        self.wait_until(lambda: self.events.exists() and self.events.read_text().split().count(event) >= times)

    def wait_until(self, truth: Callable[[], object]) -> None:
        deadline = time.monotonic() + 600
        while not truth():
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def found(self) -> Found:
        """All there is."""
        return found(self)

    @property
    def study_storage(self) -> database.StudyStorage:
        return database.connect(self.study_db or self.storage / "studies.db")

    @contextlib.contextmanager
    def visited(self) -> Iterator[None]:
        """The environment of its commands, for this process."""
        before = os.environ.get("SEGBENCH_STORAGE")
        os.environ["SEGBENCH_STORAGE"] = str(self.storage)
        try:
            yield
        finally:
            os.environ.pop("SEGBENCH_STORAGE")
            if before is not None:
                os.environ["SEGBENCH_STORAGE"] = before


def found(place: Place) -> Found:
    """All there is."""
    storage, ended, weights, cards = place.study_storage, {}, {}, {}
    for name in studies.names(storage):
        for trial in studies.record(storage, name).trials:
            epochs = [record.without_timings() for record in trial.epochs]
            ended[f"{name} {trial.index}"] = (trial.state, trial.value, dict(trial.params), epochs)
    for path in sorted(p for part in ("trials", "models") for p in (place.storage / part).rglob("*.safetensors")):
        weights[str(path.relative_to(place.storage))] = digest(load_file(path))
    with place.visited():
        for one in models.promoted():
            plain = dict.fromkeys(_OF_THE_MACHINE)
            card = dataclasses.replace(one.card, **plain)
            scores = (one.card.best.without_timings(), one.card.last.without_timings())
            cards[str(one.folder.relative_to(place.storage))] = (card, scores)
    return Found(ended, weights, cards)


def assert_whole(place: Place, reference: Found) -> None:
    """The budget is exact, no finished epoch and no trial is lost or there twice, the records and weights are those of
    an unharmed run bit for bit, both databases are sound, and each training is one MLflow run with each step once."""
    assert differences(place, reference) == []


def differences(place: Place, reference: Found) -> list[str]:
    """What `assert_whole` asserts that there is none of, a line each."""
    now = found(place)
    lines = []
    for field in Found._fields:
        ours, theirs = getattr(now, field), getattr(reference, field)
        lines += [f"{field}: {key} is lost" for key in theirs.keys() - ours.keys()]
        lines += [f"{field}: {key} is too many" for key in ours.keys() - theirs.keys()]
        lines += [f"{field}: {key} differs" for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]]
    storage = place.study_storage
    for name in studies.names(storage):
        lines += _of_the_ledger(storage, name)
    lines += _of_mlflow(place)
    for path in place.storage.glob("*.db"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            said = connection.execute("PRAGMA integrity_check").fetchall()
        lines += [f"{path.name}: {said}"] if said != [("ok",)] else []
    lines += [f"{path.name} was left behind" for path in place.storage.rglob("*.partial")]
    return lines


def _of_the_ledger(storage: database.StudyStorage, name: str) -> list[str]:
    import optuna
    from optuna.trial import TrialState as AttemptState

    study = optuna.load_study(study_name=name, storage=storage)
    every = study.get_trials(deepcopy=False)
    with_value = (AttemptState.COMPLETE, AttemptState.PRUNED)
    ended = [queue.index_of(t) for t in every if t.state in with_value or "outcome" in t.user_attrs]
    lines = [f"{name}: trial {one} ended {ended.count(one)} times" for one in set(ended) if ended.count(one) > 1]
    lines += [f"{name}: attempt {t.number} is {t.state.name}" for t in every if not t.state.is_finished()]
    most: dict[int, int] = {}
    for trial in every:  # no attempt of a trial knows fewer epochs than the one before
        index, epochs = queue.index_of(trial), sum(key.startswith(EPOCH) for key in trial.system_attrs)
        if epochs < most.get(index, 0):
            lines.append(f"{name}: attempt {trial.number} of trial {index} lost an epoch")
        if epochs != len(trial.intermediate_values):
            lines.append(
                f"{name}: attempt {trial.number} has {epochs} epochs of {len(trial.intermediate_values)} values"
            )
        most[index] = epochs
    return lines


def _of_mlflow(place: Place) -> list[str]:
    """One run for each trial and promotion, ended, with steps 1..E once, and of the same numbers as the ledger's."""
    lines: list[str] = []
    with place.visited():
        client = tracking.client()
        expected = {}
        for name in studies.names(place.study_storage):
            expected |= {t.run_id: t.epochs for t in studies.record(place.study_storage, name).trials if t.epochs}
        promoted = {one.card.run_id: one.card.epochs for one in models.promoted()}
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        every = [run for run in client.search_runs(experiments, max_results=1000) if run.data.tags["kind"] != "study"]
        ids = [run.info.run_id for run in every if run.data.metrics]
        lines += [f"MLflow has {len(ids)} runs for {len(expected) + len(promoted)} trainings"] * (
            sorted(ids) != sorted([*expected, *promoted])
        )
        lines += [f"the MLflow run {run.info.run_name} is empty" for run in every if not run.data.metrics]
        for run in every:
            if run.info.status == "RUNNING":
                lines.append(f"the MLflow run {run.info.run_name} is still running")
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "miou")]
            number = len(expected.get(run.info.run_id, ())) or promoted.get(run.info.run_id, 0)
            if steps != list(range(1, number + 1)):
                lines.append(f"the MLflow run {run.info.run_name} has the steps {steps}")
        for run_id, epochs in expected.items():
            ours = [record.without_timings() for record in runs.epochs(client, run_id, DEFAULT.names)]
            if ours != [record.without_timings() for record in epochs]:
                lines.append(f"the MLflow run {run_id} has other numbers than the ledger")
    return lines


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
