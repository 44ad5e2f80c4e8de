"""A command's output and exit code: errors as one line, progress, the next command to type.

If several processes train together, only the main one prints. Names, titles and paths are never parsed as markup, and
their control characters are escaped.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from segbench.core.errors import UserError
from segbench.runtime import displays, interrupts, process_group, streams
from segbench.runtime.displays import Advance as Advance
from segbench.runtime.displays import Row as Row
from segbench.runtime.displays import Show as Show
from segbench.runtime.displays import console as console

if TYPE_CHECKING:
    from rich.text import Text

_UNLIMITED = 10_000  # columns
_quiet = False
_silent = False  # as a library, unless verbose: not even results and warnings are printed
_resumes = False  # whether the running command resumes when it is rerun


def run(main: Callable[[], int]) -> int:
    """Runs a command. Returns its exit code: 2 after a UserError or an OSError (one line on stderr), 130 after Ctrl-C,
    143 after SIGTERM."""
    streams.prepare()
    with interrupts.noticed() as ctrl_c:
        try:
            code = main()
            sys.stdout.flush()  # here, so that a full disk is still reported in one line
            return code
        except UserError as error:
            _complain(f"error: {error}")
            return 2
        except KeyboardInterrupt as stop:
            return _stopped(int(stop.args[0] if stop.args else signal.SIGINT))
        except BrokenPipeError:
            streams.abandon_output()  # the reader, such as `head`, has closed the pipe
            return 0
        except OSError as error:
            streams.abandon_output()  # Python would try to write it again when it exits
            _complain(f"error: {_description(error)}")
            return 2
        except Exception:
            if not ctrl_c.pressed:
                raise
            return _stopped(signal.SIGINT)  # an interrupted import may raise another error


def _stopped(number: int) -> int:
    _complain("stopped; rerun the same command to resume" if _resumes else "stopped")
    return 128 + number


def _description(error: OSError) -> str:
    """The error's reason, with the file's name if known."""
    files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = error.strerror or str(error) or type(error).__name__
    words = f"{' -> '.join(files)}: {reason}" if files else f"a file could not be read or written: {reason}"
    return f"{words}; free some space and rerun" if error.errno in (errno.ENOSPC, errno.EDQUOT) else words


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with a module's docstring as help, and with --quiet."""
    line = re.search(r"python -m segbench\.\w+", description or "")  # the command as the docstring shows it
    result = argparse.ArgumentParser(
        prog=line and line[0], description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--quiet", action="store_true", help="print results and errors only")
    return result


def configure(arguments: argparse.Namespace) -> None:
    """Applies the common options, and `resumes`, a default of the parsers of commands that resume."""
    global _quiet, _resumes
    _quiet = bool(arguments.quiet) or not process_group.is_main()
    _resumes = getattr(arguments, "resumes", False)


def set_quiet() -> None:
    """Behaves as with --quiet from now on."""
    global _quiet
    _quiet = True


@contextlib.contextmanager
def as_library(verbose: bool) -> Iterator[None]:
    """Inside, nothing is printed unless `verbose`, and warnings are Python's. A notebook always shows progress."""
    global _quiet, _silent
    before = _quiet, _silent
    _quiet = _silent = not verbose
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, about ipywidgets, which are not needed
            yield
    finally:
        _quiet, _silent = before


def say(text: str = "") -> None:
    """Prints a line about progress; not with --quiet."""
    if not _quiet:
        print(streams.printable(text), flush=True)


def ask(question: str) -> str:
    """Asks the user and returns the answer. Raises EOFError after Ctrl-D."""
    return input(streams.printable(question))


def result(text: str) -> None:
    """Prints a line of the command's result, also with --quiet."""
    if not _silent:
        print(streams.printable(text), flush=True)


def banner(text: str) -> None:
    """Prints a highlighted warning, also with --quiet."""
    if _silent:
        return
    console().print(_text(f" {text} ", "bold black on yellow"))


def warn(text: str) -> None:
    """Prints a line about a problem that does not end the command, also with --quiet."""
    if _silent:
        warnings.warn(text, stacklevel=2)
        return
    _complain(f"warning: {text}")


def next_command(command: str) -> None:
    """Prints the exact next command, as the last line of every command that has a successor."""
    say(f"\nnext:  {command}")


def table(title: str, columns: list[str], rows: list[list[str]], right: set[int] | None = None) -> None:
    """Prints a table; on a narrower terminal, a block of lines per row, because truncated names could not be typed.
    `right`: the indices of columns to align to the right, those of numbers."""
    if _silent:
        return
    from rich import box
    from rich.table import Table

    grid = Table(title=_text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        is_name = index == 0  # never broken over lines
        justify: Literal["left", "right"] = "right" if right and index in right else "left"
        grid.add_column(_text(column), justify=justify, overflow="fold", no_wrap=is_name)
    for row in rows:
        grid.add_row(*map(_text, row))
    screen = console()
    needed = screen.measure(grid, options=screen.options.update(width=_UNLIMITED))
    if needed.minimum <= screen.width or not sys.stdout.isatty():
        if not sys.stdout.isatty():
            screen.width = max(screen.width, needed.maximum)
        screen.print(grid)
        return
    screen.print(_text(f"{title}\n"), soft_wrap=True)
    for first, *others in rows:
        screen.print(_text(f"{columns[0]} {first}", "bold"), soft_wrap=True)
        for column, cell in zip(columns[1:], others, strict=True):
            if cell:
                screen.print(_text(f"  {column}: {cell}"), soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    """A text for rich, without markup."""
    from rich.text import Text

    return Text(streams.printable(text), style)


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A progress bar with the time left on a terminal or in a notebook; elsewhere a line every few seconds and at the
    end, unless it takes less than a second.

    Nested progress is a further bar below, while it lasts.
    """
    if displays.in_notebook():
        yield from displays.live(label, total, done)
    elif _quiet:
        yield lambda text="": None
    elif sys.stdout.isatty():
        yield from displays.live(label, total, done)
    else:
        yield from displays.plain(label, total, done)


def _complain(text: str) -> None:
    if process_group.is_main():
        with contextlib.suppress(OSError):  # nobody reads stderr anymore
            print(f"segbench: {streams.printable(' '.join(text.split()))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def board(label: str, total: int, done: int = 0) -> Iterator[Show]:
    """A progress bar for several workers, and one for each; without a terminal, a line every few seconds."""
    if _quiet:
        yield lambda done, text, rows: None
    elif sys.stdout.isatty():
        yield from displays.live_board(label, total, done)
    else:
        yield from displays.plain_board(label, total, done)
