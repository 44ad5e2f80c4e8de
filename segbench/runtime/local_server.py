"""Serves pages to this machine only: the options, port, server process and browser of such commands."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from segbench.core.errors import UserError
from segbench.runtime import terminal, watchdog

HOST = "127.0.0.1"  # the served pages have no login
_SECONDS_TO_START = 120
_WATCHDOG = Path(watchdog.__file__)


def parser(description: str | None, port: int) -> argparse.ArgumentParser:
    """The argument parser of a command that serves a page; `port` is the default."""
    result = terminal.parser(description)
    result.add_argument("--port", type=int, default=port, metavar="N", help=f"0: any free port; default: {port}")
    result.add_argument("--open", action="store_true", help="open the page in the browser")
    return result


def free_port(port: int) -> int:
    """`port`, or any free port for 0. Raises UserError if it cannot be used."""
    if not 0 <= port < 65536:
        raise UserError(f"--port is {port}: expected 0 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error.strerror}); give another with --port") from None
        return int(probe.getsockname()[1])


def announce(what: str, address: str, browse: bool, reach: str = "") -> None:
    """Prints the page's address once it is served, also with --quiet, since it is the result. `reach`: who else can use
    it; "" if nobody on another machine can."""
    print(f"{what}: {address}", flush=True)
    if reach:
        terminal.banner(reach)
    else:
        terminal.say("for this machine only; Ctrl-C ends it")
    if browse:
        webbrowser.open(address)


@contextlib.contextmanager
def process(command: Sequence[str], environment: Mapping[str, str], probe: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a server and yields its process once it answers at the address `probe`. The server and its children end
    with this process, even if it is killed.

    Raises UserError if the server does not start.
    """
    with starting(command, environment, probe) as (server, wait):
        wait()
        yield server


@contextlib.contextmanager
def starting(
    command: Sequence[str], environment: Mapping[str, str], probe: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """As `process`, but at once: also yields what waits for the server and raises UserError if it does not answer."""
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            [sys.executable, "-P", str(_WATCHDOG), *command],
            env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield server, lambda: _wait(server, probe, output)
        finally:
            signal.signal(signal.SIGTERM, before)
            _end(server)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


def _wait(server: subprocess.Popen[bytes], probe: str, output: IO[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(probe, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    output.seek(0)
    last = output.read().decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    raise UserError(f"the server did not start: {last[0]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()  # as the system does if this process is killed
    server.wait(3 * watchdog.SECONDS_TO_END)
