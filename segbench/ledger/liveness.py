"""Which process runs a trial, whether it is alive, and the heartbeat that tells other hosts so."""

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

_SECONDS_APART = 2.0  # two processes with the same id start further apart; two readings of a start agree better
_SECONDS_BEFORE_ANOTHER_TRY = 5.0
_FIRST_NAMESPACE = "pid:[4026531836]"  # Linux's own; containers have others


class WorkerId(NamedTuple):
    """A process; its start distinguishes it from a later process with the same id."""

    host: str
    pid: int
    started: float  # seconds since the host's boot: setting the clock does not change it

    @classmethod
    def of(cls, pid: int) -> WorkerId:
        """The id of a process of this host. Raises psutil.NoSuchProcess."""
        return cls(here(), pid, round(psutil.Process(pid).create_time() - psutil.boot_time(), 2))

    @classmethod
    def parse(cls, text: str) -> WorkerId | None:
        """Parses the result of `str`; None for any other text."""
        host, pid, started = (["", "", "", *text.rsplit(":", 2)])[-3:]
        try:
            return cls(host, int(pid), float(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started:.2f}"

    @property
    def gone(self) -> bool:
        """Whether it is a process of this host that has ended; False for processes of other hosts."""
        if self.host != here():
            return False
        try:
            now = WorkerId.of(self.pid)
            ended = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE  # killed, but not reaped by its parent
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False  # it exists, but this user may not inspect it
        return ended or abs(now.started - self.started) > _SECONDS_APART


def me() -> WorkerId:
    """This process."""
    return WorkerId.of(os.getpid())


@functools.cache
def here() -> str:
    """This host, as far as process ids mean the same: a container counts as a separate host."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = _FIRST_NAMESPACE
    return platform.node() + ("" if namespace == _FIRST_NAMESPACE else f"/{namespace[5:-1]}")


@contextlib.contextmanager
def heartbeat(storage: StudyStorage, attempt_id: int) -> Iterator[None]:
    """Tells other hosts that the attempt is alive, while the block runs."""
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
        except Exception:  # Optuna's own thread would end at its first error, and a healthy trial would count as dead
            pause = _SECONDS_BEFORE_ANOTHER_TRY
    storage.remove_session()
