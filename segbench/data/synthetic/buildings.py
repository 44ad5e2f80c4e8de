"""Buildings: house fronts with their windows and shops, garden walls and fences, bridges."""

from typing import NamedTuple

from segbench.data.synthetic.brush import Brush
from segbench.data.synthetic.canvas import Canvas
from segbench.data.synthetic.colour import Colour, mix, scaled
from segbench.data.synthetic.ids import BRIDGE, BUILDING, FENCE, WALL


class House(NamedTuple):
    """How a building looks; `kind` is classic, timber, brick, panel or glass."""

    kind: str
    wall: Colour
    trim: Colour
    accent: Colour  # shutters, doors, awnings
    glass: Colour
    roof: Colour
    storeys: int
    storey: float  # metres
    bay: float  # metres from window to window
    roof_height: float  # metres; 0: a flat roof
    roof_depth: float  # metres from the facade to the ridge
    shop: bool
    balconies: bool
    chances: tuple[float, ...]  # uniform numbers: which windows are lit, open or curtained

    @property
    def height(self) -> float:
        """Metres from the ground to the eaves."""
        return self.storeys * self.storey + 0.6


def building(canvas: Canvas, house: House, side: int, x: float, z0: float, z1: float) -> None:
    """A house whose facade runs along the street at `side * x` (side: -1 left, 1 right), from z0 to z1."""
    end = Brush(canvas, side * x, z0, (side, 0.0))
    ridge, top, width = house.roof_depth, house.height + house.roof_height, 10.0
    if house.roof_height:
        for k, chance in enumerate(house.chances[:2]):
            stack = Brush(canvas, side * (x + ridge * 0.8), z0 + (z1 - z0) * (0.15 + 0.45 * k + 0.3 * chance))
            stack.rect(-0.4, house.height, 0.4, top + 0.9, mix(house.wall, (128, 84, 68), 0.6), BUILDING)
            stack.rect(-0.5, top + 0.75, 0.5, top + 0.9, (96, 84, 78), BUILDING)
        gable = house.wall if ridge > 2 else house.roof
        end.shape(((0, house.height), (ridge, top), (width - ridge, top), (width, house.height)), gable, BUILDING)
        eaves = [(x, house.height, z0), (x, house.height, z1), (x + ridge, top, z1), (x + ridge, top, z0)]
        slope = canvas.shade(house.roof, (-side * 0.7, 0.7, 0.0), (z0 + z1) / 2)
        canvas.fill([canvas.project(side * a, b, c) for a, b, c in eaves], slope, BUILDING)
    end.rect(0, 0, width, house.height, scaled(house.wall, 0.93), BUILDING)
    if house.kind == "timber":
        _timber(end, house, width)
    end.rect(0, 0, width, 0.7, scaled(house.wall, 0.74))
    _windows(end, house, width, first=1, inset=0.9)
    facade(Brush(canvas, side * x, z0, (0.0, 1.0), haze_at=(z0 + z1) / 2), house, z1 - z0, side)


def facade(brush: Brush, house: House, length: float, side: int = 0) -> None:
    """A house front, `length` metres long. `side` as for `building`, 0 where the front faces the camera."""
    brush.rect(0, 0, length, house.height, house.wall, BUILDING)
    near = brush.canvas.scale(max(6.0, brush.z + brush.along[1] * length / 2))
    if near < 5:
        _windows(brush, house, length, first=0)
        return
    if house.kind == "brick" and near > 22:
        _courses(brush, house, length)
    if house.kind == "timber":
        _timber(brush, house, length)
    brush.rect(0, 0, length, 0.7, scaled(house.wall, 0.78))
    brush.rect(0, house.height - 0.45, length, house.height, mix(house.trim, house.wall, 0.3), BUILDING)
    if house.kind in ("classic", "brick"):
        brush.rect(0, house.storey - 0.1, length, house.storey + 0.08, mix(house.trim, house.wall, 0.4))
    _windows(brush, house, length, first=1 if house.shop else 0)
    if house.shop:
        _shop_front(brush, house, length, side)
    else:
        door = length * (0.25 + 0.5 * house.chances[2])
        brush.rect(door - 0.75, 0, door + 0.75, 2.6, house.trim)
        brush.rect(door - 0.55, 0, door + 0.55, 2.4, scaled(house.accent, 0.75))
    brush.limb((0.05, 0), (0.05, house.height), 0.1, scaled(house.wall, 0.7))  # the downpipe between two houses


