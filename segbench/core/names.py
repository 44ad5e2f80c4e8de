"""The rule for names that become folders, files, tags and parts of commands: protocols, architectures, studies, parts
of a scene's name."""

from __future__ import annotations

import re

from segbench.core.errors import UserError

LONGEST = 120  # bytes in UTF-8: file systems allow 255 for a name, and some names get suffixes

_PART = re.compile(r"[\w.-]+(@[\w.-]+)?")


def part(name: str, what: str) -> str:
    """`name`, if it is a single path component that needs no quoting anywhere.

    It consists of letters, digits, `_`, `.` and `-`, with one `@` before the name of a variant at most, does not begin
    with `.` or `-`, and has at most LONGEST bytes.
    `what` says what is named, such as "protocol". Raises UserError for any other name.
    """
    problem = refusal(name)
    if problem:
        raise UserError(f"{what} name {name[:LONGEST]!a} {problem}; rename it")
    return name


def architecture(name: str) -> str:
    """The architecture that `name`, of it or of a variant such as deeplab@wide, is about."""
    return name.partition("@")[0]


def refusal(name: str) -> str | None:
    """The rule that `name` breaks; None for a valid name."""
    if not _PART.fullmatch(name):
        return "may hold only letters, digits, '_', '.' and '-', and one '@' before a variant's name"
    if name[0] in ".-":
        return "must begin with a letter, a digit or '_'"
    if len(name.encode()) > LONGEST:
        return f"must be no longer than {LONGEST} bytes"
    return None
