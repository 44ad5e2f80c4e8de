"""A real PostgreSQL that the tests start themselves, as an ordinary user, on a free port of this host."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "p@ss:w/{o}rd%"  # needs quoting wherever it is handled carelessly


@dataclass
class Server:
    """A running server."""

    folder: Path
    port: int
    databases: int = field(default=0)

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """Of a database, for SQLAlchemy."""
        return f"postgresql+psycopg://segbench:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        import psycopg

        self.databases += 1
        name = f"db{self.databases}"
        with psycopg.connect(self.url().replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def restart(self) -> None:
        """Cuts all connections, as an administrator's restart does."""
        self.stop()
        self.start()

    def start(self) -> None:
        # No TCP but to this host; no durability: the data are gone with the test anyway.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        _call("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        _call("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server with the user `segbench`, shared by a session's tests. Skips where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'segbench[postgres]'")
    if not _program("initdb"):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not tmp_path: the path of a socket is at most 107 characters
    if _user():
        os.chown(folder, pwd.getpwnam(_user()).pw_uid, -1)
    server = Server(folder, _free_port())
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    try:
        _call(
            *("initdb", "-D", folder / "data", "-U", "segbench", "-A", "scram-sha-256", "-E", "UTF8"),
            *("--no-sync", f"--pwfile={folder / 'password'}"),
        )
        server.start()
        yield server
    finally:
        with contextlib.suppress(RuntimeError):  # it was never started
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _call(program: str, *arguments: object) -> None:
    command = [_program(program), *map(str, arguments)]
    if _user():
        command = ["setpriv", f"--reuid={_user()}", "--clear-groups", *command]
    # The server inherits its output: a pipe would keep us waiting for it.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/")
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{program} failed: {said.read().decode(errors='replace')}")


def _program(name: str) -> str:
    """Debian keeps them off the PATH."""
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(there[-1]) if there else shutil.which(name) or ""


def _user() -> str:
    """Whom to run it as: it refuses root. "" for ourselves."""
    if os.getuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
