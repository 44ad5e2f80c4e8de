"""What a command shows and how it ends: errors as one line, progress, the next command to type.

Of several processes that train together only the main one shows anything.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from segbench.core.errors import UserError
from segbench.runtime import process_group

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_PLAIN_LINES = 5.0
_quiet = False
_silent = False  # as a library, unless it is asked to be verbose: not even results and warnings are printed
_display: Progress | None = None  # the one live display, which progress inside of progress shares
_last_line = 0.0  # time.monotonic() of the last plain line, of any level


class Advance(Protocol):
    """Tells a progress display that one more unit is done, and what to show beside it."""

    def __call__(self, text: str = "") -> None: ...


class Row(NamedTuple):
    """What one of several workers does."""

    name: str
    done: int
    total: int
    text: str


class Show(Protocol):
    """Tells a board how many units are done in all, what to show beside, and what each worker does."""

    def __call__(self, done: int, text: str, rows: Sequence[Row]) -> None: ...


def run(main: Callable[[], int]) -> int:
    """Runs a command. Returns its exit code: 2 after a UserError (one line on stderr), 130 after Ctrl-C, 143
    after SIGTERM."""
    try:
        return main()
    except UserError as error:
        _complain(f"error: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt as stop:
        _complain("stopped. Type the same command again: it goes on where it stopped")
        return 128 + int(stop.args[0] if stop.args else signal.SIGINT)
    except BrokenPipeError:
        sys.stderr.close()  # the reader, such as `head`, has seen enough
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "a disk"
        print(
            f"segbench: error: {where}: {error.strerror}. Free some space and type the same command again: it goes on "
            "where it stopped",
            file=sys.stderr,
        )
        return 2


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose help is a module's docstring and which knows --quiet."""
    line = re.search(r"python -m segbench\.\w+", description or "")  # the line to type, as the docstring shows it
    made = argparse.ArgumentParser(
        prog=line and line[0], description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quiet", action="store_true", help="print results and errors only")
    return made


def configure(arguments: argparse.Namespace) -> None:
    """Obeys the common options."""
    global _quiet
    _quiet = bool(arguments.quiet) or not process_group.is_main()


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
        yield
    finally:
        _quiet, _silent = before


def say(text: str = "") -> None:
    """A line about what happens; left out with --quiet."""
    if not _quiet:
        print(text, flush=True)


def result(text: str) -> None:
    """A line that the user waits for; shown with --quiet too."""
    if not _silent:
        print(text, flush=True)


def banner(text: str) -> None:
    """A warning a reader must not miss; shown with --quiet too."""
    if _silent:
        return
    console().print(f"[bold black on yellow] {text} [/]", highlight=False)


def warn(text: str) -> None:
    """A line about what went wrong without ending the work; shown with --quiet too."""
    if _silent:
        warnings.warn(text, stacklevel=2)
        return
    _complain(f"warning: {' '.join(text.split())}")


def next_command(command: str) -> None:
    """The exact next command, the last line of every command that has a successor."""
    say(f"\nnext:  {command}")


def table(title: str, columns: list[str], rows: list[list[str]], right: set[int] | None = None) -> None:
    """A table as wide as the terminal. `right` lists the columns to align to the right: those of numbers."""
    if _silent:
        return
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if right and index in right else "left")
    for row in rows:
        made.add_row(*row)
    console().print(made)


def console() -> Console:
    """Rich's console: colours and live displays on a terminal, plain text elsewhere; NO_COLOR is honoured."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, emoji=False, quiet=not process_group.is_main())


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A progress bar with the time left on a terminal; elsewhere a line every few seconds and at the end.

    What takes less than a second says nothing there. Progress inside of progress is a further bar below, while it
    lasts.
    """
    if _in_notebook():
        yield from _live(label, total, done)
    elif _quiet:
        yield lambda text="": None
    elif sys.stdout.isatty():
        yield from _live(label, total, done)
    else:
        yield from _plain(label, total, done)


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _complain(text: str) -> None:
    if process_group.is_main():
        print(f"segbench: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def board(label: str, total: int, done: int = 0) -> Iterator[Show]:
    """A progress bar for what several workers do, with a bar for each; elsewhere than on a terminal a line now and
    then."""
    if _quiet:
        yield lambda done, text, rows: None
    elif sys.stdout.isatty():
        yield from _live_board(label, total, done)
    else:
        plain = _Plain(label, total, done)
        yield lambda done, text, rows: plain.tell(done, "; ".join([text, *map(_line, rows)]))


def _line(row: Row) -> str:
    return f"{row.name}: {row.text} ({row.done}/{row.total})"


def _live(label: str, total: int, done: int) -> Iterator[Advance]:
    global _display
    if _display:
        task = _display.add_task(f"  {label}", total=total, completed=done, text="")
        try:
            yield functools.partial(_advance, _display, task)
        finally:
            _display.remove_task(task)
        return
    with _bars() as _display:
        try:
            yield functools.partial(_advance, _display, _display.add_task(label, total=total, completed=done, text=""))
        finally:
            _display = None


def _advance(bars: Progress, task: TaskID, text: str = "") -> None:
    bars.update(task, advance=1, text=text)


def _live_board(label: str, total: int, done: int) -> Iterator[Show]:
    with _bars() as bars:
        task = bars.add_task(label, total=total, completed=done, text="")
        own: dict[str, TaskID] = {}  # each worker's bar

        def show(done: int, text: str, rows: Sequence[Row]) -> None:
            bars.update(task, completed=done, text=text)
            for name in own.keys() - {row.name for row in rows}:
                bars.remove_task(own.pop(name))
            for row in rows:
                if row.name not in own:
                    own[row.name] = bars.add_task(row.name, total=row.total, text="")
                bars.update(own[row.name], completed=row.done, total=row.total, text=row.text)

        yield show


def _bars() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if _in_notebook():
        from segbench.runtime.notebook import Bars as Progress
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console(),
    )


def _plain(label: str, total: int, done: int) -> Iterator[Advance]:
    plain = _Plain(label, total, done)
    yield lambda text="": plain.tell(plain.count + 1, text)


class _Plain:
    """Progress as a line every few seconds, and at the end of what took longer than one."""

    def __init__(self, label: str, total: int, done: int) -> None:
        global _last_line
        self.count = done
        self._label, self._total, self._first = label, total, done
        self._started = time.monotonic()
        _last_line = max(_last_line, self._started)

    def tell(self, count: int, text: str) -> None:
        global _last_line
        news, self.count = count > self.count, count
        now = time.monotonic()
        took = now - self._started
        last_of_a_long_one = news and count >= self._total and took > 1
        if not last_of_a_long_one and now - _last_line < _SECONDS_BETWEEN_PLAIN_LINES:
            return
        _last_line = now
        done = count - self._first
        left = f", {duration(took / done * (self._total - count))} left" if done > 0 else ""
        print(f"{self._label}: {count}/{self._total}  {duration(took)}{left}  {text}".rstrip(), flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.1 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
