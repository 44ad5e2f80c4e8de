"""A training's learning curve as a small picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from segbench.core.records import EpochRecord

SIZE = (720, 280)  # (width, height), pixels
_SCALE = 2  # drawn larger, then reduced: Pillow's own lines have steps
_INK, _GRID = (60, 60, 60), (225, 225, 225)
_BLUE, _ORANGE = (31, 119, 180), (217, 95, 2)


class _Line(NamedTuple):
    name: str
    values: Sequence[float]
    colour: tuple[int, int, int]


def draw(records: Sequence[EpochRecord]) -> Image.Image:
    """Both mIoUs to the left, both losses to the right, over epochs; the best epoch has a dot. `records`: one or
    more, in order. Returns an RGB image of SIZE."""
    width, height = SIZE[0] * _SCALE, SIZE[1] * _SCALE
    picture = Image.new("RGB", (width, height), "white")
    epochs = [record.epoch for record in records]
    best = max(range(len(records)), key=lambda index: records[index].miou)
    miou = _Line("mIoU", [record.miou for record in records], _BLUE)
    official = _Line("official mIoU", [record.miou_official for record in records], _ORANGE)
    train = _Line("train loss", [record.train_loss for record in records], _BLUE)
    val = _Line("validation loss", [record.val_loss for record in records], _ORANGE)
    _panel(picture, (0, width // 2), epochs, (miou, official), best)
    _panel(picture, (width // 2, width), epochs, (train, val), best)
    return picture.reduce(_SCALE)


def _panel(
    picture: Image.Image, edges: tuple[int, int], epochs: Sequence[int], lines: Sequence[_Line], best: int
) -> None:
    """One pair of axes with its lines, between two horizontal `edges`."""
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12 * _SCALE)
    left, right = edges[0] + 52 * _SCALE, edges[1] - 14 * _SCALE
    top, bottom = 34 * _SCALE, picture.height - 34 * _SCALE
    values = [value for line in lines for value in line.values]
    low, high = min(values), max(values)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)

    def place(index: int, value: float) -> tuple[float, float]:
        across = (epochs[index] - epochs[0]) / (epochs[-1] - epochs[0]) if len(epochs) > 1 else 0.5
        return left + across * (right - left), bottom - (value - low) / (high - low) * (bottom - top)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + share * (high - low)
        y = place(0, value)[1]
        pen.line([(left, y), (right, y)], _GRID, _SCALE)
        pen.text((left - 6 * _SCALE, y), f"{value:.3g}", _INK, font, anchor="rm")
    for index in sorted({0, len(epochs) // 2, len(epochs) - 1}):
        pen.text((place(index, low)[0], bottom + 6 * _SCALE), str(epochs[index]), _INK, font, anchor="mt")
    pen.text(((left + right) / 2, picture.height - 2 * _SCALE), "epoch", _INK, font, anchor="mb")
    x = float(left)
    for line in lines:
        points = [place(index, value) for index, value in enumerate(line.values)]
        pen.line(points, line.colour, 2 * _SCALE, joint="curve")
        for index, point in enumerate(points):
            if index == best or len(points) == 1:
                pen.circle(point, 4 * _SCALE, line.colour)
        pen.text((x, 10 * _SCALE), line.name, line.colour, font, anchor="lt")
        x += pen.textlength(line.name, font) + 16 * _SCALE
