"""Pages served to this machine alone: the options of the commands that serve one, their port, process and browser."""

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

HOST = "127.0.0.1"  # neither page asks who is there
_SECONDS_TO_START = 120
_WATCHDOG = Path(watchdog.__file__)


def parser(description: str | None, port: int) -> argparse.ArgumentParser:
    """For a command that serves a page."""
    made = terminal.parser(description)
    made.add_argument("--port", type=int, default=port, metavar="N", help=f"0 takes any that is free; default: {port}")
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    return made


def free_port(asked: int) -> int:
    """The port, or any where 0 is asked. Raises UserError where it cannot be had."""
    if not 0 <= asked < 65536:
        raise UserError(f"--port is {asked}: expected 0 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, asked))
        except OSError as error:
            raise UserError(f"port {asked} cannot be used ({error.strerror}); give another with --port") from None
        return int(probe.getsockname()[1])


def announce(what: str, address: str, browse: bool) -> None:
    """Says where the page is, once it is there; with --quiet too, since it is the result."""
    print(f"{what}: {address}", flush=True)
    terminal.say("for this machine only; Ctrl-C ends it")
    if browse:
        webbrowser.open(address)


@contextlib.contextmanager
def process(command: Sequence[str], environment: Mapping[str, str], probe: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of its own, once it answers at the address `probe`; it ends, with its children, when this process does,
    also where that is killed.

    Raises UserError where it does not start.
    """
    with starting(command, environment, probe) as (own, wait):
        wait()
        yield own


@contextlib.contextmanager
def starting(
    command: Sequence[str], environment: Mapping[str, str], probe: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """As `process`, but at once: yields also what waits until the server answers, and raises UserError where it does
    not."""
    with tempfile.TemporaryFile() as said:
        own = subprocess.Popen(
            [sys.executable, "-P", str(_WATCHDOG), *command],
            env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield own, lambda: _wait(own, probe, said)
        finally:
            signal.signal(signal.SIGTERM, before)
            _end(own)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


def _wait(own: subprocess.Popen[bytes], probe: str, said: IO[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while own.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(probe, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    said.seek(0)
    last = said.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise UserError(f"the server did not start: {last[0]}")


def _end(own: subprocess.Popen[bytes]) -> None:
    assert own.stdin is not None
    own.stdin.close()  # as the system does where this process is killed
    own.wait(3 * watchdog.SECONDS_TO_END)
