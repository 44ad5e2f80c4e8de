"""Runs a command that ends when this process's parent ends, however that happens: `python -P watchdog.py COMMAND…`.

The parent holds the other end of this process's stdin, which the system closes even if the parent is killed. Nothing of
segbench is imported, for a fast start.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

SECONDS_TO_END = 10


def main(command: list[str]) -> int:
    """Runs the command in a process group of its own, and returns its exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_parent, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_parent(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the parent handles these
        signal.signal(number, lambda number, frame: None)  # unlike SIG_IGN, not inherited by the command
    sys.exit(main(sys.argv[1:]))
