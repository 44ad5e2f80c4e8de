"""Which process runs a trial, whether it is still there, and the heartbeat that says so to other hosts."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import threading
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from segbench.ledger.database import StudyStorage

_SECONDS_APART = 2.0  # two processes with the same id start further apart; clocks agree better
_SECONDS_BEFORE_ANOTHER_TRY = 5.0
_FIRST_NAMESPACE = "pid:[4026531836]"  # Linux's own; containers have others


class WorkerId(NamedTuple):
    """A process, told apart from a later one with the same id by its start."""

    host: str
    pid: int
    started: float  # seconds since the host's start: setting its clock does not move them

    @classmethod
    def of(cls, pid: int) -> WorkerId:
        """A process of this host. Raises psutil.NoSuchProcess."""
        return cls(here(), pid, round(psutil.Process(pid).create_time() - psutil.boot_time(), 2))

    @classmethod
    def parse(cls, text: str) -> WorkerId | None:
        """What `str` made; None for anything else."""
        host, pid, started = (["", "", "", *text.rsplit(":", 2)])[-3:]
        try:
            return cls(host, int(pid), float(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started:.2f}"

    @property
    def gone(self) -> bool:
        """Whether it is a process of this host that has ended. Of other hosts nothing is known."""
        if self.host != here():
            return False
        try:
            now = WorkerId.of(self.pid)
            ended = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE  # killed, and its parent has not looked
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False  # it is there, and hides itself
        return ended or abs(now.started - self.started) > _SECONDS_APART


def me() -> WorkerId:
    """This process."""
    return WorkerId.of(os.getpid())


@functools.cache
def here() -> str:
    """This host, as far as process ids mean the same: a container is a host of its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = _FIRST_NAMESPACE
    return platform.node() + ("" if namespace == _FIRST_NAMESPACE else f"/{namespace[5:-1]}")


@contextlib.contextmanager
def heartbeat(storage: StudyStorage, attempt_id: int) -> Iterator[None]:
    """Tells other hosts that the attempt is alive, for as long as the block runs."""
    over = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(storage, attempt_id, over), daemon=True, name=f"heartbeat {attempt_id}"
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_SECONDS_BEFORE_ANOTHER_TRY)


def _beat(storage: StudyStorage, attempt_id: int, over: threading.Event) -> None:
    pause = float(storage.heartbeat_interval or 0)  # the claim was the first beat
    while not over.wait(pause):
        try:
            storage.record_heartbeat(attempt_id)
            pause = float(storage.heartbeat_interval or 0)
        except Exception:  # Optuna's own thread ends at its first error, and with it a trial that is well
            pause = _SECONDS_BEFORE_ANOTHER_TRY
    storage.remove_session()
