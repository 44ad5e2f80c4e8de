"""The parts a synthetic street is made of: houses, vehicles, people, trees and poles, seen through a pinhole camera.

Lengths are metres: x to the right of the camera, y above the ground, z ahead. Colours are RGB, 0..255. What is drawn
with a label lands in the image and in the label map alike; what is drawn without one (a window, a shadow) in the
image only.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Point = tuple[float, float]
Tone = Callable[[Colour], tuple[int, int, int]]  # a surface colour -> its RGB pixels in this light
Place = Callable[[float, float, float], tuple[float, float, float]]  # (along, up, across) a vehicle -> (x, y, z)
T = TypeVar("T")

NEAR = 1.2  # metres; nothing nearer is drawn: perspective would blow it up
UP = (0.0, 1.0, 0.0)
TOWARDS_CAMERA = (0.0, 0.0, -1.0)

# Raw Cityscapes ids (see segbench/labels.py).
EGO, OUT_OF_ROI, STATIC, DYNAMIC = 1, 3, 4, 5
ROAD, SIDEWALK, PARKING = 7, 8, 9
BUILDING, WALL, FENCE, BRIDGE = 11, 12, 13, 15
POLE, TRAFFIC_LIGHT, SIGN = 17, 19, 20
VEGETATION, TERRAIN, SKY = 21, 22, 23
PERSON, RIDER = 24, 25
CAR, TRUCK, BUS, CARAVAN, MOTORCYCLE, BICYCLE = 26, 27, 28, 29, 32, 33


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` (0..1) of `b`."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def scaled(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


class Dice:
    """Chance, from a seed: the few draws a scene needs, each from one uniform number."""

    def __init__(self, *seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.generator.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + int(self.generator.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return float(self.generator.random()) < probability

    def pick(self, things: Sequence[T]) -> T:
        return things[int(self.generator.random() * len(things))]

    def near(self, colour: Colour, spread: float) -> Colour:
        """A colour like `colour`: its brightness and each channel moved by up to `spread`."""
        shift = self.between(-spread, spread)
        r, g, b = (self.generator.random(3) * spread - spread / 2).tolist()
        return (max(0.0, colour[0] + shift + r), max(0.0, colour[1] + shift + g), max(0.0, colour[2] + shift + b))


class Camera(NamedTuple):
    focal: float  # pixels
    centre: float  # pixels from the left: where the street vanishes
    horizon: float  # pixels from the top
    height: float  # metres above the ground
    bend: float  # the street's curvature: metres to the right per square metre ahead


class Light(NamedTuple):
    sun: tuple[float, float, float]  # the unit vector towards it
    sunlight: Colour  # what a face turned to the sun gains, as a factor
    ambient: Colour  # what every face receives, as a factor
    haze: Colour
    haze_metres: float  # at this distance 63 % of a colour is haze
    shadow: float  # 0 none .. 1 black
    lamps: bool  # windows, lamps and headlights are lit


class Canvas:
    """An image and its label map, drawn together through one camera."""

    def __init__(self, sky: Image.Image, camera: Camera, light: Light) -> None:
        self.image, self.labels = sky, Image.new("L", sky.size, SKY)
        self.camera, self.light = camera, light
        self._paint, self._glaze = ImageDraw.Draw(self.image), ImageDraw.Draw(self.image, "RGBA")
        self._mark = ImageDraw.Draw(self.labels)

    def project(self, x: float, y: float, z: float) -> Point:
        """A point in the street -> pixels from the left and from the top."""
        if z < NEAR:
            z = NEAR
        focal, centre, horizon, height, bend = self.camera
        return (centre + focal * (x / z + bend * z), horizon - focal * (y - height) / z)

    def scale(self, z: float) -> float:
        """Pixels per metre, `z` metres away."""
        return self.camera.focal / max(z, NEAR)

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether a thing `radius` metres wide to both sides of (x, z) is in the frame."""
        middle, reach = self.project(x, 0, z)[0], radius * self.scale(z)
        return z > NEAR and -reach < middle < self.image.width + reach

    def shade(self, colour: Colour, normal: tuple[float, float, float], z: float) -> tuple[int, int, int]:
        """The colour of a face turned to `normal` (a unit vector), `z` metres away."""
        return self.tint(normal, z)(colour)

    def tint(self, normal: tuple[float, float, float], z: float) -> Tone:
        """How colours look on a face turned to `normal`, `z` metres away: worked out once for many strokes."""
        sun, (ar, ag, ab), (sr, sg, sb) = self.light.sun, self.light.ambient, self.light.sunlight
        facing = max(0.0, normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2])
        clear = math.exp(-z / self.light.haze_metres)
        gr, gg, gb = clear * (ar + sr * facing), clear * (ag + sg * facing), clear * (ab + sb * facing)
        hr, hg, hb = scaled(self.light.haze, 1 - clear)

        def look(colour: Colour) -> tuple[int, int, int]:
            r, g, b = colour
            return (min(255, int(r * gr + hr)), min(255, int(g * gg + hg)), min(255, int(b * gb + hb)))

        return look

    def fill(self, points: Sequence[Point], rgb: tuple[int, int, int] | None, label: int | None = None) -> None:
        """A polygon in pixels. Without a colour it only labels."""
        if rgb is not None:
            self._paint.polygon(points, rgb)
        if label is not None:
            self._mark.polygon(points, label)

    def glaze(self, points: Sequence[Point], rgb: tuple[int, int, int], opacity: float) -> None:
        """A see-through polygon in pixels, 0..1 opaque."""
        self._glaze.polygon(points, (*rgb, int(255 * opacity)))

    def oval(self, at: Point, rx: float, ry: float, rgb: tuple[int, int, int], label: int | None = None) -> None:
        """An upright ellipse in pixels."""
        box = (at[0] - rx, at[1] - ry, at[0] + rx, at[1] + ry)
        self._paint.ellipse(box, rgb)
        if label is not None:
            self._mark.ellipse(box, label)

    def line(self, points: Sequence[Point], width: float, rgb: tuple[int, int, int], label: int | None = None) -> None:
        """A line through pixels, at least one pixel wide."""
        pixels = max(1, round(width))
        self._paint.line(points, rgb, pixels)
        if label is not None:
            self._mark.line(points, label, pixels)

    def ground(self, x0: float, x1: float, z0: float, z1: float, colour: Colour, label: int | None) -> None:
        """A rectangle on the ground, cut into slices so that it bends with the street and fades with depth."""
        z = max(z0, NEAR)
        while z < z1:
            far = min(z1, z * 1.45 + 0.5)
            corners = ((x0, z), (x1, z), (x1, far), (x0, far))
            points = [self.project(x, 0, depth) for x, depth in corners]
            self.fill(points, self.shade(colour, UP, (z + far) / 2), label)
            z = far

    def shadow(self, x: float, z: float, width: float, height: float, depth: float = 0.3) -> None:
        """The shadow on the ground of an upright thing at (x, z)."""
        if width * self.scale(z) < 2 or not self.sees(x, z, width + 2 * height):
            return
        sx, sy, sz = self.light.sun
        reach = height * min(2.2, 1 / max(sy, 0.2)) * (1 if self.light.shadow > 0.25 else 0)
        w, d, ex, ez = width / 2, depth / 2, -sx * reach, -sz * reach
        base = [(x - w, z - d), (x + w, z - d), (x + w, z + d), (x - w, z + d)]
        tips = [(px + ex, pz + ez) for px, pz in base]
        outline = _hull([*base, *tips])
        self.glaze([self.project(px, 0, pz) for px, pz in outline], (22, 24, 38), self.light.shadow)


