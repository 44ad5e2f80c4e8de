"""Handles Ctrl-C while a command is still being imported: there is nothing to save, and a traceback helps nobody.

This module is imported first, so it imports nothing of segbench.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


def end_at_once_while_importing() -> None:
    """Makes Ctrl-C end the process with one line, until `interrupts.noticed`."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """The signal handler."""
    os.write(2, b"segbench: stopped\n")
    os._exit(128 + number)
