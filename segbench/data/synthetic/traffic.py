"""The traffic: vehicles parked and driven, bicycles, and people on foot."""

import math
from functools import partial

from segbench.data.synthetic.brush import Brush
from segbench.data.synthetic.canvas import Canvas
from segbench.data.synthetic.city import City
from segbench.data.synthetic.colour import colours
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.people import Looks, dog, person, rider
from segbench.data.synthetic.street import Street, Thing
from segbench.data.synthetic.vehicle_models import MODELS, PAINTS
from segbench.data.synthetic.vehicles import two_wheeler, vehicle

_CLOTHES = colours("2c303c 465880 544842 d6d0c6 7a7670 56684e b23438 3e7686 ba7a8a 222226 e2be4a c66c3e 7e5c82 e8e6e2")
_SKINS = colours("ecc4a8 d6a888 a87656 76503c")
_CROWD_METRES, _CROWD_GAP = 22.0, 1.5  # walkers farther away than this, and as close to another one, are a group
_HAIRS = colours("302622 5e422e b29260 222022 a8a6a4")


def traffic(canvas: Canvas, town: City, street: Street, dice: Dice) -> list[Thing]:
    """Parked rows along both kerbs, a lane ahead, the oncoming lanes, bicycles and motorcycles."""
    things: list[Thing] = []
    for side in (-1, 1):
        z = dice.between(6, 14)
        room = street.kerb(side) - (1.9 if side > 0 else 1.8 + 3.4 * town.lanes)
        while room > 1 and z < 90:
            if dice.chance(town.traffic * 0.75) and abs(z - street.crossing) > 5:
                x, yaw = side * (street.kerb(side) - 1.1), dice.between(-0.04, 0.04) + (math.pi if side < 0 else 0)
                things.append(motor_vehicle(canvas, dice, x, z, yaw, heavy=0.04))
            z += dice.between(5.8, 8)
    lanes = [(0.0, 0.0, dice.between(10, 34))]
    lanes += [(-3.45 - 3.4 * k, math.pi, dice.between(9, 26)) for k in range(town.lanes)]
    for x, yaw, z in lanes:
        while z < 110:
            if dice.chance(town.traffic * 0.8) and abs(z - street.crossing) > 6:
                at, towards = x + dice.between(-0.3, 0.3), yaw + dice.between(-0.03, 0.03)
                things.append(motor_vehicle(canvas, dice, at, z, towards, heavy=0.16))
            z += dice.between(12, 30)
    for _ in range(dice.whole(1, 4)):
        side, z = dice.pick((-1, 1)), dice.between(6.5, 28)
        x, along = side * (street.kerb(side) + dice.between(0.5, 1.0)), _turned(dice.between(-1.2, 1.2))
        brush = Brush(canvas, x, z, along)
        canvas.shadow(brush.x, z, 1.0, 0.8)
        things.append(Thing(z, partial(two_wheeler, brush, dice.chance(0.3), dice.pick(PAINTS))))
    for _ in range(dice.whole(0, 2)):
        x, z, motor = dice.pick((1.2, -1.9, -2.6)), dice.between(8, 30), dice.chance(0.3)
        brush = Brush(canvas, x, z, _turned(dice.between(0.75, 1.3) * dice.pick((-1, 1))))
        canvas.shadow(x, z, 0.8, 1.6, 1.6)
        things.append(Thing(z, partial(rider, brush, _looks(dice), motor, dice.pick(PAINTS))))
    return things


def walkers(canvas: Canvas, town: City, street: Street, dice: Dice) -> list[Thing]:
    """Walkers on both pavements, alone or in company, and on the zebra; now and then a dog."""
    places: list[tuple[float, float, bool]] = []
    for side in (-1, 1):
        for _ in range(int(dice.whole(3, 7) * town.crowd) + 1):
            x = dice.between(street.path(side) + 0.4, street.front(side) - 0.6)
            z = dice.between(6, 12) * dice.pick((1, 1.6, 3))
            places.append((side * x, z, dice.chance(0.3)))
            if dice.chance(0.3):
                places.append((side * x + dice.between(0.5, 0.8), z + dice.between(0.1, 0.4), False))
    if street.crossing:
        for _ in range(dice.whole(1, 4)):
            x = dice.between(-street.kerb(-1), street.kerb(1))
            places.append((x, street.crossing + dice.between(-1.2, 1.2), True))
    things: list[Thing] = []
    for x, z, turned in places:
        looks = _looks(dice, turned)
        canvas.shadow(x, z, 0.45, looks.tall)
        crowd = z > _CROWD_METRES and sum(math.hypot(x - a, z - b) < _CROWD_GAP for a, b, _ in places) > 1
        things.append(Thing(z, partial(person, Brush(canvas, x, z), looks), told_apart=not crowd))
        if dice.chance(0.05):
            colour = dice.pick(_HAIRS)
            things.append(Thing(z - 0.1, partial(dog, Brush(canvas, x + 0.8, z - 0.1), colour)))
    return things


def motor_vehicle(canvas: Canvas, dice: Dice, x: float, z: float, yaw: float, heavy: float = 0.0) -> Thing:
    """A car or, as often as `heavy` says, something larger. `yaw` as for `vehicle`."""
    if dice.chance(heavy):
        name = dice.pick(("bus", "truck", "truck", "bus", "caravan"))
    else:
        name = dice.pick(("hatch", "saloon", "suv", "hatch", "van", "saloon"))
    model, paint = MODELS[name], dice.near(dice.pick(PAINTS), 12)
    second = dice.near(dice.pick(((226, 226, 222), (120, 134, 118), (178, 172, 160), (92, 118, 156))), 14)
    if name == "caravan":
        paint = dice.near((230, 226, 216), 10)
    along = abs(math.cos(yaw)) > 0.7
    tall = 3.0 if name in ("bus", "truck") else 1.4
    canvas.shadow(x, z, (model.width if along else model.length) + 0.2, tall, model.length if along else model.width)
    return Thing(z, partial(vehicle, canvas, model, x, z, yaw, paint, second))


def _turned(angle: float) -> tuple[float, float]:
    """A direction on the ground, `angle` radians from across the view."""
    return (math.cos(angle), math.sin(angle))


def _looks(dice: Dice, turned: bool = False) -> Looks:
    return Looks(
        skin=dice.near(dice.pick(_SKINS), 8),
        hair=dice.near(dice.pick(_HAIRS), 8),
        top=dice.near(dice.pick(_CLOTHES), 14),
        legs=dice.near(dice.pick(_CLOTHES[:6] + _CLOTHES[9:10]), 12),
        tall=dice.between(1.55, 1.9) if dice.chance(0.88) else dice.between(1.05, 1.35),
        stride=dice.between(0.35, 1.0) * dice.pick((-1, 1)),
        dress=dice.pick(("", "", "coat", "skirt")),
        carries=dice.pick(("", "", "bag", "backpack", "umbrella" if dice.chance(0.2) else "")),
        turned=turned,
    )