def _hull(points: list[Point]) -> list[Point]:
    """The convex outline of some points (Andrew's monotone chain)."""
    chains: list[Point] = []
    for ordered in (sorted(points), sorted(points, reverse=True)):
        chain: list[Point] = []
        for p in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], p) <= 0:
                chain.pop()
            chain.append(p)
        chains += chain[:-1]
    return chains


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


class Brush:
    """Draws on an upright sheet: `s` metres along it from its foot at (x, z), `t` metres above the ground."""

    def __init__(self, canvas: Canvas, x: float, z: float, along: Point = (1.0, 0.0), haze_at: float | None = None):
        self.canvas, self.x, self.z, self.along = canvas, x, z, along
        self.scale = canvas.scale(z)  # pixels per metre at the foot
        nx, nz = along[1], -along[0]
        towards = 1 if nx * -x + nz * -z > 0 else -1
        self.tone = canvas.tint((nx * towards, 0.0, nz * towards), z if haze_at is None else haze_at)

    def at(self, s: float, t: float) -> Point:
        return self.canvas.project(self.x + s * self.along[0], t, self.z + s * self.along[1])

    def shape(self, points: Sequence[Point], colour: Colour | None, label: int | None = None) -> None:
        rgb = None if colour is None else self.tone(colour)
        self.canvas.fill([self.at(s, t) for s, t in points], rgb, label)

    def rect(self, s0: float, t0: float, s1: float, t1: float, colour: Colour | None, label: int | None = None) -> None:
        self.shape(((s0, t0), (s1, t0), (s1, t1), (s0, t1)), colour, label)

    def disc(self, s: float, t: float, rs: float, rt: float, colour: Colour, label: int | None = None) -> None:
        """An ellipse lying in the sheet, so that perspective squeezes it."""
        self.shape([(s + rs * c, t + rt * d) for c, d in _CIRCLE], colour, label)

    def limb(self, a: Point, b: Point, thick: float, colour: Colour, label: int | None = None) -> None:
        """A round-ended stroke from a to b."""
        rgb, width = self.tone(colour), thick * self.scale
        ends = (self.at(*a), self.at(*b))
        self.canvas.line(ends, width, rgb, label)
        if width > 3:
            for end in ends:
                self.canvas.oval(end, width / 2, width / 2, rgb, label)

    def ring(self, s: float, t: float, radius: float, thick: float, colour: Colour, label: int | None = None) -> None:
        points = [self.at(s + radius * c, t + radius * d) for c, d in (*_CIRCLE, _CIRCLE[0])]
        self.canvas.line(points, thick * self.scale, self.tone(colour), label)


