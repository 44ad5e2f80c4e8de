"""The cities: each has its own houses, trees, ground, weather and traffic, drawn from its number."""

from typing import NamedTuple

from segbench.data.synthetic.colour import Colour, colours
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.vehicle_models import PAINTS


class Palette(NamedTuple):
    """What a region builds with."""

    kinds: tuple[str, ...]
    walls: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    storeys: tuple[int, int]
    roof: tuple[float, float]  # the height and depth of its roofs, metres


class City(NamedTuple):
    """What the scenes of one city have in common."""

    palette: Palette
    leaves: tuple[Colour, ...]
    weathers: tuple[str, ...]
    plots: tuple[str, ...]  # what stands along the street, as often as it is listed
    asphalt: Colour
    pavement: Colour
    metal: Colour  # lamp posts and poles
    lanes: int  # for the oncoming traffic
    pavement_width: float
    verge: float  # metres of grass between the pavement and the kerb
    parking: bool  # bays along the kerb, marked as parking (id 9)
    trees: float  # how likely a tree is, every ten metres
    traffic: float
    crowd: float
    bonnet: Colour | None  # of the camera's own car
    border: bool  # thin edges out of the region of interest
    tint: Colour  # the camera's white balance, as factors


def city_numbered(number: int) -> City:
    """The same number is the same city; any number is one."""
    dice = Dice(number, 20)
    grey = dice.between(112, 150)
    gloomy = dice.pick((("overcast", "rain"), ("fog", "overcast"), ("dusk", "cloudy"), ("golden", "clear")))
    plots = ("house",) * dice.whole(4, 8) + ("garden", "park", "yard", "gap", "gap")[: dice.whole(2, 5)]
    return City(
        palette=_PALETTES[(number * 3 + dice.whole(0, 1)) % len(_PALETTES)],
        leaves=dice.pick(_LEAVES),
        weathers=("clear", "cloudy", *gloomy, dice.pick(("clear", "golden"))),
        plots=plots,
        asphalt=dice.near((grey, grey * 0.985, grey * 0.98), 8),
        pavement=dice.near(dice.pick(((172, 168, 160), (150, 150, 150), (182, 168, 150), (160, 140, 128))), 10),
        metal=dice.pick(((78, 84, 88), (122, 126, 130), (54, 72, 64), (58, 56, 56))),
        lanes=dice.whole(1, 2),
        pavement_width=dice.between(2.4, 4.5),
        verge=dice.pick((0.0, 0.0, 1.6, 2.2)),
        parking=dice.chance(0.7),
        trees=dice.between(0.15, 0.6),
        traffic=dice.between(0.5, 1.0),
        crowd=dice.between(0.6, 1.3),
        bonnet=dice.near(dice.pick(PAINTS[:6]), 8) if dice.chance(0.5) else None,
        border=dice.chance(0.12),
        tint=(dice.between(0.97, 1.03), 1.0, dice.between(0.96, 1.04)),
    )


_PALETTES = (
    Palette(("classic",), colours("e8ce9e e0b284 d69474 f0e2c6 cea878 e4c4b4"),
            colours("b06044 a0543e"), (3, 5), (1.8, 4.5)),
    Palette(("classic",), colours("e2d8c4 d6ccb8 eae2d2 c6beb0"),
            colours("5c6470 505862"), (5, 6), (2.8, 1.0)),
    Palette(("brick", "classic"), colours("a45c4a 945446 b27058 84584e cec0ac"),
            colours("54545c 6a4a40"), (2, 4), (3.4, 4.5)),
    Palette(("glass", "panel", "glass"), colours("a8b0b8 c4c8cc 808a96 d6d4ce 92a0ac"),
            colours("787c82"), (4, 9), (0.0, 0.0)),
    Palette(("timber", "classic"), colours("eee4d0 e6d2ac dec8ba ced6ca"),
            colours("8e4e3a 76483a 604c44"), (2, 4), (4.2, 4.0)),
    Palette(("panel", "classic"), colours("cecec8 bec6ce d4c4b0 b8c8be c6b2b2"),
            colours("827c78 6e7074"), (4, 7), (0.6, 0.8)),
    Palette(("classic", "brick"), colours("a84238 d6aa54 708e96 e2e0d8 5a7084 7e9680"),
            colours("4a4e56 6c463e"), (2, 4), (2.6, 3.0)),
)  # fmt: skip
_LEAVES = (
    colours("689242 7a9e4c 5c8442"),
    colours("507a46 608454 6a8a5a"),
    colours("c8963a ba6c36 8e8840 a8543a"),
    colours("849e52 76925c e2babe"),
    colours("828c5c 929464 74825e"),
)
