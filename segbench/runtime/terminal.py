"""What a command shows and how it ends: errors as one line, progress, the next command to type.

Of several processes that train together only the main one shows anything. Texts that are not ours (names, titles,
paths) are shown as they are: as markup they are never read, and control characters in them are written out.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from segbench.core.errors import UserError
from segbench.runtime import interrupts, process_group, streams

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.text import Text

_SECONDS_BETWEEN_PLAIN_LINES = 5.0
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed
_UNLIMITED = 10_000  # columns
_quiet = False
_resumes = False  # whether the running command, stopped and rerun, continues where it stopped
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


def say(text: str = "") -> None:
    """A line about what happens; left out with --quiet."""
    if not _quiet:
        print(_printable(text), flush=True)


def ask(question: str) -> str:
    """What the user answers. Raises EOFError after Ctrl-D."""
    return input(_printable(question))


def banner(text: str) -> None:
    """A warning a reader must not miss; shown with --quiet too."""
    console().print(_text(f" {text} ", "bold black on yellow"))


def warn(text: str) -> None:
    """A line about what went wrong without ending the work; shown with --quiet too."""
    _complain(f"warning: {text}")


def next_command(command: str) -> None:
    """The exact next command, the last line of every command that has a successor."""
    say(f"\nnext:  {command}")


def table(title: str, columns: list[str], rows: list[list[str]], right: set[int] | None = None) -> None:
    """A table; where the terminal is narrower than it, a block of lines per row, since names that are cut off cannot be
    typed. `right` lists the columns to align to the right: those of numbers."""
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

    return Text(_printable(text), style)


def _printable(text: str) -> str:
    """With control characters, which could move the cursor or colour what follows, written as \\x1b."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


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
    if _quiet:
        yield lambda text="": None
    elif sys.stdout.isatty():
        yield from _live(label, total, done)
    else:
        yield from _plain(label, total, done)


def _complain(text: str) -> None:
    if process_group.is_main():
        with contextlib.suppress(OSError):  # nobody reads stderr any more
            print(f"segbench: {_printable(' '.join(text.split()))}", file=sys.stderr, flush=True)


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
        task = _display.add_task(f"  {_printable(label)}", total=total, completed=done, text="")
        try:
            yield functools.partial(_advance, _display, task)
        finally:
            _display.remove_task(task)
        return
    with _bars() as _display:
        try:
            yield functools.partial(
                _advance, _display, _display.add_task(_printable(label), total=total, completed=done, text="")
            )
        finally:
            _display = None


def _advance(bars: Progress, task: TaskID, text: str = "") -> None:
    bars.update(task, advance=1, text=_printable(text))


def _live_board(label: str, total: int, done: int) -> Iterator[Show]:
    with _bars() as bars:
        task = bars.add_task(_printable(label), total=total, completed=done, text="")
        own: dict[str, TaskID] = {}  # each worker's bar

        def show(done: int, text: str, rows: Sequence[Row]) -> None:
            bars.update(task, completed=done, text=_printable(text))
            for name in own.keys() - {row.name for row in rows}:
                bars.remove_task(own.pop(name))
            for row in rows:
                if row.name not in own:
                    own[row.name] = bars.add_task(_printable(row.name), total=row.total, text="")
                bars.update(own[row.name], completed=row.done, total=row.total, text=_printable(row.text))

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

    return Progress(
        TextColumn("{task.description}", "bold", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
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
        line = f"{self._label}: {count}/{self._total}  {duration(took)}{left}  {text}"
        print(_printable(line.rstrip()), flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.1 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