_CIRCLE = [(math.cos(k * math.pi / 7), math.sin(k * math.pi / 7)) for k in range(14)]

# --- buildings ------------------------------------------------------------------------------------------------------


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


# --- vehicles -------------------------------------------------------------------------------------------------------


class Hull(NamedTuple):
    """A body: its outline (metres from the rear, metres up) extruded across its width."""

    outline: tuple[Point, ...]
    glass: tuple[int, ...] = ()  # which stretches of the outline are glass
    panes: tuple[tuple[Point, ...], ...] = ()  # the side windows
    own_colour: bool = True  # False: a cargo box, a tarpaulin: the vehicle's second colour


class Model(NamedTuple):
    label: int
    length: float
    width: float
    hulls: tuple[Hull, ...]
    wheels: tuple[float, ...]  # metres from the rear
    radius: float
    lamps: float  # metres above the ground
    tuck: float = 0.22  # how much narrower the roof is, as a share


def _row(start: float, end: float, count: int, low: float, high: float) -> tuple[tuple[Point, ...], ...]:
    """`count` side windows in a row."""
    step = (end - start) / count
    spans = ((start + k * step, start + (k + 1) * step - 0.1) for k in range(count))
    return tuple(((a, low), (a, high), (b, high), (b, low)) for a, b in spans)


_HATCH = Hull(
    ((0, 0.25), (0, 0.72), (0.1, 0.98), (0.5, 1.4), (0.95, 1.48), (2.3, 1.46), (3.1, 0.98), (3.95, 0.8), (4.15, 0.55),
     (4.15, 0.25)),
    (2, 5),
    (((0.5, 1.0), (0.8, 1.37), (1.55, 1.4), (1.55, 1.0)), ((1.64, 1.0), (1.64, 1.4), (2.25, 1.38), (2.8, 1.0))),
)  # fmt: skip
_SALOON = Hull(
    ((0, 0.25), (0, 0.7), (0.08, 0.95), (0.7, 1.0), (1.3, 1.38), (1.7, 1.43), (2.7, 1.41), (3.45, 0.96), (4.45, 0.8),
     (4.65, 0.55), (4.65, 0.25)),
    (3, 6),
    (((1.0, 1.0), (1.4, 1.34), (1.95, 1.36), (1.95, 1.0)), ((2.05, 1.0), (2.05, 1.36), (2.65, 1.33), (3.15, 1.0))),
)  # fmt: skip
_SUV = Hull(
    ((0, 0.35), (0, 0.85), (0.08, 1.12), (0.4, 1.62), (0.8, 1.72), (2.7, 1.7), (3.3, 1.15), (4.3, 1.0), (4.5, 0.7),
     (4.5, 0.35)),
    (2, 5),
    (((0.5, 1.14), (0.7, 1.58), (1.75, 1.62), (1.75, 1.14)), ((1.85, 1.14), (1.85, 1.62), (2.6, 1.6), (3.05, 1.14))),
)  # fmt: skip
_VAN = Hull(
    ((0, 0.35), (0, 1.25), (0.05, 1.8), (0.15, 2.1), (3.9, 2.12), (4.6, 1.25), (5.2, 1.05), (5.3, 0.75), (5.3, 0.35)),
    (1, 4),
    (((3.0, 1.25), (3.0, 1.85), (3.8, 1.85), (4.3, 1.25)),),
)
_BUS = Hull(
    ((0, 0.35), (0, 1.6), (0, 2.6), (0.1, 3.0), (10.9, 3.0), (11.1, 2.75), (11.2, 1.1), (11.2, 0.35)),
    (1, 5),
    _row(0.5, 10.9, 7, 1.35, 2.5),
)
_CARGO = Hull(((0, 0.9), (0, 3.3), (5.4, 3.3), (5.4, 0.9)), own_colour=False)
_CAB = Hull(
    ((5.6, 0.5), (5.6, 2.6), (6.9, 2.65), (7.4, 1.65), (7.6, 1.2), (7.6, 0.5)),
    (2,),
    (((6.0, 1.6), (6.0, 2.3), (6.8, 2.3), (7.1, 1.6)),),
)
_CARAVAN = Hull(
    ((0, 0.4), (0, 1.3), (0.05, 2.0), (0.35, 2.45), (4.2, 2.45), (4.7, 1.5), (4.6, 0.4)),
    (1,),
    _row(0.8, 3.6, 2, 1.3, 1.9),
)

