"""The canvas: an image and its label map, with instances, drawn together through a pinhole camera in one light."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from segbench.core.panoptic import PER_LABEL
from segbench.data.synthetic.colour import Colour, scaled
from segbench.data.synthetic.ids import COUNTED, SKY

Point = tuple[float, float]
Tone = Callable[[Colour], tuple[int, int, int]]  # a surface colour -> its RGB pixels in this light

NEAR = 1.2  # metres; nothing nearer is drawn: perspective would blow it up
UP = (0.0, 1.0, 0.0)


class Camera(NamedTuple):
    """Where one looks from."""

    focal: float  # pixels
    centre: float  # pixels from the left: where the street vanishes
    horizon: float  # pixels from the top
    height: float  # metres above the ground
    bend: float  # the street's curvature: metres to the right per square metre ahead


class Light(NamedTuple):
    """The light of a scene: sun, sky and haze."""

    sun: tuple[float, float, float]  # the unit vector towards it
    sunlight: Colour  # what a face turned to the sun gains, as a factor
    ambient: Colour  # what every face receives, as a factor
    haze: Colour
    haze_metres: float  # at this distance 63 % of a colour is haze
    shadow: float  # 0 none .. 1 black
    lamps: bool  # windows, lamps and headlights are lit


class Canvas:
    """An image and the ids of its pixels, drawn together through one camera. An id is a label's, or label · 1000 + k of
    an instance, as in Cityscapes' instance files."""

    def __init__(self, sky: Image.Image, camera: Camera, light: Light) -> None:
        self.image, self.ids = sky, Image.new("I", sky.size, SKY)
        self.camera, self.light = camera, light
        self._paint, self._glaze = ImageDraw.Draw(self.image), ImageDraw.Draw(self.image, "RGBA")
        self._mark = ImageDraw.Draw(self.ids)
        self._told_apart = False
        self._own: dict[int, int] = {}  # label to id, of the thing that is being painted
        self._next: dict[int, int] = {}  # label to the k of its next instance

    def begin(self, told_apart: bool) -> None:
        """What is painted from now on is another thing: an instance of each of its labels, or a part of a group."""
        self._told_apart, self._own = told_apart, {}

    def _id(self, label: int) -> int:
        if label not in COUNTED or not self._told_apart:
            return label
        if label not in self._own:
            k = self._next.get(label, 0)
            self._own[label], self._next[label] = label * PER_LABEL + k, k + 1
        return self._own[label]

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
            self._mark.polygon(points, self._id(label))

    def glaze(self, points: Sequence[Point], rgb: tuple[int, int, int], opacity: float) -> None:
        """A see-through polygon in pixels, 0..1 opaque."""
        self._glaze.polygon(points, (*rgb, int(255 * opacity)))

    def oval(self, at: Point, rx: float, ry: float, rgb: tuple[int, int, int], label: int | None = None) -> None:
        """An upright ellipse in pixels."""
        box = (at[0] - rx, at[1] - ry, at[0] + rx, at[1] + ry)
        self._paint.ellipse(box, rgb)
        if label is not None:
            self._mark.ellipse(box, self._id(label))

    def line(self, points: Sequence[Point], width: float, rgb: tuple[int, int, int], label: int | None = None) -> None:
        """A line through pixels, at least one pixel wide."""
        pixels = max(1, round(width))
        self._paint.line(points, rgb, pixels)
        if label is not None:
            self._mark.line(points, self._id(label), pixels)

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
