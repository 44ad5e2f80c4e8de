"""The storage under many processes: every trial once, whoever dies, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from segbench.core.records import EpochRecord, EpochSeconds
from segbench.ledger import database, liveness, queue, samplers, studies
from segbench.ledger.database import StudyStorage
from segbench.ledger.liveness import WorkerId
from tests import worker

GONE = WorkerId(liveness.here(), 999999999, 0.0)
ELSEWHERE = WorkerId("elsewhere", 1, 0.0)


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that nobody has used yet."""
    if request.param == "sqlite":
        return str(tmp_path / "studies.db")
    return str(request.getfixturevalue("postgres").fresh())


@pytest.fixture
def storage(tmp_path: Path) -> StudyStorage:
    return database.connect(tmp_path / "studies.db")


def start(where: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.worker", where, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def states(study: optuna.Study) -> list[tuple[int, str]]:
    """(trial, state) of every trial there ever was."""
    return [(studies.index_of(t), t.state.name) for t in study.get_trials()]


def epoch(number: int) -> EpochRecord:
    seconds = EpochSeconds(*(0.0 for _ in EpochSeconds.__dataclass_fields__))
    return EpochRecord(number, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, (0.5,) * 8, seconds, 1.0, 1.0)


def dies(study: optuna.Study, epochs: int = 0, owner: WorkerId = GONE) -> optuna.Trial:
    """What a process leaves that is killed after so many epochs."""
    trial = queue.claim(study, str(owner))
    assert trial is not None
    for number in range(epochs):
        studies.report(trial, epoch(number + 1))
    return trial


def test_every_trial_is_run_once_by_four_processes(where: str) -> None:
    said, errors = (running := start(where, 4, 24)).communicate(timeout=600)
    assert (running.returncode, errors) == (0, "")
    assert sorted(map(int, re.findall(r"trial (\d+)\n", said))) == list(range(24))
    study = optuna.load_study(study_name="tiny", storage=database.connect(where))
    assert sorted(states(study)) == [(index, "COMPLETE") for index in range(24)]
    space = {name: samplers.distribution(values) for name, values in worker.SPACE.items()}
    assert all(t.params == samplers.draw(space, 0, studies.index_of(t)) for t in study.get_trials())
    assert len({t.user_attrs["owner"] for t in study.get_trials()}) == 4


def test_the_trial_of_a_killed_process_is_finished_by_another(where: str) -> None:
    running = start(where, 1, 3, "sleeps")
    assert running.stdout is not None
    assert running.stdout.readline() == "trial 0\n"
    study = worker.study(database.connect(where), 3)
    assert states(study) == [(0, "RUNNING"), (1, "WAITING"), (2, "WAITING")]  # it lives: planning leaves it alone
    ((trial, *_),) = (study.get_trials(),)
    study._storage.set_trial_user_attr(trial._trial_id, "run_id", "abc")
    os.kill(running.pid, signal.SIGKILL)
    running.stdout.read()  # until it is dead; as a zombie that nobody has waited for
    studies.run(study, worker.objective)
    running.communicate()
    assert states(study) == [(0, "FAIL"), (1, "COMPLETE"), (2, "COMPLETE"), (0, "COMPLETE")]
    first, *_, last = study.get_trials()
    assert (last.user_attrs["run_id"], last.params) == ("abc", first.params)
    assert last.user_attrs["deaths"] == [0]


def test_three_deaths_without_a_new_epoch_spend_the_trial(storage: StudyStorage) -> None:
    study = worker.study(storage, 1)
    for epochs in (3, 3, 4, 4, 4):
        dies(study, epochs)
        (said,) = queue.requeue_dead(study)
        assert str(GONE) in said
        assert said.endswith("queued again") == (study.get_trials()[-1].state == TrialState.WAITING)
    studies.run(study, worker.objective)
    assert states(study) == [(0, "FAIL")] * 5  # the new epoch gave it two more lives
    (trial,) = studies.record(storage, "tiny").trials
    assert trial.state == "failed"
    assert trial.reason == "its process died 3 times in epoch 5 (killed, or the machine ran out of memory)"
    assert len(trial.epochs) == 4
    assert queue.requeue_dead(study) == []
    worker.study(storage, 1)
    assert len(study.get_trials()) == 5  # planning again does not revive it


@pytest.mark.parametrize("error", [studies.Stopped(), KeyboardInterrupt(), ValueError("a bug")])
def test_stopping_a_search_does_not_count_as_a_death(storage: StudyStorage, error: BaseException) -> None:
    study = worker.study(storage, 2)

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("run_id", "abc")
        studies.report(trial, epoch(1))
        raise error

    for _ in range(4):
        with pytest.raises(type(error)):
            studies.run(study, objective)
    for trial in studies.record(storage, "tiny").trials:
        assert (trial.state, trial.run_id, len(trial.epochs)) == ("waiting", "abc", 1)
        assert "deaths" not in study.get_trials()[trial.attempt].user_attrs
        assert study.get_trials()[trial.attempt].intermediate_values == {1: 0.5}
    studies.run(study, worker.objective)
    assert [t.state for t in studies.record(storage, "tiny").trials] == ["complete", "complete"]


def test_other_hosts_are_alive_while_they_send_heartbeats(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = database.connect(where)
    study = worker.study(storage, 1)
    trial = dies(study, owner=ELSEWHERE)
    assert queue.requeue_dead(study) == []

    def fall_silent() -> None:
        with storage.engine.begin() as connection:
            connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'"))

    fall_silent()
    beat, record = threading.Event(), storage.record_heartbeat
    monkeypatch.setattr(storage, "record_heartbeat", lambda attempt_id: (record(attempt_id), beat.set()))
    monkeypatch.setattr(storage, "heartbeat_interval", 0.01)
    with liveness.heartbeat(storage, trial._trial_id):
        assert beat.wait(60)
    assert queue.requeue_dead(study) == []
    fall_silent()
    assert queue.requeue_dead(study) == [f"trial 0: {ELSEWHERE} is gone; queued again"]


def test_heartbeats_continue_after_database_errors(storage: StudyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, third = [], threading.Event()

    def sick(attempt_id: int) -> None:
        calls.append(attempt_id)
        if len(calls) == 3:
            third.set()
        raise OSError("database is locked")

    monkeypatch.setattr(liveness, "_SECONDS_BEFORE_ANOTHER_TRY", 0.001)
    monkeypatch.setattr(storage, "record_heartbeat", sick)
    monkeypatch.setattr(storage, "heartbeat_interval", 0.001)
    with liveness.heartbeat(storage, 7):
        assert third.wait(60)
    assert set(calls) == {7}


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_an_attempt_without_owner_is_requeued_after_the_grace_period(
    storage: StudyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = worker.study(storage, 1)
    study.ask()  # another program, or an Optuna worker
    assert queue.requeue_dead(study) == []
    monkeypatch.setattr(database, "GRACE_SECONDS", -1)
    assert queue.requeue_dead(study) == ["trial 0: its process is gone; queued again"]
    assert states(study) == [(0, "FAIL"), (0, "WAITING")]


def test_a_process_that_was_thought_dead_is_kept_out(storage: StudyStorage) -> None:
    study = worker.study(storage, 2)
    fates: list[Callable[[optuna.Trial], None]] = [
        lambda trial: studies.report(trial, epoch(1)),  # notices while it runs
        lambda trial: None,  # notices at its end
    ]

    def objective(trial: optuna.Trial) -> float:
        if fates:
            queue.end(study, trial._trial_id)
            queue.requeue_dead(study)
            fates.pop()(trial)
        return 0.5

    studies.run(study, objective)
    assert states(study)[:2] == [(0, "FAIL"), (1, "FAIL")]
    assert sorted(states(study)[2:]) == [(0, "COMPLETE"), (1, "COMPLETE")]
    assert not any(t.intermediate_values or t.system_attrs for t in study.get_trials())


def test_owners_are_distinguished() -> None:
    own = liveness.me()
    assert WorkerId.parse(str(own)) == own
    assert not own.gone
    assert own._replace(started=own.started - 60).gone  # a later process was given the same id
    assert own._replace(pid=999999999).gone
    assert not own._replace(pid=999999999, host="elsewhere").gone
    assert WorkerId.parse("") is WorkerId.parse("host:1") is WorkerId.parse("host:a:b") is None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = WorkerId.of(child.pid)
        assert not other.gone
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not reaped
        assert other.gone
    assert other.gone


def test_an_objective_of_nan_fails_its_trial(storage: StudyStorage) -> None:
    study = worker.study(storage, 1)
    studies.run(study, lambda trial: float("nan"))
    (trial,) = studies.record(storage, "tiny").trials
    assert (trial.state, trial.reason) == ("failed", "its objective is nan")


def test_trials_of_others_are_left_alone(storage: StudyStorage) -> None:
    study = worker.study(storage, 1)
    study.enqueue_trial({"x": 0.5})  # as optuna-dashboard would
    studies.run(study, worker.objective)
    assert states(study) == [(0, "COMPLETE"), (queue.UNPLANNED, "WAITING")]


def test_a_smaller_budget_takes_a_stopped_trial_back(storage: StudyStorage) -> None:
    study = worker.study(storage, 2)
    dies(study)
    dies(study, 1)
    worker.study(storage, 1)
    studies.run(study, worker.objective)
    assert [(t.index, t.state) for t in studies.record(storage, "tiny").trials] == [(0, "complete")]
    studies.run(worker.study(storage, 2), worker.objective)
    assert [(t.index, t.state) for t in studies.record(storage, "tiny").trials] == [(0, "complete"), (1, "complete")]