MODELS = {
    "hatch": Model(CAR, 4.15, 1.76, (_HATCH,), (0.72, 3.3), 0.31, 0.72),
    "saloon": Model(CAR, 4.65, 1.8, (_SALOON,), (0.95, 3.75), 0.32, 0.72),
    "suv": Model(CAR, 4.5, 1.88, (_SUV,), (0.85, 3.6), 0.36, 0.9),
    "van": Model(CAR, 5.3, 2.0, (_VAN,), (0.95, 4.3), 0.34, 0.95, 0.1),
    "bus": Model(BUS, 11.2, 2.5, (_BUS,), (2.6, 8.6), 0.48, 0.8, 0.03),
    "truck": Model(TRUCK, 7.6, 2.4, (_CARGO, _CAB), (1.3, 6.6), 0.48, 0.85, 0.0),
    "caravan": Model(CARAVAN, 4.7, 2.2, (_CARAVAN,), (2.2,), 0.32, 0.7, 0.05),
}


def vehicle(canvas: Canvas, model: Model, x: float, z: float, yaw: float, paint: Colour, second: Colour) -> None:
    """A vehicle centred on (x, z). `yaw` radians from straight ahead, clockwise; pi: it comes towards the camera."""
    if not canvas.sees(x, z, model.length):
        return
    heading, across = (math.sin(yaw), math.cos(yaw)), (math.cos(yaw), -math.sin(yaw))

    def place(s: float, t: float, w: float) -> tuple[float, float, float]:
        s -= model.length / 2
        return (x + s * heading[0] + w * across[0], t, z + s * heading[1] + w * across[1])

    def distance(hull: Hull) -> float:
        px, _, pz = place(sum(s for s, _ in hull.outline) / len(hull.outline), 0, 0)
        return math.hypot(px, pz)

    inner, length = model.width / 2 - 0.1, model.length
    under = [place(s, 0.12, w) for s, w in ((0, -inner), (length, -inner), (length, inner), (0, inner))]
    canvas.fill([canvas.project(*p) for p in under], canvas.shade((26, 27, 30), UP, z), model.label)
    for hull in sorted(model.hulls, key=distance, reverse=True):
        colour = paint if hull.own_colour else second
        _shell(canvas, model, hull, place, heading, colour)
        for w in (-1, 1):
            cx, _, cz = place(length / 2, 0, w * model.width / 2)
            normal = (w * across[0], 0.0, w * across[1])
            if normal[0] * -cx + normal[2] * -cz > 0:
                _flank(canvas, model, hull, place, w, canvas.tint(normal, cz), colour)
    facing = -1 if heading[0] * x + heading[1] * z > 0 else 1  # which end one sees: -1 the rear, 1 the front
    foot = place(length + 0.01 if facing > 0 else -0.01, 0, 0)
    _end(Brush(canvas, foot[0], foot[2], across), model, paint, front=facing > 0)


def _half_width(model: Model, t: float) -> float:
    """Bodies narrow above the belt line."""
    belt = 0.98 if model.tuck > 0.15 else 1.3
    return model.width / 2 * (1 - model.tuck * max(0.0, t - belt) / 0.5)


