"""Opens MLflow's database, creates it safely on first use, and retries while it is unavailable."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock

from segbench.core import files, paths
from segbench.core.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SECONDS_TO_WAIT_FOR_A_LOCK = 60
_SECONDS_TO_WAIT = 60  # for a database that is locked, or whose disk is full
_SECONDS_BETWEEN_TRIES = 1
OUTAGE = "TEMPORARILY_UNAVAILABLE"  # MLflow's code for an error of its database
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def client() -> MlflowClient:
    """A client of the server or database in MLFLOW_TRACKING_URI, else of `storage/mlflow.db`.

    Raises UserError if the database cannot be used.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which would write to the home folder
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the commands show progress themselves
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a server's address, once a trial
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors that they log are also raised
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return _client_of(mlflow, given) if given else _own_client(mlflow)


def _client_of(mlflow: ModuleType, uri: str) -> MlflowClient:
    try:
        client: MlflowClient = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
        return client
    except Exception as error:  # as below
        reason = "" if type(error).__name__.startswith("Unsupported") else f" ({_reason(error, uri)})"
        raise UserError(
            f"MLFLOW_TRACKING_URI={shown(uri)} cannot be used{reason}; expected the address of a running MLflow "
            "server, such as http://HOST:5000, or unset it to keep runs in the storage folder"
        ) from None


def _own_client(mlflow: ModuleType) -> MlflowClient:
    from segbench.ledger import database

    file = paths.tracking_database()
    database.warn_of_network(file.parent, "name a server with MLFLOW_TRACKING_URI, or move SEGBENCH_STORAGE")
    try:
        # Two concurrent first uses would corrupt the database permanently.
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                _make(mlflow, file)
            client: MlflowClient = mlflow.MlflowClient(f"sqlite:///{file.resolve()}")
            client.search_experiments(max_results=1)
            with contextlib.closing(sqlite3.connect(file, timeout=_SECONDS_TO_WAIT_FOR_A_LOCK)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # the file keeps it; MLflow itself waits for locks
        return client
    except Exception as error:  # SQLAlchemy's, Alembic's and MLflow's errors share no narrower class
        reason = _reason(error, "")
        advice = "move it away, or set SEGBENCH_STORAGE to another folder"
        raise UserError(f"{file} cannot be used as an MLflow database ({reason}); {advice}") from error


def is_there() -> bool:
    """Whether MLflow's database exists: `client` would create an empty one."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or paths.tracking_database().is_file()


def shown(uri: str) -> str:
    """An MLflow address that may be printed: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(uri)
    if parts.scheme and not parts.netloc and not parts.path.startswith("/"):
        return f"{parts.scheme}:…"  # its parts cannot be told apart
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rpartition("@")[2], "", ""))


def literal(text: str) -> str:
    """A quoted value for MLflow's filters, whose language has no escapes. Raises UserError for a text with both kinds
    of quotes."""
    mark = next((mark for mark in ("'", '"') if mark not in text), None)
    if mark is None:
        raise UserError(f"MLflow cannot search for {text!r}, which holds both kinds of quotes; rename it")
    return f"{mark}{text}{mark}"


def local_artifacts(artifact_uri: str) -> Path | None:
    """The folder of a run's artifacts, if it is on this machine, else None."""
    parts = urlsplit(artifact_uri)
    return Path(unquote(parts.path)) if parts.scheme in ("file", "") and not parts.netloc else None


def _reason(error: Exception, uri: str) -> str:
    """The error's first line without the secrets in `uri`."""
    words = next(iter(str(error).strip().splitlines()), type(error).__name__)
    parts = urlsplit(uri)
    users = [part.rpartition("@")[0].strip("/") for part in (parts.netloc, parts.path)]
    passwords = [user.partition(":")[2] for user in users]
    for secret in (uri, *users, *passwords, parts.query, parts.fragment):
        words = words.replace(secret, "…") if secret else words
    return words


def patient(work: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
    """Repeats `work` while MLflow's database is unavailable. `work` must be idempotent."""

    @functools.wraps(work)
    def patient(*arguments: _Given.args, **options: _Given.kwargs) -> _Made:
        from mlflow.exceptions import MlflowException

        deadline = time.monotonic() + _SECONDS_TO_WAIT
        while True:
            try:
                return work(*arguments, **options)
            except MlflowException as error:
                if error.error_code != OUTAGE:
                    raise
                if time.monotonic() > deadline:
                    reason = next(iter(str(error).strip().splitlines()), "")
                    raise UserError(
                        f"MLflow's database{_its_place()} could not be used for {_SECONDS_TO_WAIT:.0f} s ({reason}). "
                        "Rerun the command once it works again; it resumes"
                    ) from None
            time.sleep(_SECONDS_BETWEEN_TRIES)

    return patient


def _its_place() -> str:
    return "" if os.environ.get("MLFLOW_TRACKING_URI") else f" {paths.tracking_database()}"


def _make(mlflow: ModuleType, file: Path) -> None:
    """Creates the database under a temporary name: MLflow creates its tables in many steps and cannot resume if it is
    killed between two."""
    for leftover in file.parent.glob(f"{file.name}{files.UNFINISHED}*"):
        leftover.unlink()
    with files.replaced(file) as partial:
        mlflow.MlflowClient(f"sqlite:///{partial.resolve()}").search_experiments(max_results=1)
