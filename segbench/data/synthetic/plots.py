"""The plots: houses, gardens, parks and yards behind the pavements, and what closes the view."""

import math
from functools import partial

from segbench.data.synthetic.brush import Brush
from segbench.data.synthetic.buildings import House, barrier, bridge, building, facade
from segbench.data.synthetic.canvas import NEAR, Canvas
from segbench.data.synthetic.city import City
from segbench.data.synthetic.colour import colours, mix, scaled
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.ids import BUILDING, FENCE, PARKING, ROAD, SIDEWALK, VEGETATION, WALL
from segbench.data.synthetic.plants import foliage, hedge
from segbench.data.synthetic.roadside import plant
from segbench.data.synthetic.street import HORIZON_METRES, Street, Thing
from segbench.data.synthetic.traffic import motor_vehicle

_ACCENTS = colours("3e5c4c 843430 385070 684e38 c4a054 585c62 708c92")


def plots(canvas: Canvas, town: City, street: Street, side: int, dice: Dice) -> list[Thing]:
    """What stands behind the pavement of one side, plot after plot, from the camera to the street's end."""
    things: list[Thing] = []
    z = dice.between(-8, 3)
    while z < min(street.end, 150):
        kind, x = dice.pick(town.plots), street.front(side)
        long = dice.between(8, 18) if kind != "gap" else dice.between(6, 9)
        end, start = z + long, max(z, NEAR)
        if end < 4:
            z = end
            continue
        if kind == "house":
            _building_shadow(canvas, side, x, start, end, 12.0)
            things.append(Thing(end, partial(building, canvas, _house(town, dice), side, x, start, end)))
        elif kind == "gap":
            canvas.ground(side * (street.kerb(side) - 0.1), side * 80, start, end, town.asphalt, ROAD)
            canvas.ground(side * (x + 2), side * 80, end - 1.5, end, town.pavement, SIDEWALK)
        else:
            things += _open_plot(canvas, town, side, x, start, end, kind, dice)
        z = end
    return things


def skyline(canvas: Canvas, town: City, street: Street, dice: Dice) -> list[Thing]:
    """The far end: woods and roofs on the horizon; sometimes a bridge, or a row of houses across the street."""
    things: list[Thing] = []
    closed = street.end < HORIZON_METRES
    z, x = (street.end, -34.0) if closed else (HORIZON_METRES, -190.0)
    shift = canvas.camera.bend * z * z  # the row stands where the straight view ends, not where the street bends to
    while x < (34 if closed else 190):
        wide = dice.between(10, 17) if closed else dice.between(9, 26)
        brush = Brush(canvas, x - shift, z)
        if not canvas.sees(x - shift + wide / 2, z, wide):
            pass
        elif abs(x) < 70 and dice.chance(0.7 if closed else 0.55):
            house = _house(town, dice)
            things.append(Thing(z, partial(_front, canvas, house, x - shift, z, wide)))
        else:
            leaf, size = dice.pick(town.leaves), (wide * 0.62, dice.between(3, 6))
            brush.rect(0, 0, wide, size[1] * 0.6, scaled(leaf, 0.75), VEGETATION)
            things.append(Thing(z, partial(foliage, brush, dice, (wide / 2, size[1] * 0.8), *size, leaf, 12)))
        x += wide
    if dice.chance(0.07):
        z = dice.between(35, 70)
        things.append(Thing(z, partial(bridge, canvas, z, dice.between(4.6, 6), dice.near((158, 154, 148), 12))))
    return things


def _open_plot(
    canvas: Canvas, town: City, side: int, x: float, z0: float, z1: float, kind: str, dice: Dice
) -> list[Thing]:
    """A garden with a small house set back, a park, or a yard, behind a hedge, a fence or a wall."""
    things: list[Thing] = []
    if kind == "garden":
        house = _house(town, dice, small=True)
        things.append(Thing(z1 + 0.1, partial(building, canvas, house, side, x + 6, z0 + 1.5, z1 - 1.5)))
    if kind == "yard":
        ground = mix(town.asphalt, town.pavement, 0.5)
        canvas.ground(side * x, side * (x + 30), z0, z1, ground, PARKING)
        for _ in range(dice.whole(0, 3)):
            at, z = side * (x + dice.between(3, 9)), dice.between(z0, z1)
            things.append(motor_vehicle(canvas, dice, at, z, math.pi / 2))
    for _ in range({"park": 4, "yard": 1, "garden": 2}[kind]):
        out = dice.between(1.5, 5) if kind == "garden" else dice.between(3, 14)
        z = dice.between(max(z0, 6), max(z1, 7))
        things.append(plant(canvas, town, side * (x + out), z, dice, wild=True))
    colour = dice.near(dice.pick(((150, 140, 128), (176, 164, 146), (140, 84, 70))), 10)
    style = dice.pick(("hedge", "fence", "wall", "fence"))
    tall = dice.between(1.0, 1.9)
    brush = Brush(canvas, side * x, z0, (0.0, 1.0), haze_at=(z0 + z1) / 2)
    if style == "hedge":
        things.append(Thing(z1, partial(hedge, canvas, side * x, z0, z1, tall, town.leaves[0], dice)))
    else:
        colour, label = (town.metal, FENCE) if style == "fence" else (colour, WALL)
        things.append(Thing(z1, partial(barrier, brush, z1 - z0, tall, colour, label)))
    return things


def _house(town: City, dice: Dice, small: bool = False) -> House:
    palette, kind = town.palette, dice.pick(town.palette.kinds)
    wall, high = dice.near(dice.pick(palette.walls), 12), palette.roof[0] * dice.between(0.7, 1.2)
    return House(
        kind=kind,
        wall=wall,
        trim=mix(wall, dice.pick(((244, 240, 232), (236, 234, 230), (112, 104, 98))), 0.7),
        accent=dice.near(dice.pick(_ACCENTS), 16),
        glass=dice.near(dice.pick(((88, 104, 120), (118, 146, 172), (70, 78, 88))), 10),
        roof=dice.near(dice.pick(palette.roofs), 12),
        storeys=dice.whole(1, 2) if small else dice.whole(*palette.storeys),
        storey=dice.between(2.9, 3.5),
        bay=dice.between(2.3, 3.4),
        roof_height=max(high, 2.4) if small else high,
        roof_depth=4.4 if small else palette.roof[1],
        shop=not small and dice.chance(0.5),
        balconies=not small and kind in ("panel", "classic") and dice.chance(0.25),
        chances=tuple(dice.generator.random(29).tolist()),
    )


def _building_shadow(canvas: Canvas, side: int, x: float, z0: float, z1: float, height: float) -> None:
    """A house between the sun and the street darkens the pavement and perhaps the road."""
    sx, sy, _ = canvas.light.sun
    reach = height * max(0.0, side * sx) / max(sy, 0.3)
    if canvas.light.shadow < 0.33 or reach < 0.5:
        return
    corners = ((x + 0.3, z0), (x + 0.3, z1), (x - reach, z1), (x - reach, z0))
    canvas.glaze([canvas.project(side * a, 0, z) for a, z in corners], (24, 28, 48), canvas.light.shadow * 0.8)


def _front(canvas: Canvas, house: House, x: float, z: float, wide: float) -> None:
    brush, top = Brush(canvas, x, z), house.height + house.roof_height
    eaves = ((0.0, house.height), (0.6, top), (wide - 0.6, top), (wide, house.height))
    brush.shape(eaves, house.roof, BUILDING)
    facade(brush, house, wide)