def _shell(canvas: Canvas, model: Model, hull: Hull, place: Place, heading: Point, paint: Colour) -> None:
    """The faces across a hull that look at the camera, far to near: tail, rear window, roof, windscreen, bonnet."""
    faces: list[tuple[float, list[Point], tuple[int, int, int]]] = []
    for k, ((s0, t0), (s1, t1)) in enumerate(zip(hull.outline, hull.outline[1:], strict=False)):
        length = math.hypot(s1 - s0, t1 - t0)
        ahead, up = -(t1 - t0) / length, (s1 - s0) / length  # the normal, in the plane of the outline
        normal = (ahead * heading[0], up, ahead * heading[1])
        cx, cy, cz = place((s0 + s1) / 2, (t0 + t1) / 2, 0)
        if normal[0] * -cx + normal[1] * (canvas.camera.height - cy) + normal[2] * -cz <= 0:
            continue
        a, b = _half_width(model, t0), _half_width(model, t1)
        corners = (place(s0, t0, -a), place(s0, t0, a), place(s1, t1, b), place(s1, t1, -b))
        rgb = canvas.shade((58, 70, 82) if k in hull.glass else paint, normal, cz)
        faces.append((math.hypot(cx, cz), [canvas.project(*corner) for corner in corners], rgb))
    for _, points, rgb in sorted(faces, key=lambda face: -face[0]):
        canvas.fill(points, rgb, model.label)


def _flank(canvas: Canvas, model: Model, hull: Hull, place: Place, w: int, tone: Tone, paint: Colour) -> None:
    """A hull's side with its windows and wheels; `w` is -1 for its left, 1 for its right."""

    def draw(points: Sequence[Point], colour: Colour, label: int | None = None) -> None:
        pixels = [canvas.project(*place(s, t, w * _half_width(model, t))) for s, t in points]
        canvas.fill(pixels, tone(colour), label)

    draw(hull.outline, paint, model.label)
    start, end, low = hull.outline[0][0], hull.outline[-1][0], hull.outline[0][1]
    draw(((start, low), (start, low + 0.18), (end, low + 0.18), (end, low)), scaled(paint, 0.55))
    fine = canvas.scale(place(model.length / 2, 0, 0)[2]) > 14
    for pane in hull.panes:
        draw(pane, (52, 62, 74))
        if fine:  # the sky mirrored in the upper half
            middle = pane[1][1] / 2
            draw([(s, t) if k in (1, 2) else (s, t / 2 + middle) for k, (s, t) in enumerate(pane)], (96, 112, 128))
    for s in model.wheels:
        r = model.radius
        tyre, hub = ([(s + r * f * c, r + r * f * d) for c, d in _CIRCLE[:: 1 if fine else 2]] for f in (1.15, 0.58))
        draw(tyre, (28, 28, 31), model.label)
        if fine:
            draw(hub, (158, 161, 166))


def _end(brush: Brush, model: Model, paint: Colour, front: bool) -> None:
    """The lights, plate and bumper of a vehicle's visible end; `s` runs across it from the middle."""
    w, t = model.width / 2, model.lamps
    lit = brush.canvas.light.lamps
    low = model.hulls[0].outline[0][1]
    for edge in (-w + 0.12, w - 0.12):
        brush.rect(edge - 0.08, 0, edge + 0.08, low + 0.1, (28, 28, 30), model.label)  # the tyres
    brush.rect(-w * 0.97, low, w * 0.97, low + 0.22, scaled(paint, 0.5))
    if front:
        brush.rect(-w * 0.55, t - 0.2, w * 0.55, t - 0.03, (34, 36, 40))
        lamp: Colour = (600, 580, 480) if lit else (232, 236, 238)
    else:
        lamp = (500, 60, 40) if lit else (176, 30, 30)
    for edge in (-w * 0.78, w * 0.78):
        brush.rect(edge - w * 0.17, t - 0.12, edge + w * 0.17, t + 0.06, lamp)
    brush.rect(-0.26, low + 0.2, 0.26, low + 0.32, (236, 236, 230))


