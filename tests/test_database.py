"""The studies' database: what cannot be used is said in one line, without a password; what was lost is waited for."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from segbench import promote, search, study
from segbench.core import urls
from segbench.core.errors import UserError
from segbench.ledger import database, optuna_private, studies, tracking
from segbench.report import __main__ as report
from segbench.runtime import terminal
from tests import worker
from tests.postgres import PASSWORD, Server

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/d", "cannot be used as an Optuna database (connection failed"),
        (f"postgresql+psycopg://u@127.0.0.1:1/d?password={SECRET}", "/d?password=*** cannot be used"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1", "names no database"),
        (f"postgresql+psycopg://u:p@host:{SECRET}/d", "cannot be read"),
        (f"postgresql+psycopg2://u:{SECRET}@127.0.0.1/d", "needs a driver, psycopg2: pip install"),
        (f"postgresql+fast://u:{SECRET}@127.0.0.1/d", "cannot be used"),
        (f"mysql://u:{SECRET}@127.0.0.1/d", "a database of kind 'mysql'"),
        (f"://{SECRET}", "cannot be read"),
        (f"postgresql:/u:{SECRET}@h/d", "cannot be read"),
        (f"postgresql:u:{SECRET}@h/d", "cannot be read"),
        (f"postgresql//u:{SECRET}@h/d", "cannot be read"),
        (f"/u:{SECRET}@h/d", "cannot be read"),
        (f"u:{SECRET}@h/d", "cannot be read"),
        ("/dev/null", "/dev/null is not a regular file; give a file with --study-db"),
        ("/", "/ is a directory; give a file with --study-db"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("nowhere/studies.db", "does not exist or is not a directory"),
    ],
)
def test_bad_databases(where: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        database.connect(where)
    said = str(caught.value)
    assert message in said
    assert SECRET not in said
    assert caught.value.__cause__ is None  # nor does a traceback show it
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("name", "neighbour"), [("mine.lock", "mine.lock"), ("uv.db", "uv.lock")])
def test_a_lock_empties_no_file(tmp_path: Path, name: str, neighbour: str) -> None:
    made = database.connect(tmp_path / "studies.db")
    worker.study(made, 1)
    made.engine.dispose()
    content = (tmp_path / "studies.db").read_bytes()
    for path in {tmp_path / name, tmp_path / neighbour}:
        path.write_bytes(content)
    assert studies.names(database.connect(tmp_path / name)) == ["tiny"]
    assert (tmp_path / neighbour).read_bytes()[:16] == content[:16]


def test_a_file_of_the_locks_name_is_left_as_it_is(tmp_path: Path) -> None:
    lock = tmp_path / "studies.db.segbench-lock"
    lock.write_text("mine")
    with pytest.raises(UserError, match=r"studies\.db\.segbench-lock is not segbench's lock file"):
        database.connect(tmp_path / "studies.db")
    assert lock.read_text() == "mine"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(UserError, match="is a directory; move it away"):
        database.connect(tmp_path / "studies.db")


@pytest.mark.parametrize("where", ["/dev/null", "/", "/dev/null/studies.db"])
def test_special_files_are_refused(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(lambda: study.main(["--study-db", where])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "give a file with --study-db" in line


def test_a_colon_in_a_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert database.connect("./2026-11:studies.db")
    assert (tmp_path / "2026-11:studies.db").is_file()
    (tmp_path / "me:now@home").mkdir()
    assert database.connect(tmp_path / "me:now@home" / "studies.db")


def test_databases_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE albums (title TEXT)")
    with pytest.raises(UserError, match=r"music\.db cannot be used .* another program: albums"):
        database.connect(path)
    assert [name for (name,) in sqlite3.connect(path).execute("SELECT name FROM sqlite_master")] == ["albums"]


def test_postgres_says_what_is_wrong(postgres: Server) -> None:
    for where, message in (
        (postgres.url("nothing"), 'database "nothing" does not exist'),
        (postgres.url(password="wrong" + PASSWORD), "password authentication failed"),
    ):
        with pytest.raises(UserError) as caught:
            database.connect(where)
        assert message in str(caught.value)
        assert PASSWORD not in str(caught.value)
    where = postgres.fresh()
    with database.connect(where).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(UserError, match="another version of Optuna"):
        database.connect(where)


@pytest.mark.parametrize("name", ["SEGBENCH_STUDY_DB", "--study-db"])
def test_every_command_takes_the_database_and_hides_its_password(
    name: str, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    protocol: Path, drawn: Path,
) -> None:  # fmt: skip
    where = f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/d"
    given = ["--study-db", where] if name == "--study-db" else []
    if not given:
        monkeypatch.setenv(name, where)
    for module in (search, promote, report, study):
        data = ["--data", str(drawn)] if module in (search, promote) else []
        named = [] if module is study else ["--protocol", str(protocol)]
        assert terminal.run(lambda m=module, a=[*named, *data, *given]: m.main(a)) == 2  # type: ignore[misc]
        said = "".join(capsys.readouterr())
        assert "postgresql+psycopg://u:***@127.0.0.1:1/d cannot be used" in said
        assert SECRET not in said
        assert len([line for line in said.splitlines() if "error" in line]) == 1


def test_a_password_is_kept_nowhere(postgres: Server) -> None:
    where = postgres.fresh()
    storage = database.connect(where)
    studies.run(worker.study(storage, 2), worker.objective)
    assert PASSWORD not in urls.shown(where)
    with storage.engine.begin() as connection:
        for table in optuna_private.METADATA.tables:
            assert PASSWORD not in str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())


def test_a_restarted_server_loses_no_trial(postgres: Server) -> None:
    storage = database.connect(postgres.fresh())
    tiny = worker.study(storage, 2)

    def objective(trial: optuna.Trial) -> float:
        postgres.restart()
        trial.set_user_attr("after", "restart")
        return 0.5

    studies.run(tiny, objective)
    assert [(t.state, t.user_attrs["after"]) for t in tiny.get_trials()] == [(TrialState.COMPLETE, "restart")] * 2


def test_a_server_that_stays_away_ends_the_search_in_one_line(postgres: Server) -> None:
    storage = database.connect(postgres.fresh())
    storage.patience_seconds = 0.1
    tiny = worker.study(storage, 1)
    postgres.stop()
    try:
        with pytest.raises(
            database.StorageUnavailable, match=r"\*\*\*@127.0.0.1.* could not be used for 0 s \(.*Rerun"
        ) as caught:
            studies.run(tiny, worker.objective)
        assert PASSWORD not in str(caught.value)
    finally:
        postgres.start()
    studies.run(tiny, worker.objective)
    assert [t.state for t in tiny.get_trials()] == [TrialState.COMPLETE]


def test_network_file_systems_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("far", "far/near"):
        (tmp_path / name).mkdir()
    kinds = {"/": "ext4", str(tmp_path / "far"): "nfs4", str(tmp_path / "far/near"): "tmpfs"}
    mounts = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in kinds.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    for _ in range(2):
        database.connect(tmp_path / "far" / "studies.db")
    said = capsys.readouterr().err
    assert "far is on a network file system (nfs4)" in said
    assert "--study-db" in said
    assert len(said.splitlines()) == 1
    database.connect(tmp_path / "studies.db")
    database.connect(tmp_path / "far" / "near" / "studies.db")
    assert capsys.readouterr().err == ""


def test_mlflow_database_is_made_for_several_processes(storage: Path) -> None:
    tracking.client()
    with sqlite3.connect(storage / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
