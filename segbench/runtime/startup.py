"""Ctrl-C while a command is still being imported: it has nothing to keep, and a traceback helps nobody.

The first of segbench that is imported, so nothing of segbench is imported here.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


def end_at_once_while_importing() -> None:
    """Until `interrupts.noticed`, Ctrl-C ends the process with one line."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """The signal's handler."""
    os.write(2, b"segbench: stopped\n")
    os._exit(128 + number)
