"""Progress displays: bars on a terminal and in a notebook, elsewhere a line every few seconds."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from segbench.runtime import process_group
from segbench.runtime.streams import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_PLAIN_LINES = 5.0
_display: Progress | None = None  # the live display, which nested progress shares
_last_line = 0.0  # time.monotonic() of the last plain line, of any level


class Advance(Protocol):
    """Advances a progress display by one unit, with a text to show beside it."""

    def __call__(self, text: str = "") -> None: ...


class Row(NamedTuple):
    """The progress of one of several workers."""

    name: str
    done: int
    total: int
    text: str


class Show(Protocol):
    """Updates a board with the total number of finished units, a text to show beside it, and the workers' rows."""

    def __call__(self, done: int, text: str, rows: Sequence[Row]) -> None: ...


def console() -> Console:
    """Rich's console: colours and live displays on a terminal, plain text elsewhere; NO_COLOR is honoured."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, emoji=False, quiet=not process_group.is_main())


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _line(row: Row) -> str:
    return f"{row.name}: {row.text} ({row.done}/{row.total})"


def live(label: str, total: int, done: int) -> Iterator[Advance]:
    """A bar; inside another live display, a further bar below it."""
    global _display
    if _display:
        task = _display.add_task(f"  {printable(label)}", total=total, completed=done, text="")
        try:
            yield functools.partial(_advance, _display, task)
        finally:
            _display.remove_task(task)
        return
    with _bars() as _display:
        try:
            yield functools.partial(
                _advance, _display, _display.add_task(printable(label), total=total, completed=done, text="")
            )
        finally:
            _display = None


def _advance(bars: Progress, task: TaskID, text: str = "") -> None:
    bars.update(task, advance=1, text=printable(text))


def live_board(label: str, total: int, done: int) -> Iterator[Show]:
    """A bar for the total, and one for each worker."""
    with _bars() as bars:
        task = bars.add_task(printable(label), total=total, completed=done, text="")
        worker_bars: dict[str, TaskID] = {}

        def show(done: int, text: str, rows: Sequence[Row]) -> None:
            bars.update(task, completed=done, text=printable(text))
            for name in worker_bars.keys() - {row.name for row in rows}:
                bars.remove_task(worker_bars.pop(name))
            for row in rows:
                if row.name not in worker_bars:
                    worker_bars[row.name] = bars.add_task(printable(row.name), total=row.total, text="")
                bars.update(worker_bars[row.name], completed=row.done, total=row.total, text=printable(row.text))

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

    if in_notebook():
        from segbench.runtime.notebook import Bars as Progress
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


def plain(label: str, total: int, done: int) -> Iterator[Advance]:
    """Progress as lines."""
    lines = _Lines(label, total, done)
    yield lambda text="": lines.tell(lines.count + 1, text)


def plain_board(label: str, total: int, done: int) -> Iterator[Show]:
    """Progress as lines, each with the progress of every worker."""
    lines = _Lines(label, total, done)
    yield lambda done, text, rows: lines.tell(done, "; ".join([text, *map(_line, rows)]))


class _Lines:
    """Progress as a line every few seconds, and one at the end if it took longer than a second."""

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
        print(printable(line.rstrip()), flush=True)


def duration(seconds: float) -> str:
    """Seconds as text: 8.1 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
