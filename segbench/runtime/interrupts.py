"""Stopping: the first Ctrl-C or SIGTERM lets the epoch end and be kept, the second stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from segbench.runtime import process_group, startup

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MESSAGE = b"\nsegbench: stopping after this epoch; press Ctrl-C again to stop at once\n"
_asked: int | None = None  # the first signal


class CtrlC:
    """Whether Ctrl-C was pressed."""

    pressed = False


@contextlib.contextmanager
def noticed() -> Iterator[CtrlC]:
    """Inside, Ctrl-C raises KeyboardInterrupt, as ever, and is remembered: extension modules that are interrupted while
    they are imported end in an ImportError or a SystemError."""
    seen = CtrlC()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, startup.end_at_once):
        yield seen
        return

    def handle(number: int, frame: FrameType | None) -> None:
        seen.pressed = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def graceful(message: bytes = _MESSAGE) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM only says `message` and makes `requested` true; the second raises
    KeyboardInterrupt.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """
    global _asked
    _asked = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _asked
        if _asked is not None:
            raise KeyboardInterrupt(number)
        _asked = number
        if process_group.is_main():
            os.write(2, message)  # print could be in the middle of another print

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = None


def requested() -> bool:
    """Whether to stop at the next moment from which the same command can go on."""
    return _asked is not None


def agreed() -> bool:
    """Whether any process of the group was asked to stop. They must all ask, at the same moment."""
    return any(process_group.gather(requested()))


def interrupt() -> KeyboardInterrupt:
    """What ends the command when all is kept; `terminal.run` makes it exit as the first signal would have."""
    return KeyboardInterrupt(_asked or signal.SIGINT)
