"""The roadside: lamp posts, signs, street trees, bins and signals."""

from functools import partial

from segbench.data.synthetic.brush import Brush
from segbench.data.synthetic.canvas import Canvas
from segbench.data.synthetic.city import City
from segbench.data.synthetic.colour import Colour, mix
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.furniture import lamp_post, litter_bin, sign, traffic_light
from segbench.data.synthetic.plants import conifer, tree
from segbench.data.synthetic.street import Street, Thing

_BARK: Colour = (104, 86, 70)


def roadside(canvas: Canvas, town: City, street: Street, side: int, dice: Dice) -> list[Thing]:
    """What stands along one side, most of it between the kerb and the pavement."""
    things: list[Thing] = []
    x, tall = side * (street.kerb(side) + 0.5), dice.between(5.5, 8.0)
    z = dice.between(7, 20)
    while z < 100:
        canvas.shadow(x, z, 0.25, tall, 0.2)
        things.append(Thing(z, partial(lamp_post, Brush(canvas, x, z), tall, -side * 1.3, town.metal)))
        z += 24
    for k in range(11):
        z = 7 + 9 * k + dice.between(-2, 2)
        if dice.chance(town.trees) and abs(z - street.crossing) > 3:
            things.append(plant(canvas, town, side * (street.kerb(side) + 0.9), z, dice))
    for _ in range(dice.whole(1, 4)):
        z = dice.between(6, 45)
        brush, kind = Brush(canvas, x + side * dice.between(0, 0.4), z), dice.pick((0, 1, 2, 3, 0, 1, 4, 5))
        things.append(Thing(z, partial(sign, brush, kind, dice.between(2.3, 3.0), town.metal)))
    for _ in range(dice.whole(1, 3)):
        z = dice.between(6, 32)
        large = dice.chance(0.12) and town.pavement_width > 3.2  # a skip needs room: it stands before a house
        out = street.front(side) - 1.7 if large else dice.between(street.path(side) + 0.4, street.front(side) - 0.4)
        colour = dice.near(dice.pick(((70, 96, 78), (92, 96, 100), (176, 140, 58), (58, 72, 96), (146, 62, 54))), 14)
        canvas.shadow(side * out, z, 2.6 if large else 0.6, 1.0)
        things.append(Thing(z, partial(litter_bin, Brush(canvas, side * out, z), colour, large)))
    if street.crossing and dice.chance(0.7):
        z = street.crossing - 2.2
        things.append(Thing(z, partial(traffic_light, Brush(canvas, x, z), dice.whole(0, 2), town.metal)))
    return things


def plant(canvas: Canvas, town: City, x: float, z: float, dice: Dice, wild: bool = False) -> Thing:
    """A tree of the city; a wild one is taller and may be a conifer."""
    height, leaf = dice.between(5, 9) * (1.25 if wild else 1), dice.near(dice.pick(town.leaves), 12)
    brush, slim = Brush(canvas, x, z), dice.between(0.24, 0.34)
    canvas.shadow(x, z, height * slim * 1.4, height * 0.8, height * 0.3)
    if wild and dice.chance(0.25):
        needles = mix(leaf, (52, 84, 66), 0.6)
        return Thing(z, partial(conifer, brush, height * 1.1, height * 0.24, needles, _BARK))
    return Thing(z, partial(tree, brush, dice, height, height * slim, leaf, _BARK))
