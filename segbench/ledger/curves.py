"""A training's learning curve as a PNG."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from segbench.core.records import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (720, 280)  # (width, height), pixels
_DOTS_PER_INCH = 100
_BLUE, _ORANGE = "#1f77b4", "#d95f02"


def png(records: Sequence[EpochRecord]) -> bytes:
    """The scores on the left, both losses on the right, over epochs, with a dot at the best epoch. `records`: at least
    one, in order. Returns a PNG of SIZE, the same bytes for the same records. Thread-safe."""
    # Not pyplot, whose figures all threads share. Matplotlib would log its search for fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = SIZE
    figure = Figure((width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.16, top=0.96, wspace=0.18)
    best = max(range(len(records)), key=lambda index: records[index].value)
    epochs = [record.epoch for record in records]
    _draw(left, records[0].value_name, epochs, [record.value for record in records], _BLUE, best)
    name, beside = ("mIoU", "miou") if records[0].panoptic else ("official mIoU", "miou_official")
    _draw(left, name, epochs, [getattr(record, beside) for record in records], _ORANGE, best)
    _draw(right, "train loss", epochs, [record.train_loss for record in records], _BLUE, best)
    _draw(right, "validation loss", epochs, [record.val_loss for record in records], _ORANGE, best)
    for axes in (left, right):
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e1e1e1")
        axes.legend(fontsize=8, frameon=False)
    written = io.BytesIO()
    FigureCanvasAgg(figure).print_png(written, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return written.getvalue()


def _draw(axes: Axes, name: str, epochs: list[int], values: list[float], colour: str, best: int) -> None:
    axes.plot(epochs, values, color=colour, label=name)
    axes.plot(epochs[best : best + 1], values[best : best + 1], "o", color=colour, markersize=4)
