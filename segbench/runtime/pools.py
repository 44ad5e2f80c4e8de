"""Pools of processes, for work that holds Python's lock, and of threads. An error inside the `with` ends their work."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from pathlib import Path

from segbench.core.errors import UserError

_LOOK_AGAIN = 0.5  # seconds
# glibc keeps freed memory, up to 256 MB: fetching it from the system again for each image takes a seventh of packing.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 28)}


@contextlib.contextmanager
def processes(number: int, temporary: Path | None = None) -> Iterator[Executor]:
    """They leave Ctrl-C to this process, and end with it even if it is killed; the folder `temporary` is removed then.
    Raises UserError if one was killed.

    The pool is loky's: the standard library's imports the caller's script in each process, which fails for a script
    without `if __name__ == "__main__"`. Where loky is not installed, as on a machine that only measures a GPU
    (benchmarks/gpu.py), there are threads instead.
    """
    try:
        import loky  # slow to import, and most commands need none
    except ImportError:
        with threads(number) as executor:
            yield executor
        return
    pool = loky.ProcessPoolExecutor(number, initializer=_begin, initargs=(os.getpid(), temporary), env=_KEEP_MEMORY)
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(kill_workers=True)
        if isinstance(error, BrokenExecutor):
            raise UserError(
                "a worker process was killed, perhaps because the memory did not suffice; run the same command again, "
                "with fewer other programs beside it"
            ) from error
        raise
    pool.shutdown()


@contextlib.contextmanager
def threads(number: int) -> Iterator[Executor]:
    """After an error, what has begun is finished, and no more is begun."""
    executor = ThreadPoolExecutor(number)
    try:
        yield executor
    except BaseException:
        executor.shutdown(cancel_futures=True)
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
