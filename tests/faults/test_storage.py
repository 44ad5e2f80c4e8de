"""Storage that fails: a full disk, a read-only one, a locked database, a database server that restarts."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.command import Instant
from tests.faults.harness import Found, Place, assert_whole
from tests.postgres import Server

pytestmark = pytest.mark.slow  # whole searches and promotions in processes of their own

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk and becoming somebody else needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


FULL = {  # where a search or a promotion is when its disk fills up
    "search": [Instant("segbench.ledger.runs", "study_run"), Instant("segbench.ledger.runs", "log_epoch", 2)],
    "promote": [Instant("segbench.engine.checkpoint", "save", 2)],
}
FULLER = {
    "search": [
        Instant("segbench.ledger.studies", "open_study"),
        Instant("segbench.ledger.runs", "nested_run"),
        Instant("segbench.engine.training", "fit"),
        Instant("segbench.engine.checkpoint", "write", 2),
        Instant("optuna.study", "Study.tell", 2),
    ],
    "promote": [
        Instant("segbench.experiment.promotion", "open_mlflow"),
        Instant("segbench.ledger.runs", "log_epoch", 2),
        Instant("segbench.ledger.models", "write_card"),
    ],
}


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("instants", [FULL, FULLER], ids=["some", "all"])
def test_a_full_disk(
    instants: dict[str, list[Instant]], place: Place, small_disk: Path, searched: Found, promoted: Found
) -> None:
    storage = Path(shutil.copytree(place.storage, small_disk / "storage"))
    here = Place(storage, place.where)
    here.said = place.said
    ballast = small_disk / "ballast"
    for command, reference in (("search", searched), ("promote", promoted)):
        for instant in instants[command]:
            code = here.run(command, instant._replace(what=f"fill {ballast}"), patience=1)
            said, full = here.output(), ballast.exists()
            ballast.unlink(missing_ok=True)
            assert full, instant
            errors = [line for line in said.splitlines() if "error" in line]
            assert "Traceback" not in said, (instant, said)
            assert (code, len(errors)) in ((2, 1), (0, 0)), (instant, said)
            assert all("full" in line or "No space left" in line for line in errors), (instant, said)
            assert all("again" in line or "rerun" in line for line in errors), (instant, said)
        code, said = here.run(command), here.output()
        assert (code, "warning" in said) == (0, False), said
        assert_whole(here, reference)


@needs_root
@pytest.mark.parametrize("what", ["", "studies.db", "mlflow.db"])
def test_storage_that_cannot_be_written(what: str, place: Place) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    assert place.study_storage
    with tempfile.TemporaryDirectory() as parent:  # not tmp_path: others cannot enter that
        Path(parent).chmod(0o755)
        here = Place(Path(shutil.copytree(place.storage, Path(parent) / "storage")), place.where)
        here.said.touch(0o666)
        for path in (here.storage, *here.storage.rglob("*")):
            os.chown(path, nobody, -1)
        protected = here.storage / what
        os.chown(protected, 0, 0)
        protected.chmod(0o755 if protected.is_dir() else 0o444)
        shutil.copytree(place.where[2], asked := Path(parent) / "small")
        shutil.copytree(place.where[4], data := Path(parent) / "data")
        here.where = ["deeplab", "--protocol", str(asked), "--data", str(data)]
        code, said = here.run("search", user=nobody, patience=1), here.output()
        assert (code, "Traceback" in said) == (2, False), said
        (line,) = [line for line in said.splitlines() if "error" in line]
        assert str(protected) in line


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("seconds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_databases_locked_by_others(seconds: float, place: Place, searched: Found) -> None:
    search = place.start("search", events=str(place.events))
    for name in ("studies.db", "mlflow.db"):
        epochs = place.events.read_text().count("epoch") if place.events.exists() else 0
        place.wait_for("epoch", epochs + 1)
        with locked(place.storage / name):
            time.sleep(seconds)
    search.join(200)
    assert search.exitcode == 0, place.output()
    assert_whole(place, searched)


@pytest.mark.slow
def test_a_server_restarted_under_a_search(place: Place, postgres: Server, searched: Found) -> None:
    far = Place(place.storage, place.where, study_db=postgres.fresh())
    search = far.start("search", events=str(far.events))
    for epochs in (1, 3):
        far.wait_for("epoch", epochs)
        postgres.restart()
    search.join(200)
    assert search.exitcode == 0, far.output()
    assert_whole(far, searched)
