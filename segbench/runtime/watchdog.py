"""Runs a command that ends when this process's parent does, however that ends: `python -P watchdog.py COMMAND…`.

The parent holds the other end of our stdin, which the system closes also where the parent is killed. Nothing of
segbench is imported, so that it starts at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

SECONDS_TO_END = 10


def main(command: list[str]) -> int:
    """Returns the command's exit code. It and its children are a process group of their own."""
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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the parent's to obey
        signal.signal(number, lambda number, frame: None)  # unlike SIG_IGN, not inherited by the command
    sys.exit(main(sys.argv[1:]))
