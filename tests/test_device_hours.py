"""A search by device-hours: exact to one epoch, never idle, whoever works on it and whoever dies."""

from __future__ import annotations

import heapq
import tempfile
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench import api, search
from segbench import study as study_command
from segbench.core import paths
from segbench.core.protocol import Architecture, Data, Final, Protocol, Search
from segbench.core.records import EpochRecord, EpochSeconds, to_json
from segbench.core.space import Choice, Range
from segbench.core.study_record import FRUITLESS_TRIALS, StudyRecord, TrialState
from segbench.ledger import database, device_hours, liveness, optuna_private, queue, samplers, studies
from segbench.ledger.database import StudyStorage
from segbench.ledger.liveness import WorkerId
from segbench.runtime import terminal

EPOCHS = 3
NET = Architecture(
    "net", "Net", 2, "random",
    {"lr": Range(1e-4, 1e-2, log=True), "weight_decay": Choice((0.0,)), "optimizer": Choice(("adam",))},
)  # fmt: skip


def by_hours(storage: StudyStorage, seconds: float, name: str = "tiny") -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    search = Search(None, EPOCHS, 1, 1, hours=seconds / 3600)
    study.set_user_attr("protocol", to_json(Protocol("tiny", "Tiny", Data((32, 32)), search, Final(1))))
    study.set_user_attr("architecture", to_json(NET))
    queue.plan(study, NET.space, search, None)
    return study


def epoch(number: int, seconds: float) -> EpochRecord:
    parts = EpochSeconds(0, 0, 0, 0, 0, seconds / 4, 1.5, seconds + 1.5)  # bookkeeping is not charged
    return EpochRecord(number, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, (0.5,) * 8, parts, 1.0, 1.0)


class Worker:
    """Trains as objective._train does, on a fake clock: `costs` are the seconds of its epochs, one after another."""

    def __init__(self, study: optuna.Study, budget: float, number: int, costs: list[float]) -> None:
        self.study, self.budget, self.costs = study, budget, costs
        self.owner = str(WorkerId(liveness.here(), 999_999_000 + number, 0.0))  # no such process
        self.trial: optuna.Trial | None = None
        self.epoch = 0
        self.spent: list[float] = []

    def begins(self) -> float | None:
        """Starts its next epoch, of its trial or of the next one, and returns what it takes; None without work."""
        while True:
            if self.trial is None:
                was_left = used(self.study) < self.budget
                self.trial = queue.claim(self.study, self.owner)
                assert self.trial is not None or not was_left  # never idle while something is left
                if self.trial is None:
                    return None
                self.epoch = studies.epochs_reported(self.trial) + 1
            if self.epoch <= EPOCHS and device_hours.affords(self.trial, self.epoch, self.budget):
                return self.costs[(self.epoch + self.trial.number) % len(self.costs)]
            self.ends()

    def finishes(self, seconds: float) -> None:
        assert self.trial is not None
        record = epoch(self.epoch, seconds)
        if not device_hours.charge(self.trial, self.epoch, device_hours.cost(record), self.budget):
            self.ends()
            return
        studies.report(self.trial, record)
        self.epoch += 1

    def ends(self) -> None:
        assert self.trial is not None
        if self.epoch > 1:
            self.study.tell(self.trial, 0.5)
        else:
            queue.end(self.study, optuna_private.attempt_id(self.trial), withdrawn=True)
        self.trial = None


def used(study: optuna.Study) -> float:
    return queue.seconds_used(study)