def two_wheeler(brush: Brush, motor: bool, paint: Colour) -> None:
    """A bicycle (id 33) or a motorcycle (id 32) seen from its side, centred on the brush's foot."""
    label, thick = (MOTORCYCLE, 0.13) if motor else (BICYCLE, 0.05)
    for s in (-0.55, 0.55):
        brush.ring(s, 0.34, 0.3, thick, (34, 34, 38), label)
    if motor:
        outline = ((-0.7, 0.62), (-0.55, 0.85), (0.0, 0.78), (0.25, 0.98), (0.5, 0.9), (0.35, 0.4), (-0.3, 0.35))
        brush.shape(outline, paint, label)
        brush.rect(-0.6, 0.78, 0.0, 0.88, (32, 32, 34), label)
    for a, b in (((-0.55, 0.34), (-0.1, 0.34)), ((-0.1, 0.34), (0.38, 0.8)), ((-0.2, 0.85), (-0.1, 0.34)),
                 ((-0.2, 0.8), (0.38, 0.8)), ((-0.55, 0.34), (-0.2, 0.8)), ((0.55, 0.34), (0.36, 1.0))):  # fmt: skip
        brush.limb(a, b, 0.05, paint, label)
    brush.limb((0.3, 1.02), (0.44, 1.04), 0.05, (36, 36, 40), label)
    brush.limb((-0.3, 0.88), (-0.1, 0.88), 0.07, (36, 36, 40), label)


# --- people ---------------------------------------------------------------------------------------------------------


class Looks(NamedTuple):
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    tall: float  # metres
    stride: float  # -1..1: how far apart the feet are, and which is ahead
    dress: str  # "", "skirt", "coat"
    carries: str  # "", "bag", "backpack", "umbrella"
    turned: bool  # walks across the view: feet apart; else towards or away from the camera


def person(brush: Brush, looks: Looks, label: int = PERSON) -> None:
    """Somebody on foot, centred on the brush's foot."""
    k, flip = looks.tall / 1.75, 1 if looks.stride > 0 else -1
    reach = 0.3 * looks.stride if looks.turned else 0.05 * flip

    def limb(a: Point, b: Point, thick: float, colour: Colour) -> None:
        brush.limb((a[0] * k, a[1] * k), (b[0] * k, b[1] * k), thick * k, colour, label)

    def shape(points: Sequence[Point], colour: Colour) -> None:
        brush.shape([(s * k, t * k) for s, t in points], colour, label)

    hips, wide = (0.03, 0.8) if looks.turned else (0.09, 1.0), 0.75 if looks.turned else 1.0
    for foot, colour in ((-1, scaled(looks.legs, 0.78)), (1, looks.legs)):
        knee = (foot * (hips[0] + reach * 0.45) + 0.05 * abs(reach), 0.48)
        ankle = (foot * (hips[0] + reach), 0.09 + (0.1 * abs(reach) if foot < 0 else 0))
        limb((foot * hips[0], 0.88), knee, 0.15, colour)
        limb(knee, ankle, 0.12, colour)
        limb(ankle, (ankle[0] + (0.1 * flip if looks.turned else 0.02 * foot), 0.045), 0.09, (44, 38, 36))
    if looks.carries == "backpack":
        limb((-0.17 * flip * wide, 1.3), (-0.18 * flip * wide, 1.05), 0.22, mix(looks.top, (60, 70, 60), 0.7))
    swing = 0.22 * looks.stride if looks.turned else 0.0
    limb((-0.19 * wide, 1.38), (-0.22 * wide - swing, 0.95), 0.09, scaled(looks.top, 0.75))
    hem = {"coat": 0.58, "skirt": 0.55}.get(looks.dress, 0.84)
    half = ((0.2, 1.43), (0.18, 0.95), (0.2, hem))
    shape([(s * wide, t) for s, t in half] + [(-s * wide, t) for s, t in reversed(half)], looks.top)
    limb((-0.13 * wide, 1.41), (0.13 * wide, 1.41), 0.12, looks.top)
    if looks.dress == "skirt":
        shape(((-0.15, 0.98), (0.15, 0.98), (0.25, 0.5), (-0.25, 0.5)), scaled(looks.legs, 1.25))
    limb((0.19 * wide, 1.38), (0.23 * wide + swing, 0.95), 0.09, scaled(looks.top, 0.9))
    limb((0.23 * wide + swing, 0.92), (0.23 * wide + swing, 0.88), 0.08, looks.skin)
    limb((0, 1.42), (0, 1.55), 0.09, looks.skin)
    (u, v), size = brush.at(0, 1.63 * k), 0.125 * k * brush.scale
    for side, colour, rx, ry in ((-0.13, looks.hair, 0.92, 1.05), (0.15, looks.skin, 0.7, 0.85)):
        brush.canvas.oval((u + side * size * flip, v + side * size), rx * size, ry * size, brush.tone(colour), label)
    if looks.carries == "bag":
        shape(((0.2, 0.88), (0.42, 0.88), (0.44, 0.6), (0.18, 0.6)), mix(looks.top, (150, 90, 50), 0.8))
    if looks.carries == "umbrella":
        limb((0.2, 1.1), (0.12, 2.0), 0.03, (50, 50, 54))
        dome = [(0.1 + 0.62 * c, 1.82 + 0.42 * d) for c, d in _CIRCLE[:8]]
        shape(dome, mix(looks.top, looks.legs, 0.5))


