"""The studies' database: SQLite for the workers of one host, PostgreSQL for those of several."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)

from segbench.core import paths, urls
from segbench.core.errors import UserError
from segbench.ledger import optuna_private
from segbench.runtime import terminal

HEARTBEAT_SECONDS = 60
GRACE_SECONDS = 180  # a trial's process counts as dead after so long without a heartbeat

_SECONDS_TO_WAIT_FOR_A_LOCK = 60
_SECONDS_TO_WAIT_FOR_A_SERVER = 60
_SECONDS_TO_CONNECT = 10
_SECONDS_BETWEEN_TRIES = 1
_ADVISORY_LOCK = 0x5E6BE4C4  # any constant that other programs on the database do not use
_MARKS = {"studies", "version_info"}  # tables that every Optuna database has
_READS = "segbench_reads"  # option of a read-only connection

Result = TypeVar("Result")


class StorageUnavailable(UserError):
    """The database can no longer be reached."""


class StudyStorage(RDBStorage):
    """Optuna's storage for many workers: with transactions (see attempts.py), a lock that all processes share, and
    retries after a lost connection."""

    lock_file: Path | None = None  # for SQLite
    patience_seconds = 0.0  # how long to retry after a lost connection; 0 while the database is being opened

    def writing(self, work: Callable[[Connection], Result]) -> Result:
        """Does `work` in one transaction; repeats it if the connection was lost."""

        def transaction() -> Result:
            with self.engine.begin() as connection:
                return work(connection)

        return self._patiently(transaction)

    def reading(self, work: Callable[[Connection], Result]) -> Result:
        """Likewise for work that only reads, from one snapshot; on SQLite it does not wait for writers."""

        def snapshot() -> Result:
            with self.engine.connect().execution_options(**{_READS: True}) as connection:
                return work(connection)

        return self._patiently(snapshot)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Admits one process at a time; a process that dies releases the lock."""
        if self.lock_file:
            with FileLock(self.lock_file):
                yield
            return
        connection = self._patiently(lambda: _advisory_lock(self.engine))
        try:
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError):  # a lost connection has released the lock
                connection.close()

    def seen_silent(self, study_id: int, attempts: Iterable[int]) -> dict[int, float]:
        """How many seconds this process has seen each attempt without heartbeats, by its monotonic clock."""
        now = time.monotonic()
        known = self._silent_since.get(study_id, {})
        since = self._silent_since[study_id] = {attempt: known.get(attempt, now) for attempt in attempts}
        return {attempt: now - first for attempt, first in since.items()}

    @functools.cached_property
    def _silent_since(self) -> dict[int, dict[int, float]]:
        return {}

    def _patiently(self, work: Callable[[], Result]) -> Result:
        deadline = time.monotonic() + self.patience_seconds
        while True:
            try:
                return work()
            except (StorageInternalError, SQLAlchemyError) as error:
                if not self.patience_seconds or not _is_outage(error):
                    raise
                if time.monotonic() > deadline:
                    url = make_url(self.url)
                    raise StorageUnavailable(
                        f"{urls.shown(url)} could not be used for {self.patience_seconds:.0f} s "
                        f"({urls.reason(error, url)}). Rerun the command once it works again; it resumes"
                    ) from None
            time.sleep(_SECONDS_BETWEEN_TRIES)


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def patient(self: StudyStorage, *arguments: Any, **options: Any) -> Any:
        return self._patiently(lambda: method(self, *arguments, **options))

    return patient


for _name in optuna_private.STORAGE_METHODS:
    setattr(StudyStorage, _name, _patient(_name))


