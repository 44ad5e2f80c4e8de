"""Interrupts: after the first Ctrl-C or SIGTERM the epoch ends and is saved, the second stops at once."""

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
    """Inside, Ctrl-C raises KeyboardInterrupt as usual and sets `pressed`: an extension module that is interrupted
    while it is imported raises an ImportError or a SystemError instead."""
    ctrl_c = CtrlC()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, startup.end_at_once):
        yield ctrl_c
        return

    def handle(number: int, frame: FrameType | None) -> None:
        ctrl_c.pressed = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield ctrl_c
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def graceful(message: bytes = _MESSAGE) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM only prints `message` and makes `requested` true; the second raises
    KeyboardInterrupt.

    Does nothing outside the main thread, where Python allows no handlers.
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
            os.write(2, message)  # the signal may have interrupted a print

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = None


def requested() -> bool:
    """Whether to stop at the next moment from which a rerun can resume."""
    return _asked is not None


def agreed() -> bool:
    """Whether any process of the group was asked to stop. All processes must call it together."""
    return any(process_group.gather(requested()))


def interrupt() -> KeyboardInterrupt:
    """The exception that ends the command once everything is saved; `terminal.run` exits with the first signal's
    code."""
    return KeyboardInterrupt(_asked or signal.SIGINT)
