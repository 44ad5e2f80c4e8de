"""What a step of a trial costs: as many statements and rows in a study of thousands as in a small one."""

from __future__ import annotations

import inspect
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import event

from segbench.ledger import database, liveness, optuna_private, queue, showcase, studies
from segbench.ledger.database import StudyStorage
from tests import worker
from tests.test_studies import epoch


class Counter:
    """The statements that a storage has sent, and the rows it was given."""

    def __init__(self) -> None:
        self.statements = self.rows = 0

    @property
    def now(self) -> tuple[int, int]:
        return self.statements, self.rows

    def row(self, cursor: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
        self.rows += 1
        return row

    def statement(self, *_: Any) -> None:
        self.statements += 1


@contextmanager
def counted(storage: StudyStorage) -> Iterator[Counter]:
    counter = Counter()

    def check_out(connection: Any, *_: Any) -> None:
        connection.row_factory = counter.row

    event.listen(storage.engine, "checkout", check_out)
    event.listen(storage.engine, "before_cursor_execute", counter.statement)
    storage.remove_session()
    yield counter


def cost_of_each_trial(folder: Path, trials: int) -> set[tuple[int, int]]:
    """(statements, rows) of claiming, reporting two epochs, ending, and looking for dead processes."""
    storage = database.connect(folder / f"{trials}.db")
    study = worker.study(storage, trials)
    with counted(storage) as counter:
        moments = []

        def objective(trial: optuna.Trial) -> float:
            moments.append(counter.now)
            for number in (1, 2):
                studies.report(trial, epoch(number))
            return 0.5

        studies.run(study, objective)
    assert len(moments) == trials
    pairs = itertools.pairwise(moments)
    return {(after[0] - before[0], after[1] - before[1]) for before, after in pairs}


@pytest.mark.parametrize("trials", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_trial_of_a_large_study_costs_what_one_of_a_small_costs(tmp_path: Path, trials: int) -> None:
    small = cost_of_each_trial(tmp_path, 4)
    assert len(small) == 1
    assert cost_of_each_trial(tmp_path, trials) == small
    ((statements, rows),) = small
    assert statements < 60
    assert rows < 40


def test_a_plan_is_queued_in_a_few_statements(tmp_path: Path) -> None:
    costs = []
    for trials in (5, 50):
        storage = database.connect(tmp_path / f"{trials}.db")
        with counted(storage) as counter:
            worker.study(storage, trials)
        costs.append(counter.statements)
    assert costs[0] == costs[1]
    assert [t.number for t in optuna.load_study(study_name="tiny", storage=storage).get_trials()] == list(range(50))


def test_a_dead_attempt_costs_nothing_once_its_trial_is_requeued(tmp_path: Path) -> None:
    storage = database.connect(tmp_path / "studies.db")
    study = worker.study(storage, 1)
    for _ in range(2):
        attempt = queue.claim(study, str(liveness.me()))
        assert attempt is not None
        queue.hand_back(study, optuna_private.attempt_id(attempt))
    with counted(storage) as counter:
        assert queue.requeue_dead(study) == []
    assert counter.now == (2, 0)  # BEGIN and one question
    assert [t.user_attrs.get("continued_by") for t in study.get_trials()] == [1, 2, None]


def test_a_trial_that_another_process_ended_is_requeued_once(tmp_path: Path) -> None:
    study = worker.study(database.connect(tmp_path / "studies.db"), 1)
    attempt = queue.claim(study, str(liveness.me()))
    study.tell(attempt, state=optuna.trial.TrialState.FAIL)
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs={"trial": 0}))
    assert queue.requeue_dead(study) == []  # somebody has queued it already
    assert len(study.get_trials()) == 2


def test_the_plot_is_not_drawn_at_every_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = worker.study(database.connect(tmp_path / "studies.db"), 40)
    drawn = []
    write_plot = showcase.notes.write_plot
    monkeypatch.setattr(showcase.notes, "write_plot", lambda *given: (drawn.append(given[2]), write_plot(*given)))
    for part in ("_attach", "_describe"):
        monkeypatch.setattr(showcase, part, lambda *_: None)
    monkeypatch.setattr(showcase, "_trial_note", lambda *_: "")
    monkeypatch.setattr(showcase.Scenes, "picture", lambda self: None)
    monkeypatch.setattr(showcase, "_encoded", lambda *_, **__: b"")
    monkeypatch.setattr(showcase.curves, "png", lambda records: b"")

    def objective(trial: optuna.Trial) -> float:
        studies.report(trial, epoch(1))
        showcase.show(trial, [epoch(1)], showcase.Scenes(None, (), ()))
        return 0.5

    studies.run(study, objective)
    assert len(drawn) < 30
    showcase.finish(study)
    names = [str(index) for index in range(40)]
    assert drawn[-1]["data"][0]["x"] == names
    number = len(drawn)
    showcase.finish(study)
    assert len(drawn) == number


def test_seconds_are_right_in_every_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        storage = database.connect(tmp_path / "studies.db")
        study = worker.study(storage, 1)
        studies.run(study, worker.objective)
        (trial,) = studies.record(storage, "tiny").trials
        assert 0 <= trial.seconds < 600
        assert (
            abs(
                time.time() - optuna.load_study(study_name="tiny", storage=storage).trials[0].datetime_start.timestamp()
            )
            < 600
        )
    finally:
        monkeypatch.undo()
        time.tzset()


def test_optunas_private_names_are_there() -> None:
    tables = optuna_private.METADATA.tables
    for table, columns in optuna_private.COLUMNS.items():
        assert set(columns) <= set(tables[table].columns.keys()), table
    for name in optuna_private.STORAGE_METHODS:
        assert inspect.isfunction(getattr(optuna.storages.RDBStorage, name)), name
    study = optuna.create_study(storage="sqlite:///:memory:")
    attempt = study.ask()
    assert isinstance(optuna_private.storage(study), optuna.storages.RDBStorage)
    assert optuna_private.study_id(study) == optuna_private.attempt_id(attempt) == 1
    assert optuna_private.attempt_id(study.get_trials()[0]) == 1
    optuna_private.tell_pruner(attempt, 3, 0.5)
    assert attempt._get_latest_trial().intermediate_values == {3: 0.5}
    assert optuna_private.finite(0.5)["intermediate_value"] == 0.5


def test_optunas_private_names_are_in_one_file() -> None:
    private = re.compile(
        r"optuna\.[\w.]*\._|\.(_trial_id|_study_id|_storage|_backend|_cached_frozen_trial|_get_\w*trial\w*)\b"
    )
    package = Path(studies.__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        if path.name != "optuna_private.py":
            assert not private.findall(path.read_text(encoding="utf-8")), path
