"""What a command shows and how it ends: errors as one line, progress, the next command to type.

Of several processes that train together only the main one shows anything.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from segbench import distributed
from segbench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_PLAIN_LINES = 5.0
_quiet = False


class Advance(Protocol):
    """Tells a progress display that one more unit is done, and what to show beside it."""

    def __call__(self, text: str = "") -> None: ...


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
    _quiet = bool(arguments.quiet) or not distributed.is_main()


def say(text: str = "") -> None:
    """A line about what happens; left out with --quiet."""
    if not _quiet:
        print(text, flush=True)


def banner(text: str) -> None:
    """A warning a reader must not miss; shown with --quiet too."""
    console().print(f"[bold black on yellow] {text} [/]", highlight=False)


def warn(text: str) -> None:
    """A line about what went wrong without ending the work; shown with --quiet too."""
    _complain(f"warning: {' '.join(text.split())}")


def next_command(command: str) -> None:
    """The exact next command, the last line of every command that has a successor."""
    say(f"\nnext:  {command}")


def table(title: str, columns: list[str], rows: list[list[str]], right: set[int] | None = None) -> None:
    """A table as wide as the terminal. `right` lists the columns to align to the right: those of numbers."""
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

    return Console(width=None if sys.stdout.isatty() else 140, emoji=False, quiet=not distributed.is_main())


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A progress bar with the time left on a terminal; elsewhere a line every few seconds and at the end.

    What takes less than a second says nothing there.
    """
    if _quiet:
        yield lambda text="": None
    elif sys.stdout.isatty():
        yield from _live(label, total, done)
    else:
        yield from _plain(label, total, done)


def _complain(text: str) -> None:
    if distributed.is_main():
        print(f"segbench: {text}", file=sys.stderr, flush=True)


def _live(label: str, total: int, done: int) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console()) as bar:
        task = bar.add_task(label, total=total, completed=done, text="")
        yield lambda text="": bar.update(task, advance=1, text=text)


def _plain(label: str, total: int, done: int) -> Iterator[Advance]:
    started = shown = time.monotonic()
    count = done

    def advance(text: str = "") -> None:
        nonlocal count, shown
        count += 1
        now = time.monotonic()
        last_of_a_long_one = count >= total and now - started > 1
        if not last_of_a_long_one and now - shown < _SECONDS_BETWEEN_PLAIN_LINES:
            return
        shown = now
        left = (now - started) / (count - done) * (total - count)
        print(
            f"{label}: {count}/{total}  {duration(now - started)}, {duration(left)} left  {text}".rstrip(), flush=True
        )

    yield advance


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.1 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
