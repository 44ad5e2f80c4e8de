"""The fake model of `benchmarks.serving` behind other engines that batch, where they are installed.

pip install mosec litserve
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

FIRST, EACH, LARGEST = 0.05, 0.01, 8  # seconds of the fake model's forward pass: 50 ms and 10 ms an image
WAIT = 0.01  # seconds that an engine waits for company: a fifth of the forward pass of one image
ROUTE = "/inference"
ENGINES = ("mosec", "litserve")


def installed() -> list[str]:
    """Those that can be compared with on this machine."""
    return [name for name in ENGINES if importlib.util.find_spec(name)]


@contextlib.contextmanager
def serving(engine: str) -> Iterator[int]:
    """Runs an engine in processes of its own. Yields its port once its workers have started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", f"benchmarks.sleeper_{engine}", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(engine, port)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait(engine: str, port: int) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(5)  # its workers connect after its socket listens
            return
        time.sleep(0.2)
    raise RuntimeError(f"{engine} does not answer on port {port}")