def barrier(brush: Brush, length: float, height: float, colour: Colour, label: int) -> None:
    """A garden wall (id 12), or a fence (id 13): bars one sees through, labelled as a whole as Cityscapes does."""
    if label == WALL:
        brush.rect(0, 0, length, height, colour, WALL)
        brush.rect(0, height - 0.15, length, height, mix(colour, (230, 226, 216), 0.4), WALL)
        return
    brush.rect(0, 0.05, length, height, None, FENCE)
    for rail in (0.25, height - 0.12):
        brush.rect(0, rail - 0.05, length, rail + 0.05, colour)
    for k in range(int(length / 0.3)):
        s = k * 0.3
        if k % 3 == 0 or brush.canvas.scale(brush.z + brush.along[1] * s) > 30:
            brush.limb((s, 0), (s, height), 0.045, colour)


def bridge(canvas: Canvas, z: float, clearance: float, colour: Colour) -> None:
    """A bridge over the street (id 15), z metres away."""
    brush = Brush(canvas, -70, z)
    brush.rect(0, clearance, 140, clearance + 1.6, colour, BRIDGE)
    brush.rect(0, clearance, 140, clearance + 0.3, scaled(colour, 0.6), BRIDGE)
    brush.rect(0, clearance + 1.5, 140, clearance + 2.4, scaled(colour, 1.12), BRIDGE)
    for x in (-14.0, 12.0):
        brush.rect(70 + x, 0, 72 + x, clearance, scaled(colour, 0.85), BRIDGE)


def _windows(brush: Brush, house: House, length: float, first: int, inset: float = 0.5) -> None:
    """The grid of windows from storey `first` up, as far as they are big enough to be seen."""
    count = max(1, int((length - 2 * inset + 0.3) / house.bay))
    pitch = (length - 2 * inset) / count
    width = pitch * {"glass": 0.94, "panel": 0.62}.get(house.kind, 0.46)
    frame = brush.canvas.image.width
    for column in range(count):
        s = inset + (column + 0.5) * pitch - width / 2
        left, right = brush.at(s, 0)[0], brush.at(s + width, 0)[0]
        if abs(right - left) < 2.2 or max(left, right) < 0 or min(left, right) > frame:
            continue
        fine = abs(right - left) > 9
        for storey in range(first, house.storeys):
            chance = house.chances[(column * 7 + storey * 3) % len(house.chances)]
            _window(brush, house, s, storey * house.storey + 0.95, width, chance, fine)
            if house.balconies and storey and (column + storey) % 2:
                _balcony(brush, house, s, storey * house.storey + 0.35, width)


def _window(brush: Brush, house: House, s: float, t: float, width: float, chance: float, fine: bool) -> None:
    tall = house.storey - (0.75 if house.kind == "glass" else 1.35)
    lit = brush.canvas.light.lamps and chance < 0.4
    pane = mix((255, 214, 130), house.wall, 0.1) if lit else scaled(house.glass, 0.75 + 0.5 * chance)
    if fine and house.kind != "glass":
        brush.rect(s - 0.12, t - 0.15, s + width + 0.12, t + tall + 0.15, house.trim)
    brush.rect(s, t, s + width, t + tall, (420, 330, 190) if lit else pane)
    if not fine:
        return
    if not lit:
        brush.rect(s, t + tall * 0.55, s + width, t + tall, mix(pane, (225, 235, 245), 0.25 + 0.3 * chance))
    if chance > 0.7:  # a curtain, or a blind half down
        brush.rect(s, t + tall * chance * 0.8, s + width, t + tall, (226, 218, 202))
    middle = s + width / 2
    brush.rect(middle - 0.04, t, middle + 0.04, t + tall, house.trim)
    if house.kind == "classic" and house.chances[0] > 0.45:
        for edge in (s - 0.12 - width * 0.42, s + width + 0.12):
            brush.rect(edge, t - 0.05, edge + width * 0.42, t + tall + 0.05, house.accent)


