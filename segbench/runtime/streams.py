"""Prepares standard input and output, whatever the command was started with."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import unicodedata
from codecs import register_error

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by file descriptor
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


def prepare() -> None:
    """Opens streams that were closed at the start, and lets the others print any text.

    A closed descriptor would be reused by the next opened file, perhaps a database, into which a library's `print`
    would then write. A terminal that is not UTF-8 shows the nearest characters it has.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            _open_nothing(descriptor)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # notebooks and tests have other streams
        if reconfigure:
            reconfigure(errors="segbench.nearest")


def abandon_output() -> None:
    """Discards the unwritten output of stdout: Python would try to write it again, and complain, when it exits."""
    with contextlib.suppress(OSError, ValueError):
        discarded = os.open(os.devnull, os.O_WRONLY)
        os.dup2(discarded, sys.stdout.fileno())
        os.close(discarded)


def printable(text: str) -> str:
    """The text with control characters, which could move the cursor or set colours, written as \\x1b."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _open_nothing(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """For codecs.register_error: é -> e, … -> ..., ☺ -> ?; an undecodable byte of a file name -> ?."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = "".join(_AS_ASCII.get(c) or unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?"
                    for c in text)  # fmt: skip
    return plain, error.end


_AS_ASCII = {"×": "x", "–": "-", "—": "-", "·": "-", "→": "->", "±": "+-", "“": '"', "”": '"', "’": "'", "≤": "<="}
register_error("segbench.nearest", _nearest)
