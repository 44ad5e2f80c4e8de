"""The fake model of `benchmarks.serving` behind mosec, another engine that batches, where it is installed.

pip install mosec
python -m benchmarks.peer 8123
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
ROUTE = "/inference"


def installed() -> bool:
    """Whether it can be compared with on this machine."""
    return importlib.util.find_spec("mosec") is not None


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """Runs it in processes of its own. Yields its port once its workers have started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.sleeper", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(port)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait(port: int) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(2)  # its workers connect after its socket listens
            return
        time.sleep(0.2)
    raise RuntimeError(f"mosec does not answer on port {port}")
