"""A brush: draws on an upright sheet in the street, in metres."""

import math
from collections.abc import Sequence

from segbench.data.synthetic.canvas import Canvas, Point
from segbench.data.synthetic.colour import Colour

CIRCLE = [(math.cos(k * math.pi / 7), math.sin(k * math.pi / 7)) for k in range(14)]


class Brush:
    """Draws on an upright sheet: `s` metres along it from its foot at (x, z), `t` metres above the ground."""

    def __init__(self, canvas: Canvas, x: float, z: float, along: Point = (1.0, 0.0), haze_at: float | None = None):
        self.canvas, self.x, self.z, self.along = canvas, x, z, along
        self.scale = canvas.scale(z)  # pixels per metre at the foot
        nx, nz = along[1], -along[0]
        towards = 1 if nx * -x + nz * -z > 0 else -1
        self.tone = canvas.tint((nx * towards, 0.0, nz * towards), z if haze_at is None else haze_at)

    def at(self, s: float, t: float) -> Point:
        """A point of the sheet -> pixels from the left and from the top."""
        return self.canvas.project(self.x + s * self.along[0], t, self.z + s * self.along[1])

    def shape(self, points: Sequence[Point], colour: Colour | None, label: int | None = None) -> None:
        """A polygon. Without a colour it only labels."""
        rgb = None if colour is None else self.tone(colour)
        self.canvas.fill([self.at(s, t) for s, t in points], rgb, label)

    def rect(self, s0: float, t0: float, s1: float, t1: float, colour: Colour | None, label: int | None = None) -> None:
        """A rectangle from (s0, t0) to (s1, t1)."""
        self.shape(((s0, t0), (s1, t0), (s1, t1), (s0, t1)), colour, label)

    def disc(self, s: float, t: float, rs: float, rt: float, colour: Colour, label: int | None = None) -> None:
        """An ellipse lying in the sheet, so that perspective squeezes it."""
        self.shape([(s + rs * c, t + rt * d) for c, d in CIRCLE], colour, label)

    def limb(self, a: Point, b: Point, thick: float, colour: Colour, label: int | None = None) -> None:
        """A round-ended stroke from a to b."""
        rgb, width = self.tone(colour), thick * self.scale
        ends = (self.at(*a), self.at(*b))
        self.canvas.line(ends, width, rgb, label)
        if width > 3:
            for end in ends:
                self.canvas.oval(end, width / 2, width / 2, rgb, label)

    def ring(self, s: float, t: float, radius: float, thick: float, colour: Colour, label: int | None = None) -> None:
        """A circle's rim."""
        points = [self.at(s + radius * c, t + radius * d) for c, d in (*CIRCLE, CIRCLE[0])]
        self.canvas.line(points, thick * self.scale, self.tone(colour), label)
