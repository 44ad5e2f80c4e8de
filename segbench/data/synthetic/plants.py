"""Plants: trees, conifers and hedges, all of them vegetation (id 21)."""

import math

from segbench.data.synthetic.brush import Brush
from segbench.data.synthetic.canvas import UP, Canvas, Point
from segbench.data.synthetic.colour import Colour, scaled
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.ids import VEGETATION


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


def conifer(brush: Brush, height: float, radius: float, leaf: Colour, bark: Colour) -> None:
    """A conifer: five skirts of needles, lit from the right."""
    brush.rect(-0.15, 0, 0.15, height * 0.2, bark, VEGETATION)
    for k in range(5):
        low, wide = height * (0.12 + 0.16 * k), radius * (1 - 0.18 * k)
        tip = low + height * 0.3
        brush.shape(((-wide, low), (0, tip), (wide, low)), scaled(leaf, 0.62 + 0.06 * k), VEGETATION)
        brush.shape(((wide * 0.1, low), (0, tip), (wide, low)), scaled(leaf, 0.74 + 0.06 * k), VEGETATION)


def hedge(canvas: Canvas, x: float, z0: float, z1: float, tall: float, leaf: Colour, dice: Dice) -> None:
    """A hedge along the street at x, from z0 to z1."""
    core = Brush(canvas, x, z0, (0.0, 1.0), haze_at=(z0 + z1) / 2)
    core.rect(0, 0, z1 - z0, tall * 0.9, scaled(leaf, 0.72), VEGETATION)
    z = z1
    while z > z0:
        foliage(Brush(canvas, x, max(z, 2.0)), dice, (0, tall * 0.55), 0.7, tall * 0.5, leaf, 7)
        z -= 0.9 + z * 0.02


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