def rider(brush: Brush, looks: Looks, motor: bool, paint: Colour) -> None:
    """Somebody (id 25) on a bicycle or a motorcycle, riding along the brush's sheet."""
    two_wheeler(brush, motor, paint)
    for hip, knee, foot in (((-0.2, 0.95), (0.18, 0.75), (-0.02, 0.28)), ((-0.2, 0.95), (0.12, 0.85), (0.02, 0.45))):
        brush.limb(hip, knee, 0.15, looks.legs, RIDER)
        brush.limb(knee, foot, 0.12, looks.legs, RIDER)
    brush.limb((-0.2, 1.0), (0.05, 1.42), 0.3, looks.top, RIDER)
    brush.limb((0.05, 1.42), (0.36, 1.08), 0.1, scaled(looks.top, 0.85), RIDER)
    (u, v), size = brush.at(0.12, 1.68), 0.135 * brush.scale
    cap = paint if motor else looks.hair
    brush.canvas.oval((u, v + size * 0.2), size * 0.8, size * 0.95, brush.tone(looks.skin), RIDER)
    brush.canvas.oval((u, v - size * 0.2), size, size * 0.8, brush.tone(cap), RIDER)


# --- plants and street furniture ------------------------------------------------------------------------------------


def tree(brush: Brush, dice: Dice, height: float, radius: float, leaf: Colour, bark: Colour) -> None:
    """A tree: trunk and crown are both vegetation (id 21), whatever the season's colour."""
    if not brush.canvas.sees(brush.x, brush.z, radius):
        return
    crown, tall = height - radius, min(radius * dice.between(0.9, 1.4), height * 0.42)
    base = crown - tall * 0.5
    brush.shape(((-0.2, 0), (0.2, 0), (0.12, base), (-0.12, base)), bark, VEGETATION)
    for lean in (-0.45, 0.4):
        brush.limb((0, base - 0.5), (lean * radius, crown), 0.14, scaled(bark, 0.9), VEGETATION)
    foliage(brush, dice, (0, crown), radius, tall, leaf, 72)


def foliage(brush: Brush, dice: Dice, at: Point, rs: float, rt: float, leaf: Colour, count: int) -> None:
    """An ellipse full of tufts, the shaded ones behind, the ones towards the sun in front."""
    scale, sun, tufts = brush.scale, brush.canvas.light.sun[0] * 0.6, []
    tone = brush.canvas.tint(UP, brush.z)
    draws = dice.generator.random((count, 4))  # always as many, so that a scene is the same at any size
    count = min(count, 8 + int(rs * scale))
    large = 0.62 / math.sqrt(count) + 0.06
    for chance in draws[:count].tolist():
        angle, reach = chance[0] * 2 * math.pi, math.sqrt(chance[1])
        s, t = reach * math.cos(angle), reach * math.sin(angle)
        bright = 0.86 + 0.2 * t + 0.2 * sun * s + 0.3 * (chance[2] - 0.5)
        tufts.append((bright, s, t, large + 0.14 * chance[3]))
    foot = brush.at(*at)
    brush.canvas.oval(foot, 0.82 * rs * scale, 0.82 * rt * scale, tone(scaled(leaf, 0.7)), VEGETATION)
    for bright, s, t, size in sorted(tufts):
        centre = (foot[0] + s * rs * scale * 0.86, foot[1] - t * rt * scale * 0.86)
        brush.canvas.oval(centre, size * rs * scale, size * rt * scale * 0.95, tone(scaled(leaf, bright)), VEGETATION)


def conifer(brush: Brush, height: float, radius: float, leaf: Colour, bark: Colour) -> None:
    brush.rect(-0.15, 0, 0.15, height * 0.2, bark, VEGETATION)
    for k in range(5):
        low, wide = height * (0.12 + 0.16 * k), radius * (1 - 0.18 * k)
        tip = low + height * 0.3
        brush.shape(((-wide, low), (0, tip), (wide, low)), scaled(leaf, 0.62 + 0.06 * k), VEGETATION)
        brush.shape(((wide * 0.1, low), (0, tip), (wide, low)), scaled(leaf, 0.74 + 0.06 * k), VEGETATION)


