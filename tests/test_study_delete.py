"""Deleting a study: all that is its own, and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segbench.core import names, paths, protocol
from segbench.core.errors import UserError
from segbench.ledger import database, runs, studies, tracking
from segbench.ledger.database import StudyStorage
from tests.test_study import call

HOSTILE = [
    "..",
    ".",
    "a/b",
    "../../x",
    "[/] x",
    'O\'Hara "x"',
    "seed[0-9]*",
    "-rf",
    "\x1b[31mred",
    "tab\there",
    "ü" * 200,
]


def searched(storage: StudyStorage, folder: Path, name: str = "deeplab") -> optuna.Study:
    """A study of the protocol in `folder`, opened as a search opens it, with its folders and an MLflow run each."""
    asked = protocol.load(folder)
    study = studies.open_study(storage, asked, protocol.load_architecture(folder, name), "data", "subset")
    run = runs.study_run(tracking.client(), asked.name, study.study_name, studies.id_of(study), {})
    tracking.client().log_text(run, "x", "x.txt")
    for kept in (paths.trial_folder(study.study_name, 0), paths.model_folder(study.study_name, 0)):
        kept.mkdir(parents=True)
        (kept / "best.safetensors").write_text("weights")
    return study


def everything(root: Path) -> set[str]:
    """What lies below, but for the databases and what serves their locks."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(("studies.", "mlflow.", "other."))
    }


def test_delete_of_planted_studies_removes_nothing_else(
    storage: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_storage = database.connect(paths.studies_database())
    searched(study_storage, protocol)
    (storage / "artifacts" / "mine").write_text("mine")
    (storage.parent / "x").mkdir()
    (storage.parent / "x" / "seed0").write_text("mine")
    before = everything(storage.parent)
    for name in HOSTILE:
        planted = optuna.create_study(storage=study_storage, study_name=name)
        planted.set_user_attr("id", "../..")
        planted.add_trial(optuna.trial.create_trial(value=1.0, system_attrs={"artifacts:../mine": "{}"}))
        for arguments, code in (((), 0), (("show", "--", name), 2), (("delete", "--yes", "--", name), 0)):
            assert call(*arguments) == code, arguments
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert studies.names(study_storage) == ["small-deeplab"]
    assert everything(storage.parent) == before
    assert len(active_runs()) == 1


def active_runs() -> list[str]:
    client = tracking.client()
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.run_id for run in client.search_runs(everywhere)]


def test_delete_leaves_what_is_not_the_studys(
    storage: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_storage = database.connect(paths.studies_database())
    searched(study_storage, protocol)
    models_folder, elsewhere = paths.models_folder("small-deeplab"), storage.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    (models_folder / "notes.txt").write_text("mine")
    (models_folder / "seed7").symlink_to(elsewhere)
    (paths.models() / "small-deeplab2").mkdir()
    assert call("delete", "small-deeplab", "--yes") == 0
    assert f"kept {models_folder}: it holds files that are not this study's" in capsys.readouterr().out
    assert [path.name for path in models_folder.iterdir()] == ["notes.txt"]
    assert (elsewhere / "mine").is_file()
    assert (paths.models() / "small-deeplab2").is_dir()
    assert not paths.trials_folder("small-deeplab").exists()
    assert active_runs() == []
    assert not list((storage / "artifacts" / "mlflow").glob("*"))  # MLflow alone would keep its files
    searched(study_storage, protocol)  # what was left does not keep a new study from being made
    assert (models_folder / "notes.txt").is_file()


@pytest.mark.parametrize("copied", [False, True])
def test_delete_in_another_database_leaves_the_study_of_that_name(copied: bool, storage: Path, protocol: Path) -> None:
    own = database.connect(paths.studies_database())
    searched(own, protocol)
    before = everything(storage)
    other = storage / "other.db"
    if copied:
        with sqlite3.connect(storage / "studies.db") as source, sqlite3.connect(other) as target:
            source.backup(target)
    else:
        made = optuna.create_study(storage=database.connect(other), study_name="small-deeplab")
        made.set_user_attr("id", "0" * 32)
    assert call("delete", "small-deeplab", "--yes", "--study-db", other) == 0
    assert studies.names(database.connect(other)) == []
    assert studies.names(own) == ["small-deeplab"]
    assert everything(storage) == before
    assert len(active_runs()) == 1


def test_a_study_does_not_take_the_folders_of_another(storage: Path, protocol: Path) -> None:
    searched(database.connect(paths.studies_database()), protocol)
    with pytest.raises(UserError, match="belongs to another study named 'small-deeplab'"):
        searched(database.connect(storage / "other.db"), protocol)


def test_delete_waits_for_no_promotion_and_ends_none(
    storage: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(database.connect(paths.studies_database()), protocol)
    partial = paths.model_folder("small-deeplab", 0).with_suffix(".partial")
    partial.mkdir()
    before = everything(storage)
    with FileLock(paths.model_folder("small-deeplab", 0).with_suffix(".lock")):
        assert call("delete", "small-deeplab", "--yes") == 2
        assert "'small-deeplab', seed0, is being promoted by another process" in capsys.readouterr().err
        assert everything(storage) - before <= {"models/small-deeplab/seed0.lock"}
    assert call("delete", "small-deeplab", "--yes") == 0
    assert not paths.models_folder("small-deeplab").exists()


NAMES = st.text(min_size=1, max_size=40) | st.sampled_from(HOSTILE)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES)
def test_any_name_is_refused_or_works(name: str, storage: Path, protocol: Path, tmp_path: Path) -> None:
    """As a protocol's, and as that of a study which another program has put into the database."""
    study_storage = database.connect(paths.studies_database())
    refused = names.refusal(name)
    folder = tmp_path / "protocols" / name
    if refused:
        with pytest.raises(UserError) as error:
            names.part(name, "protocol")
        assert len(str(error.value).splitlines()) == 1
        try:
            optuna.create_study(storage=study_storage, study_name=name, load_if_exists=True)
        except (UnicodeError, ValueError):  # PostgreSQL and SQLite themselves take no such text
            return
    else:
        folder.parent.mkdir(exist_ok=True)
        shutil.copytree(protocol, folder, dirs_exist_ok=True)
        searched(study_storage, folder)
    study_name = name if refused else f"{name}-deeplab"
    code = 2 if refused else 0  # of another program's study there is nothing to show
    assert call() == code
    for action, *options in (("show",), ("export", "--to", tmp_path / "t.csv")):
        assert call(action, *options, "--", study_name) == code, (action, study_name)
    assert call("delete", "--yes", "--", study_name) == 0, study_name
    assert studies.names(study_storage) == []
    assert not everything(storage)
