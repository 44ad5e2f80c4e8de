"""Worker processes, for work that holds Python's lock."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

_LOOK_AGAIN = 0.5  # seconds


@contextlib.contextmanager
def pool(workers: int, temporary: Path | None = None) -> Iterator[Executor]:
    """A pool of worker processes. They leave Ctrl-C to this process, and end with it even if it is killed; the folder
    `temporary` is removed then. An error inside the `with` ends them at once.

    It is loky's: the standard library's imports the caller's script in each process, which fails for a script without
    `if __name__ == "__main__"`.
    """
    import loky  # slow to import, and most commands need none

    executor = loky.ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(), temporary))
    try:
        yield executor
    except BaseException:
        executor.shutdown(kill_workers=True)
        raise
    executor.shutdown()


def _begin(parent: int, temporary: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent, temporary), daemon=True).start()


def _end_with(parent: int, temporary: Path | None) -> None:
    while os.getppid() == parent:  # afterwards it is whoever adopts orphans
        time.sleep(_LOOK_AGAIN)
    while temporary and temporary.exists():  # the other workers may still write
        shutil.rmtree(temporary, ignore_errors=True)
    os._exit(1)