def _balcony(brush: Brush, house: House, s: float, t: float, width: float) -> None:
    brush.rect(s - 0.35, t - 0.1, s + width + 0.35, t + 0.12, mix(house.trim, house.wall, 0.5))
    a, b = s - 0.35, s + width + 0.35
    brush.canvas.glaze([brush.at(*p) for p in ((a, t), (b, t), (b, t + 1), (a, t + 1))], (40, 44, 52), 0.45)
    brush.limb((a, t + 1), (b, t + 1), 0.06, (52, 54, 60))


def _shop_front(brush: Brush, house: House, length: float, side: int) -> None:
    """Wide panes, a fascia and, for half of the shops, an awning over the pavement."""
    lit = brush.canvas.light.lamps
    brush.rect(0.3, 0, length - 0.3, house.storey - 0.3, scaled(house.accent, 0.62))
    count = max(1, int(length / 3.2))
    pitch = (length - 0.8) / count
    for k in range(count):
        s, chance = 0.4 + k * pitch, house.chances[k % len(house.chances)]
        pane: Colour = (400, 320, 200) if lit else mix(house.glass, (200, 190, 170), 0.5 * chance)
        brush.rect(s + 0.15, 0.1 if chance > 0.6 else 0.6, s + pitch - 0.15, house.storey - 1.0, pane)
        if not lit:
            brush.rect(s + 0.15, 1.6, s + pitch - 0.15, house.storey - 1.0, mix(pane, (235, 240, 245), 0.3))
    brush.rect(0.3, house.storey - 0.9, length - 0.3, house.storey - 0.3, house.accent)
    brush.rect(length * 0.3, house.storey - 0.75, length * 0.7, house.storey - 0.48, mix(house.accent, house.trim, 0.8))
    if house.chances[1] < 0.5 and side:
        stripes = max(2, int(length / 1.2))
        for k in range(stripes):
            a, b = (0.4 + (length - 0.8) * (k + d) / stripes for d in (0, 1))
            colour = house.trim if k % 2 else house.accent
            out, z = brush.x - side * 1.3, brush.z
            low = [brush.canvas.project(out, 2.3, z + s) for s in (b, a)]
            points = [brush.at(a, house.storey - 0.35), brush.at(b, house.storey - 0.35), *low]
            brush.canvas.fill(points, brush.canvas.shade(colour, (-side * 0.5, 0.86, 0.0), z + a), BUILDING)


def _courses(brush: Brush, house: House, length: float) -> None:
    dark = brush.tone(scaled(house.wall, 0.8))
    for k in range(1, int(house.height / 0.32)):
        brush.canvas.line((brush.at(0, k * 0.32), brush.at(length, k * 0.32)), 1, dark)


def _timber(brush: Brush, house: House, length: float) -> None:
    beam = scaled(house.roof, 0.62)
    for storey in range(1, house.storeys):
        t = storey * house.storey
        brush.rect(0, t - 0.1, length, t + 0.1, beam)
        for k in range(int(length / house.bay) + 1):
            s = min(length - 0.1, k * house.bay + 0.1)
            brush.limb((s, t), (s, t + house.storey), 0.17, beam)
            brush.limb((s, t), (min(length, s + 0.9), t + house.storey * 0.9), 0.12, beam)
