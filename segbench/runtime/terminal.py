"""What a command shows and how it ends: errors as one line, progress, the next command to type.

Of several processes that train together only the main one shows anything. Texts that are not ours (names, titles,
paths) are shown as they are: as markup they are never read, and control characters in them are written out.
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
_silent = False  # as a library, unless it is asked to be verbose: not even results and warnings are printed
_resumes = False  # whether the running command, stopped and rerun, continues where it stopped


def run(main: Callable[[], int]) -> int:
    """Runs a command. Returns its exit code: 2 after a UserError or an OSError (one line on stderr), 130 after Ctrl-C,
    143 after SIGTERM."""
    streams.prepare()
    with interrupts.noticed() as ctrl_c:
        try:
            code = main()
            sys.stdout.flush()  # here, where a full disk still gets its line
            return code
        except UserError as error:
            _complain(f"error: {error}")
            return 2
        except KeyboardInterrupt as stop:
            return _stopped(int(stop.args[0] if stop.args else signal.SIGINT))
        except BrokenPipeError:
            streams.abandon_output()  # the reader, such as `head`, has seen enough
            return 0
        except OSError as error:
            streams.abandon_output()  # what could not be printed would be tried again at the end
            _complain(f"error: {_description(error)}")
            return 2
        except Exception:
            if not ctrl_c.pressed:
                raise
            return _stopped(signal.SIGINT)  # an import that is interrupted may end in an error of its own


def _stopped(number: int) -> int:
    _complain("stopped; rerun the same command to continue where it stopped" if _resumes else "stopped")
    return 128 + number


def _description(error: OSError) -> str:
    """Names the file, where the system tells which."""
    files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = error.strerror or str(error) or type(error).__name__
    words = f"{' -> '.join(files)}: {reason}" if files else f"a file could not be read or written: {reason}"
    return f"{words}; free some space and rerun" if error.errno in (errno.ENOSPC, errno.EDQUOT) else words


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose help is a module's docstring and which knows --quiet."""
    line = re.search(r"python -m segbench\.\w+", description or "")  # the line to type, as the docstring shows it
    made = argparse.ArgumentParser(
        prog=line and line[0], description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quiet", action="store_true", help="print results and errors only")
    return made


def configure(arguments: argparse.Namespace) -> None:
    """Obeys the common options, and the default `resumes` of the parsers whose commands do."""
    global _quiet, _resumes
    _quiet = bool(arguments.quiet) or not process_group.is_main()
    _resumes = getattr(arguments, "resumes", False)


def set_quiet() -> None:
    """From now on as with --quiet."""
    global _quiet
    _quiet = True


@contextlib.contextmanager
def as_library(verbose: bool) -> Iterator[None]:
    """Inside, nothing is printed unless `verbose`; warnings are Python's own then. A notebook shows progress anyway."""
    global _quiet, _silent
    before = _quiet, _silent
    _quiet = _silent = not verbose
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, of ipywidgets that nobody needs here
            yield
    finally:
        _quiet, _silent = before


def say(text: str = "") -> None:
    """A line about what happens; left out with --quiet."""
    if not _quiet:
        print(streams.printable(text), flush=True)


def ask(question: str) -> str:
    """What the user answers. Raises EOFError after Ctrl-D."""
    return input(streams.printable(question))


def result(text: str) -> None:
    """A line that the user waits for; shown with --quiet too."""
    if not _silent:
        print(streams.printable(text), flush=True)


def banner(text: str) -> None:
    """A warning a reader must not miss; shown with --quiet too."""
    if _silent:
        return
    console().print(_text(f" {text} ", "bold black on yellow"))


def warn(text: str) -> None:
    """A line about what went wrong without ending the work; shown with --quiet too."""
    if _silent:
        warnings.warn(text, stacklevel=2)
        return
    _complain(f"warning: {text}")


def next_command(command: str) -> None:
    """The exact next command, the last line of every command that has a successor."""
    say(f"\nnext:  {command}")


def table(title: str, columns: list[str], rows: list[list[str]], right: set[int] | None = None) -> None:
    """A table; where the terminal is narrower than it, a block of lines per row, since names that are cut off cannot be
    typed. `right` lists the columns to align to the right: those of numbers."""
    if _silent:
        return
    from rich import box
    from rich.table import Table

    made = Table(title=_text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        is_name = index == 0  # which stays in one piece
        justify: Literal["left", "right"] = "right" if right and index in right else "left"
        made.add_column(_text(column), justify=justify, overflow="fold", no_wrap=is_name)
    for row in rows:
        made.add_row(*map(_text, row))
    shown = console()
    needed = shown.measure(made, options=shown.options.update(width=_UNLIMITED))
    if needed.minimum <= shown.width or not sys.stdout.isatty():
        if not sys.stdout.isatty():
            shown.width = max(shown.width, needed.maximum)
        shown.print(made)
        return
    shown.print(_text(f"{title}\n"), soft_wrap=True)
    for first, *others in rows:
        shown.print(_text(f"{columns[0]} {first}", "bold"), soft_wrap=True)
        for column, cell in zip(columns[1:], others, strict=True):
            if cell:
                shown.print(_text(f"  {column}: {cell}"), soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    """For rich, without markup."""
    from rich.text import Text

    return Text(streams.printable(text), style)


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A progress bar with the time left on a terminal; elsewhere a line every few seconds and at the end.

    What takes less than a second says nothing there. Progress inside of progress is a further bar below, while it
    lasts.
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
        with contextlib.suppress(OSError):  # nobody reads stderr any more
            print(f"segbench: {streams.printable(' '.join(text.split()))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def board(label: str, total: int, done: int = 0) -> Iterator[Show]:
    """A progress bar for what several workers do, with a bar for each; elsewhere than on a terminal a line now and
    then."""
    if _quiet:
        yield lambda done, text, rows: None
    elif sys.stdout.isatty():
        yield from displays.live_board(label, total, done)
    else:
        yield from displays.plain_board(label, total, done)