SECONDS = st.floats(0.5, 40, allow_nan=False)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    budget=st.floats(1, 200),
    costs=st.lists(st.lists(SECONDS, min_size=1, max_size=4), min_size=1, max_size=4),
    kills=st.lists(st.booleans(), max_size=6),
)
def test_never_an_epoch_over_and_never_idle(budget: float, costs: list[list[float]], kills: list[bool]) -> None:
    """Each list of costs is a worker. Some epochs end in a kill; the trial goes on in another attempt."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        study = by_hours(database.connect(Path(folder) / "studies.db"), budget)
        workers = [Worker(study, budget, number, own) for number, own in enumerate(costs)]
        events: list[tuple[float, int, float]] = []
        for number, worker in enumerate(workers):
            if (takes := worker.begins()) is not None:
                heapq.heappush(events, (takes, number, takes))
        dies = iter(kills)
        while events:
            now, number, took = heapq.heappop(events)
            worker = workers[number]
            if next(dies, False):
                worker.trial = None  # mid-epoch; its process is not there, so anybody requeues the trial
                before = used(study)
                queue.requeue_dead(study)
                assert used(study) == pytest.approx(before)  # nothing is charged twice, nothing is forgotten
                for other in workers:  # they belong to processes that are not there either, but claim anew below
                    if other is not worker and other.trial is not None:
                        other.trial = _followed(study, other)
            else:
                worker.finishes(took)
            if (takes := worker.begins()) is not None:
                heapq.heappush(events, (now + takes, number, takes))
        record = studies_record(study)
        charged = [device_hours.cost(e) for trial in record.trials for e in trial.epochs]
        assert record.used_seconds == pytest.approx(sum(charged)) == pytest.approx(used(study))
        assert budget <= record.used_seconds + 1e-9
        assert record.used_seconds < budget + max(charged)
        assert record.finished
        assert queue.claim(study, "anybody") is None


def _followed(study: optuna.Study, worker: Worker) -> optuna.Trial | None:
    """`requeue_dead` took every trial from its worker, since none of the processes exists: each takes one again."""
    trial = queue.claim(study, worker.owner)
    if trial is not None:
        worker.epoch = studies.epochs_reported(trial) + 1
    return trial


def studies_record(study: optuna.Study) -> StudyRecord:
    return studies.record(database.storage_of(study), study.study_name)


@pytest.fixture
def store(tmp_path: Path) -> StudyStorage:
    return database.connect(tmp_path / "studies.db")


def test_trials_are_planned_on_demand_and_do_not_depend_on_the_budget(store: StudyStorage) -> None:
    study = by_hours(store, 100)
    assert study.get_trials() == []
    space = {name: samplers.distribution(values) for name, values in NET.space.items()}
    for index in range(3):
        trial = queue.claim(study, str(liveness.me()))
        assert trial is not None
        assert studies.index_of(trial) == index
        assert trial.params == samplers.draw(space, 0, index)  # what trial `index` of a search by trials has
        study.tell(trial, 0.5)


def test_an_epoch_in_flight_when_the_budget_ends_is_refused(store: StudyStorage) -> None:
    study = by_hours(store, 10)
    first, second = (queue.claim(study, str(liveness.me())) for _ in range(2))
    assert first is not None
    assert second is not None
    assert device_hours.charge(first, 1, 10.0, 10)
    assert not device_hours.affords(second, 1, 10)
    assert not device_hours.charge(second, 1, 3.0, 10)
    assert used(study) == 10
    assert queue.claim(study, str(liveness.me())) is None


def test_what_is_trained_again_after_a_kill_has_been_paid(store: StudyStorage) -> None:
    study = by_hours(store, 10)
    trial = queue.claim(study, str(WorkerId(liveness.here(), 999_999_999, 0.0)))
    assert trial is not None
    assert device_hours.charge(trial, 1, 12.0, 10)  # and is killed before the epoch is stored
    queue.requeue_dead(study)
    again = queue.claim(study, str(liveness.me()))
    assert again is not None
    assert device_hours.affords(again, 1, 10)
    assert not device_hours.affords(again, 2, 10)
    assert device_hours.charge(again, 1, 99.0, 10)
    assert used(study) == 12
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        device_hours.charge(trial, 2, 1.0, 10)  # a process that was thought dead


def test_a_search_that_can_train_nothing_ends(store: StudyStorage) -> None:
    study = by_hours(store, 10)

    def fails(trial: optuna.Trial) -> float:
        raise studies.TrialFailed(TrialState.OUT_OF_MEMORY, "out of memory")

    studies.run(study, fails)
    record = studies_record(study)
    assert len(record.trials) == FRUITLESS_TRIALS
    assert record.hopeless
    assert record.finished


@pytest.mark.slow
def test_a_search_by_hours_cuts_its_last_trial_and_resumes_to_nothing(
    storage: Path, drawn: Path, protocol: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Epochs that all cost ten seconds: 45 pay for two trials of two epochs and one of one."""
    monkeypatch.setattr(device_hours, "cost", lambda record: 10.0)
    command = ["deeplab", "--protocol", str(protocol), "--data", str(drawn), "--hours", str(45 / 3600)]
    for _ in range(2):
        assert search.main(command) == 0
        (record,) = api._studies("small-deeplab", None)
        assert [len(trial.epochs) for trial in record.trials] == [2, 2, 1]
        assert all(trial.state == TrialState.COMPLETE for trial in record.trials)
        assert record.trials[-1].value == record.trials[-1].epochs[0].miou
        assert record.used_seconds == 50
    assert "50.0 s of 45.0 s, 3 trials" in capsys.readouterr().out
    assert study_command.main([]) == 0
    said = capsys.readouterr().out
    assert "50.0 s of 45.0 s, 3 trials" in said
    assert "segbench.promote" in said  # nothing is left to search
    assert terminal.run(lambda: search.main([*command[:-1], "1"])) == 2  # another budget is another search
    assert "created with another protocol" in capsys.readouterr().err


@pytest.mark.slow
def test_two_workers_share_one_budget(storage: Path, drawn: Path, protocol: Path) -> None:
    budget = 1.0
    options: dict[str, Any] = {"protocol": protocol, "data": drawn, "hours": budget / 3600}
    command = ["deeplab", "--protocol", str(protocol), "--data", str(drawn), "--hours", str(budget / 3600)]
    assert search.main([*command, "--workers", "2"]) == 0
    (record,) = api._studies("small-deeplab", None)
    costs = [device_hours.cost(e) for trial in record.trials for e in trial.epochs]
    assert budget <= record.used_seconds == pytest.approx(sum(costs))
    assert record.used_seconds < budget + max(costs)
    assert api.search("deeplab", **options) == record
    assert paths.storage() == storage


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trials": 3, "hours": 2.0}, "trials = 3 and hours = 2.0 exclude each other"),
        ({"trials": None}, "'trials' is missing; it, or hours, sets the budget"),
        ({"trials": None, "hours": 0.0}, "hours must be above 0"),
        ({"trials": None, "hours": 1e9}, "at most 100,000"),
    ],
)
def test_exactly_one_budget(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Search(**{"epochs": 1, "train_images": 1, "val_images": 1, **values})
