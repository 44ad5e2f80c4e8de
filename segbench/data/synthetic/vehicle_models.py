"""The models of vehicles: outlines, windows, wheels and lamps, in metres; and the paints they come in."""

from typing import NamedTuple

from segbench.data.synthetic.canvas import Point
from segbench.data.synthetic.colour import colours
from segbench.data.synthetic.ids import BUS, CAR, CARAVAN, TRUCK


class Hull(NamedTuple):
    """A body: its outline (metres from the rear, metres up) extruded across its width."""

    outline: tuple[Point, ...]
    glass: tuple[int, ...] = ()  # which stretches of the outline are glass
    panes: tuple[tuple[Point, ...], ...] = ()  # the side windows
    own_colour: bool = True  # False: a cargo box, a tarpaulin: the vehicle's second colour


class Model(NamedTuple):
    """A vehicle: one or more hulls on wheels."""

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

PAINTS = colours("e4e6e8 b0b4b8 787c82 4a4e54 26282e 2c4270 962628 5c7460 c4b8a0 407084 683e38 d6aa46")
