"""The command that looks after searches, on the real Optuna and the real MLflow."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import optuna
import pandas as pd
import pytest

from segbench import study
from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.protocol import Search
from segbench.experiment import objective
from segbench.ledger import database, queue, runs, studies, study_folders, tracking
from segbench.ledger.database import StudyStorage
from segbench.runtime import terminal
from tests import worker
from tests.test_studies import ELSEWHERE, dies, epoch

pytest_plugins = ["tests.fabricated"]


def call(*arguments: object) -> int:
    return terminal.run(lambda: study.main([str(a) for a in arguments]))


@pytest.fixture
def study_storage(storage: Path) -> StudyStorage:
    """Holds the study `tiny`: trials 0 and 1 complete, 2 killed after an epoch, 3 waiting."""
    study_storage = database.connect(paths.studies_database())
    tiny = worker.study(study_storage, 4)

    def objective(trial: optuna.Trial) -> float:
        studies.report(trial, epoch(1))
        studies.report(trial, epoch(2))
        if studies.index_of(trial) == 2:
            raise studies.Stopped
        return worker.objective(trial)

    with pytest.raises(studies.Stopped):
        studies.run(tiny, objective)
    return study_storage


def test_show_and_repair(study_storage: StudyStorage, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = worker.study(study_storage, 4)
    dies(tiny, owner=ELSEWHERE)
    dies(tiny)
    capsys.readouterr()
    assert call() == 0
    shown = capsys.readouterr().out
    assert "tiny" in shown
    assert "2/4" in shown
    assert str(ELSEWHERE) in shown
    assert call("repair") == 0
    said = capsys.readouterr().out
    assert "tiny, trial 2: " in said
    assert "trial 3" not in said  # its host is alive, as far as is known
    assert "1 trial repaired" in said
    assert call("repair", "tiny") == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert call("show", "tiny") == 0
    shown = capsys.readouterr().out
    assert [shown.count(state) for state in ("complete", "running", "waiting")] == [2, 1, 1]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_export(study_storage: StudyStorage, tmp_path: Path, suffix: str) -> None:
    read = {
        "csv": partial(pd.read_csv, engine="python"),
        "parquet": pd.read_parquet,
        "json": lambda path: pd.DataFrame(json.loads(path.read_text())),
    }
    record = studies.record(study_storage, "tiny")
    assert call("export", "tiny", "--to", tmp_path / f"trials.{suffix}") == 0
    rows = read[suffix](tmp_path / f"trials.{suffix}")
    assert list(rows["trial"]) == [0, 1, 2, 3]
    assert list(rows["state"]) == [t.state for t in record.trials]
    assert list(rows["params/x"]) == [t.params["x"] for t in record.trials]  # to the last digit
    assert list(rows["value"].dropna()) == [t.value for t in record.trials[:2]]
    assert call("export", "--epochs", "--to", tmp_path / f"epochs.{suffix}") == 0
    rows = read[suffix](tmp_path / f"epochs.{suffix}")
    assert list(zip(rows["trial"], rows["epoch"], strict=True)) == [(s, e) for s in (0, 1, 2) for e in (1, 2)]
    assert set(rows["iou/sky"]) == {0.5}
    assert sorted(path.name for path in tmp_path.glob("*.partial")) == []


def test_delete_takes_everything_with_it(
    study_storage: StudyStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = tracking.client()
    ids = {"tiny": "1" * 32, "other": "2" * 32}
    parents = {name: runs.study_run(mlflow, "protocol", name, study_id, {}) for name, study_id in ids.items()}
    nested = [runs.nested_run(mlflow, parent, "trial 0", {}, {}) for parent in parents.values()]
    optuna.create_study(storage=study_storage, study_name="other").set_user_attr("protocol", {})  # as ours have
    for name, study_id in ids.items():
        optuna.load_study(study_name=name, storage=study_storage).set_user_attr("id", study_id)
        study_folders.claim(name, study_id)
    folders = [paths.model_folder("tiny", 0), paths.trial_folder("tiny", 0), paths.model_folder("other", 0)]
    for folder in folders:
        folder.mkdir()
    tiny = worker.study(study_storage, 4)

    dies(tiny, owner=ELSEWHERE)
    assert call("delete", "tiny", "--yes") == 2
    assert f"is being searched by {ELSEWHERE}" in capsys.readouterr().err
    queue.end(tiny, tiny.get_trials()[-1]._trial_id, stopped=True)
    for trial in tiny.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        queue.end(tiny, trial._trial_id, stopped=True)
    assert call("delete", "tiny") == 2
    assert "add --yes" in capsys.readouterr().err

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard("n\n"))
    assert call("delete", "tiny") == 2
    assert "was kept" in capsys.readouterr().err
    assert studies.names(study_storage) == ["other", "tiny"]
    monkeypatch.setattr("sys.stdin", Keyboard("y\n"))
    assert call("delete", "tiny") == 0
    assert studies.names(study_storage) == ["other"]
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert not paths.models_folder("tiny").exists()
    lives = [mlflow.get_run(run).info.lifecycle_stage for run in (*parents.values(), *nested)]
    assert lives == ["deleted", "active", "deleted", "active"]


def test_a_trial_given_up_leaves_no_mlflow_run_running(study_storage: StudyStorage) -> None:
    mlflow, tiny = tracking.client(), optuna.load_study(study_name="tiny", storage=study_storage)
    queue.plan(tiny, worker.SPACE, Search(trials=5, epochs=1, train_images=1, val_images=1), None)
    given_up, going_on = (
        runs.nested_run(mlflow, runs.study_run(mlflow, "protocol", "tiny", "1" * 32, {}), name, {"name": name}, {})
        for name in ("given up", "going on")
    )
    waiting = [attempt for attempt in queue.unfinished(tiny) if attempt.index > 2]
    for attempt, run in zip(waiting, (given_up, going_on), strict=True):
        study_storage.set_trial_user_attr(attempt.id, "run_id", run)
    queue.end(tiny, waiting[0].id, outcome="failed", reason="its process died 3 times")
    lost = queue.claim(tiny, "somebody:1:0")
    assert lost is not None
    queue.end(tiny, lost._trial_id, outcome="failed", reason="its process died 3 times", run_id="0" * 32)
    objective.clean_up_finished(tiny, mlflow)
    assert [mlflow.get_run(run).info.status for run in (given_up, going_on)] == ["FAILED", "RUNNING"]


def test_wrong_words(
    study_storage: StudyStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        ("show", "big"): "no study 'big': the storage holds tiny. Search first",
        ("delete",): "delete needs the name of a study; studies: tiny",
        ("export",): "export needs --to FILE with a suffix of .csv, .parquet, .json",
        ("export", "--to", "trials.xls"): "not trials.xls",
        ("export", "--to", tmp_path / "nowhere" / "t.csv"): "is not a directory; create it",
        ("repair", "--to", "t.csv"): "belong to export",
        ("--study-db", tmp_path / "nothing.db"): "Search first",
    }
    for arguments, message in cases.items():
        assert call(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "nothing.db").exists()


def test_what_is_promoted_is_reported_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_storage = database.connect(paths.studies_database())
    where = "--protocol 'the protocol/fab' --data x --study-db 'a b.db'"
    for name in studies.names(study_storage):
        made = optuna.load_study(study_name=name, storage=study_storage)
        made.set_user_attr("commands", ["python -m segbench.search", f"python -m segbench.promote {where}"])
    assert call() == 0
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said == "next:  python -m segbench.report --protocol 'the protocol/fab' --study-db 'a b.db'"
    (paths.model_folder("fab-beta", 0) / "card.json").unlink()
    assert call() == 0
    assert capsys.readouterr().out.strip().endswith(f"next:  python -m segbench.promote {where}")


def test_a_study_deleted_while_it_is_searched_ends_in_one_line(study_storage: StudyStorage) -> None:
    tiny = worker.study(study_storage, 4)

    def delete(trial: optuna.Trial) -> float:
        optuna.delete_study(study_name="tiny", storage=study_storage)
        return 1.0

    with pytest.raises(UserError, match="study 'tiny' was deleted while it was being searched"):
        studies.run(tiny, delete)
    with pytest.raises(UserError, match="study 'tiny' was deleted"):
        studies.run(tiny, delete)


def test_ctrl_d_keeps_the_study(
    study_storage: StudyStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    for trial in worker.study(study_storage, 4).get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        queue.end(worker.study(study_storage, 4), trial._trial_id, stopped=True)
    monkeypatch.setattr("sys.stdin", Keyboard(""))
    assert call("delete", "tiny") == 2
    assert "study 'tiny' was kept" in capsys.readouterr().err