def connect(where: str | Path) -> StudyStorage:
    """Opens the database at a path or URL and creates its tables on first use.

    Raises UserError if it cannot be used; a URL's password is never shown.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # the commands report progress themselves
    logging.getLogger("alembic").setLevel(logging.ERROR)
    url = urls.read(where)
    try:
        storage = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
    except ModuleNotFoundError as error:
        raise UserError(f"{urls.shown(url)} needs a driver, {error.name}: pip install 'segbench[postgres]'") from None
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        raise UserError(_unusable(url, urls.reason(error, url))) from None
    except RuntimeError as error:  # Optuna's error for an unknown schema
        raise UserError(f"{urls.shown(url)} was made by another version of Optuna: {error} Or {_advice(url)}") from None
    storage.patience_seconds = _SECONDS_TO_WAIT_FOR_A_SERVER
    return storage


def storage_of(study: optuna.Study) -> StudyStorage:
    """The database of a study."""
    storage = optuna_private.storage(study)
    assert isinstance(storage, StudyStorage)
    return storage


def is_there(where: str | Path) -> bool:
    """False if the SQLite file at a path or URL does not exist; True for a server. Raises UserError for an invalid path
    or URL."""
    url = urls.read(where)
    if url.get_backend_name() != "sqlite":
        return True
    database = Path(str(url.database))
    _require_file(database, "give a file with --study-db")
    return database.exists()


@functools.cache
def warn_of_network(folder: Path, advice: str) -> None:
    """Warns, once, if `folder` is on a network file system, whose locks SQLite cannot rely on."""
    kind = _file_system(folder)
    if _NETWORK.fullmatch(kind):
        terminal.warn(f"{folder} is on a network file system ({kind}), where SQLite can lose data; {advice}")


def _sqlite(url: URL) -> StudyStorage:
    database = Path(str(url.database))
    if not database.parent.is_dir():
        raise UserError(
            f"cannot create {database}: {database.parent} does not exist or is not a directory; create it, or fix "
            "--study-db"
        )
    _require_file(database, "give a file with --study-db")
    warn_of_network(database.parent, "keep the studies in PostgreSQL with --study-db, or move SEGBENCH_STORAGE")
    lock = _lock_file(database)
    with FileLock(lock):  # two concurrent first uses would create the tables twice
        engine = create_engine(url)
        _require_ours(engine, url)
        engine.dispose()
        storage = _storage(url, {"connect_args": {"timeout": _SECONDS_TO_WAIT_FOR_A_LOCK}})
        _make_transactions_atomic(storage.engine)
        with storage.engine.begin():
            pass  # takes the write lock, so that a read-only database fails here
    storage.lock_file = lock
    return storage


def _lock_file(database: Path) -> Path:
    """A name that no other file has, because locking empties the file. Raises UserError if another file has it."""
    lock = database.with_name(f"{database.name}.segbench-lock")
    _require_file(lock, f"move it away: segbench locks {database} with a file of that name")
    if lock.exists() and lock.stat().st_size:
        raise UserError(f"{lock} is not segbench's lock file: it is not empty; move it away")
    return lock


def _require_file(path: Path, advice: str) -> None:
    """Raises UserError for a directory, a device, a pipe and the like."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} cannot be used ({error.strerror}); {advice}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is {'a directory' if stat.S_ISDIR(mode) else 'not a regular file'}; {advice}")


def _make_transactions_atomic(engine: Engine) -> None:
    """Makes SQLite safe for several processes. By default a transaction takes the write lock only at its first write,
    so that two processes could both read "waiting" and claim the same trial."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # sqlite3 must not begin transactions of its own
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        reads = connection.get_execution_options().get(_READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    engine.dispose()  # closes connections opened before these listeners


def _postgresql(url: URL) -> StudyStorage:
    arguments = {"connect_timeout": _SECONDS_TO_CONNECT} if url.drivername == "postgresql+psycopg" else {}
    options = {"pool_pre_ping": True, "connect_args": arguments}
    engine = create_engine(url, **options)
    try:
        with contextlib.closing(_advisory_lock(engine)):  # two concurrent first uses would create the tables twice
            _require_ours(engine, url)
            return _storage(url, options)
    finally:
        engine.dispose()


def _advisory_lock(engine: Engine) -> Connection:
    """A connection that holds the lock until it is closed."""
    connection = engine.connect()
    try:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(engine: Engine, url: URL) -> None:
    """Raises UserError for the database of another program, before tables are created in it."""
    tables = set(inspect(engine).get_table_names())
    foreign = sorted(tables - set(optuna_private.METADATA.tables) - {"alembic_version"})
    if foreign and not tables >= _MARKS:
        some = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        raise UserError(_unusable(url, f"it holds tables of another program: {some}"))


def _storage(url: URL, options: dict[str, Any]) -> StudyStorage:
    template = re.sub(r"([{}])", r"\1\1", url.render_as_string(hide_password=False))  # Optuna fills in {…}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return StudyStorage(template, options, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS)


def _unusable(url: URL, reason: str) -> str:
    return f"{urls.shown(url)} cannot be used as an Optuna database ({reason}); {_advice(url)}"


def _advice(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return "move it away, or set SEGBENCH_STORAGE to another folder"
    return f"fix --study-db or {paths.STUDY_DB_VARIABLE}: it needs a running server and a separate database"


def _is_outage(error: BaseException | None) -> bool:
    while error:
        if isinstance(error, (OperationalError, InterfaceError)):
            return True
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__
    return False


_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|lustre|gpfs|beegfs|ceph|glusterfs|afs|panfs|wekafs|orangefs|davfs|"
    r"fuse\.(sshfs|ceph|glusterfs|s3fs|rclone|gcsfuse|smbnetfs|nfs.*)"
)


def _file_system(folder: Path) -> str:
    """The type of its file system, such as "ext4" or "nfs4"; "" if unknown."""
    import psutil

    path = folder.resolve()
    above = [p for p in psutil.disk_partitions(all=True) if path.is_relative_to(p.mountpoint)]
    return max(above, key=lambda p: len(p.mountpoint)).fstype if above else ""
