"""The street itself: where its bands lie, and everything flat: road, pavements, grass, markings."""

import math
from collections.abc import Callable
from typing import NamedTuple

from segbench.data.synthetic.canvas import Canvas
from segbench.data.synthetic.city import City
from segbench.data.synthetic.colour import mix, scaled
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.ids import PARKING, ROAD, SIDEWALK, TERRAIN

HORIZON_METRES = 200.0  # what lies farther is a skyline


class Street(NamedTuple):
    """Where the ground's bands end on each side: metres from x = 0; index with `side`: -1 left, 1 right."""

    kerbs: tuple[float, float]  # the road's edge, parking bays included
    paths: tuple[float, float]  # where the pavement begins, behind the verge
    fronts: tuple[float, float]  # where the houses stand
    crossing: float  # the zebra's distance, metres; 0: none
    end: float  # a street that ends at a row of houses; else HORIZON_METRES

    def kerb(self, side: int) -> float:
        """Metres from x = 0 to the road's edge on that side."""
        return self.kerbs[side > 0]

    def path(self, side: int) -> float:
        """Metres from x = 0 to the pavement on that side."""
        return self.paths[side > 0]

    def front(self, side: int) -> float:
        """Metres from x = 0 to the house fronts on that side."""
        return self.fronts[side > 0]


class Thing(NamedTuple):
    """Something that stands in the street: painted after whatever has a larger `depth`, metres."""

    depth: float
    paint: Callable[[], None]
    told_apart: bool = True  # False: part of a group, whose members nobody could count


def lay_out(town: City, dice: Dice) -> Street:
    """A street of a city."""
    bays = [2.2 if town.parking or dice.chance(0.35) else 0.0 for _ in range(2)]
    kerbs = (1.8 + 3.4 * town.lanes + bays[0], 1.9 + bays[1])
    paths = (kerbs[0] + town.verge, kerbs[1] + town.verge)
    fronts = (paths[0] + town.pavement_width, paths[1] + town.pavement_width * dice.between(0.9, 1.3))
    crossing = dice.between(9, 22) if dice.chance(0.5) else 0.0
    return Street(kerbs, paths, fronts, crossing, dice.between(55, 110) if dice.chance(0.35) else HORIZON_METRES)


def pave(canvas: Canvas, town: City, street: Street, dice: Dice) -> None:
    """Paints everything flat: grass to the horizon, the pavements, the road, its markings and patches."""
    far, grass = HORIZON_METRES, mix(town.leaves[0], (150, 150, 96), 0.35)
    canvas.ground(-500, 500, 0, far, grass, TERRAIN)
    for side in (-1, 1):
        kerb, path, front = street.kerb(side), street.path(side), street.front(side)
        canvas.ground(side * kerb, side * (front + 0.6), 0, far, town.pavement, SIDEWALK)
        if path > kerb:
            canvas.ground(side * (kerb + 0.3), side * path, 0, far, grass, TERRAIN)
        joints = 1.5 if town.pavement_width < 3.5 else 1.1
        for k in range(1, int(0.2 * math.sqrt(canvas.camera.focal) / joints) + 3):
            canvas.ground(side * path, side * front, k * joints, k * joints + 0.05, scaled(town.pavement, 0.86), None)
    canvas.ground(-street.kerb(-1), street.kerb(1), 0, far, town.asphalt, ROAD)
    for side in (-1, 1):
        kerb = street.kerb(side)
        if town.parking:
            bays = scaled(town.asphalt, 0.9) if side > 0 else mix(town.asphalt, town.pavement, 0.3)
            canvas.ground(side * (kerb - 2.2), side * kerb, 0, far, bays, PARKING)
            canvas.ground(side * (kerb - 2.25), side * (kerb - 2.15), 0, far, (206, 204, 198), ROAD)
        stone = mix(town.pavement, (206, 202, 194), 0.6)
        canvas.ground(side * kerb, side * (kerb + 0.28), 0, far, stone, SIDEWALK)
        canvas.ground(side * kerb, side * (kerb - 0.12), 0, far, scaled(town.asphalt, 0.62), None)
    for _ in range(dice.whole(2, 5)):  # mended asphalt
        x, z = dice.between(-street.kerb(-1) + 2.5, 1.2), dice.between(4, 40)
        patch = scaled(town.asphalt, dice.pick((0.86, 0.92, 1.08)))
        canvas.ground(x, x + dice.between(0.6, 1.8), z, z + dice.between(1.5, 9), patch, None)
    _markings(canvas, town, street)


def _markings(canvas: Canvas, town: City, street: Street) -> None:
    white = mix((226, 226, 220), town.asphalt, 0.2)
    for lane in range(town.lanes):
        x, z = -1.75 - 3.4 * lane, 2.0
        while z < 110:
            if abs(z + 1.5 - street.crossing) > 4:
                canvas.ground(x - 0.07, x + 0.07, z, z + 3.0, white, None)
            z += 6.0
    if street.crossing:
        left, right = -street.kerb(-1) + 0.4, street.kerb(1) - 0.3
        x = left
        while x < right:
            canvas.ground(x, x + 0.5, street.crossing - 1.6, street.crossing + 1.6, white, None)
            x += 1.05
        canvas.ground(-1.5, right, street.crossing - 3.0, street.crossing - 2.7, white, None)
