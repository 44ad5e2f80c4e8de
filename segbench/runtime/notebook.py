"""Progress bars in a Jupyter notebook that are saved with it."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import Progress

_SECONDS_BETWEEN_UPDATES = 0.5  # each update sends all bars to the browser


class Bars(Progress):
    """HTML that is updated in place: rich's own display needs ipywidgets, which a saved notebook does not show."""

    _handle: Any = None
    _next_update = 0.0

    def start(self) -> None:
        from IPython import display

        self._handle = display.display(self, display_id=True)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        if self._handle:
            self._handle.update(self)
            self._next_update = time.monotonic() + _SECONDS_BETWEEN_UPDATES

    def update(self, *arguments: Any, **values: Any) -> None:
        super().update(*arguments, **values)
        if time.monotonic() >= self._next_update:
            self.refresh()