def lamp_post(brush: Brush, height: float, arm: float, colour: Colour) -> None:
    brush.shape(((-0.1, 0), (0.1, 0), (0.05, height), (-0.05, height)), colour, POLE)
    brush.limb((0, height), (arm, height + 0.25), 0.09, colour, POLE)
    glow: Colour = (700, 560, 330) if brush.canvas.light.lamps else mix(colour, (235, 235, 230), 0.6)
    brush.limb((arm * 0.75, height + 0.18), (arm * 1.2, height + 0.22), 0.2, glow, POLE)


def traffic_light(brush: Brush, shining: int, colour: Colour) -> None:
    """A pole with a signal head (id 19); `shining` is 0 red, 1 amber, 2 green."""
    brush.limb((0, 0), (0, 3.5), 0.13, colour, POLE)
    brush.rect(-0.2, 2.4, 0.2, 3.55, (30, 32, 34), TRAFFIC_LIGHT)
    for k, glow in enumerate(((420, 70, 50), (430, 300, 60), (70, 400, 210))):
        brush.disc(0, 3.35 - 0.36 * k, 0.13, 0.13, glow if k == shining else scaled(glow, 0.2))


def sign(brush: Brush, kind: int, height: float, pole: Colour) -> None:
    """A sign (id 20) and its pole. `kind`: 0 limit, 1 warning, 2 one way, 3 parking, 4 yellow board, 5 a back."""
    brush.limb((0, 0), (0, height), 0.09, pole, POLE)
    t = height - 0.15
    if kind == 0:
        brush.disc(0, t, 0.36, 0.36, (196, 36, 40), SIGN)
        brush.disc(0, t, 0.25, 0.25, (238, 238, 234))
    elif kind == 1:
        brush.shape(((-0.42, t - 0.35), (0.42, t - 0.35), (0, t + 0.4)), (200, 40, 42), SIGN)
        brush.shape(((-0.24, t - 0.25), (0.24, t - 0.25), (0, t + 0.18)), (240, 238, 230))
    elif kind == 2:
        brush.disc(0, t, 0.36, 0.36, (36, 84, 168), SIGN)
        brush.limb((0, t - 0.2), (0, t + 0.15), 0.1, (238, 240, 242))
    elif kind == 3:
        brush.rect(-0.34, t - 0.34, 0.34, t + 0.34, (34, 86, 172), SIGN)
        brush.rect(-0.12, t - 0.2, 0.0, t + 0.22, (240, 240, 240))
        brush.disc(0.05, t + 0.08, 0.15, 0.14, (240, 240, 240))
    elif kind == 4:
        brush.rect(-0.9, t - 0.3, 0.9, t + 0.4, (226, 186, 52), SIGN)
        brush.rect(-0.6, t, 0.6, t + 0.12, (44, 44, 40))
    else:
        brush.disc(0, t, 0.36, 0.36, (142, 146, 150), SIGN)


def litter_bin(brush: Brush, colour: Colour, large: bool) -> None:
    """A litter bin or, large, a skip: static things are void (id 4)."""
    if large:
        brush.shape(((-1.3, 0.1), (1.3, 0.1), (1.6, 1.3), (-1.6, 1.3)), colour, STATIC)
        brush.rect(-1.65, 1.2, 1.65, 1.35, scaled(colour, 0.75), STATIC)
        for s in (-0.7, 0.0, 0.7):
            brush.rect(s - 0.05, 0.15, s + 0.05, 1.2, scaled(colour, 0.8))
        return
    brush.rect(-0.28, 0, 0.28, 1.0, colour, STATIC)
    brush.rect(-0.32, 0.95, 0.32, 1.1, scaled(colour, 0.65), STATIC)
    brush.rect(-0.28, 0, -0.08, 0.95, scaled(colour, 0.85))


def dog(brush: Brush, colour: Colour) -> None:
    """A dog on a walk: animals are dynamic void (id 5)."""
    brush.limb((-0.25, 0.42), (0.2, 0.45), 0.2, colour, DYNAMIC)
    for s in (-0.28, -0.18, 0.14, 0.24):
        brush.limb((s, 0.36), (s, 0.03), 0.07, colour, DYNAMIC)
    brush.limb((0.3, 0.55), (0.42, 0.56), 0.16, colour, DYNAMIC)
    brush.limb((-0.35, 0.48), (-0.45, 0.66), 0.05, colour, DYNAMIC)
