"""People, on foot and on two wheels, and their dogs."""

from collections.abc import Sequence
from typing import NamedTuple

from segbench.data.synthetic.brush import CIRCLE, Brush
from segbench.data.synthetic.canvas import Point
from segbench.data.synthetic.colour import Colour, mix, scaled
from segbench.data.synthetic.ids import DYNAMIC, PERSON, RIDER
from segbench.data.synthetic.vehicles import two_wheeler


class Looks(NamedTuple):
    """How somebody looks and walks."""

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
        dome = [(0.1 + 0.62 * c, 1.82 + 0.42 * d) for c, d in CIRCLE[:8]]
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


def dog(brush: Brush, colour: Colour) -> None:
    """A dog on a walk: animals are dynamic void (id 5)."""
    brush.limb((-0.25, 0.42), (0.2, 0.45), 0.2, colour, DYNAMIC)
    for s in (-0.28, -0.18, 0.14, 0.24):
        brush.limb((s, 0.36), (s, 0.03), 0.07, colour, DYNAMIC)
    brush.limb((0.3, 0.55), (0.42, 0.56), 0.16, colour, DYNAMIC)
    brush.limb((-0.35, 0.48), (-0.45, 0.66), 0.05, colour, DYNAMIC)
