"""Synthetic street scenes in Cityscapes' folders: something to train on where the real data set is not at hand.

A scene is composed in metres (streets.py) from parts (street_parts.py) and painted far to near, image and labels with
the same strokes, at twice the size; then both are halved: the image by averaging, the labels by picking a pixel.
"""

import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from segbench.data import street_parts as parts
from segbench.data.street_parts import UP, Brush, Camera, Canvas, Colour, Dice, House, Light, Looks, mix, scaled

SUPERSAMPLE = 2
HORIZON_METRES = 200.0  # what lies farther is a skyline

TRAIN_CITIES = ("alderbruck", "belmora", "castrovent", "dunhaven", "eskelund", "fontargent", "grauwinkel", "hollinmere",
                "isterwald", "jorvessa", "kaltenau", "lindemark", "montreval", "norrvik", "ostermoor", "pellagrada",
                "quistorp", "rosendaal")  # fmt: skip
VAL_CITIES = ("silberhain", "tavastrand", "ulmeforde", "valdoria", "westerlo", "zirkenburg")


def _colours(hexadecimal: str) -> tuple[Colour, ...]:
    """`"e8ce9e d69474"` -> two colours."""
    r, g, b = ([int(word[k : k + 2], 16) for word in hexadecimal.split()] for k in (0, 2, 4))
    return tuple(zip(r, g, b, strict=True))


class Palette(NamedTuple):
    """What a region builds with."""

    kinds: tuple[str, ...]
    walls: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    storeys: tuple[int, int]
    roof: tuple[float, float]  # the height and depth of its roofs, metres


PALETTES = (
    Palette(("classic",), _colours("e8ce9e e0b284 d69474 f0e2c6 cea878 e4c4b4"),
            _colours("b06044 a0543e"), (3, 5), (1.8, 4.5)),
    Palette(("classic",), _colours("e2d8c4 d6ccb8 eae2d2 c6beb0"),
            _colours("5c6470 505862"), (5, 6), (2.8, 1.0)),
    Palette(("brick", "classic"), _colours("a45c4a 945446 b27058 84584e cec0ac"),
            _colours("54545c 6a4a40"), (2, 4), (3.4, 4.5)),
    Palette(("glass", "panel", "glass"), _colours("a8b0b8 c4c8cc 808a96 d6d4ce 92a0ac"),
            _colours("787c82"), (4, 9), (0.0, 0.0)),
    Palette(("timber", "classic"), _colours("eee4d0 e6d2ac dec8ba ced6ca"),
            _colours("8e4e3a 76483a 604c44"), (2, 4), (4.2, 4.0)),
    Palette(("panel", "classic"), _colours("cecec8 bec6ce d4c4b0 b8c8be c6b2b2"),
            _colours("827c78 6e7074"), (4, 7), (0.6, 0.8)),
    Palette(("classic", "brick"), _colours("a84238 d6aa54 708e96 e2e0d8 5a7084 7e9680"),
            _colours("4a4e56 6c463e"), (2, 4), (2.6, 3.0)),
)  # fmt: skip

# name -> sky at the top, sky at the horizon, ambient, sunlight, the sun's height (degrees), cloud cover, haze (metres)
WEATHERS: dict[str, tuple[Colour, Colour, Colour, Colour, float, float, float]] = {
    "clear": ((92, 146, 205), (196, 218, 234), (0.62, 0.65, 0.72), (0.52, 0.47, 0.38), 46, 0.25, 420),
    "cloudy": ((128, 162, 200), (214, 223, 230), (0.72, 0.73, 0.77), (0.27, 0.25, 0.21), 42, 0.6, 300),
    "overcast": ((176, 182, 190), (220, 222, 224), (0.80, 0.81, 0.83), (0.07, 0.07, 0.06), 60, 0.85, 210),
    "rain": ((124, 134, 146), (182, 188, 194), (0.64, 0.66, 0.70), (0.04, 0.04, 0.04), 60, 0.8, 130),
    "fog": ((196, 201, 206), (214, 217, 219), (0.78, 0.79, 0.81), (0.04, 0.04, 0.03), 60, 0.5, 60),
    "golden": ((116, 152, 196), (248, 212, 164), (0.60, 0.58, 0.62), (0.66, 0.46, 0.22), 17, 0.4, 230),
    "dusk": ((66, 76, 122), (232, 162, 132), (0.44, 0.42, 0.52), (0.10, 0.06, 0.05), 10, 0.5, 260),
}
LEAVES = (
    _colours("689242 7a9e4c 5c8442"),
    _colours("507a46 608454 6a8a5a"),
    _colours("c8963a ba6c36 8e8840 a8543a"),
    _colours("849e52 76925c e2babe"),
    _colours("828c5c 929464 74825e"),
)
CAR_PAINTS = _colours("e4e6e8 b0b4b8 787c82 4a4e54 26282e 2c4270 962628 5c7460 c4b8a0 407084 683e38 d6aa46")
CLOTHES = _colours("2c303c 465880 544842 d6d0c6 7a7670 56684e b23438 3e7686 ba7a8a 222226 e2be4a c66c3e 7e5c82 e8e6e2")
SKINS = _colours("ecc4a8 d6a888 a87656 76503c")
HAIRS = _colours("302622 5e422e b29260 222022 a8a6a4")
ACCENTS = _colours("3e5c4c 843430 385070 684e38 c4a054 585c62 708c92")
BARK: Colour = (104, 86, 70)


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


class Street(NamedTuple):
    """Where the ground's bands end on each side: metres from x = 0; index with `side`: -1 left, 1 right."""

    kerbs: tuple[float, float]  # the road's edge, parking bays included
    paths: tuple[float, float]  # where the pavement begins, behind the verge
    fronts: tuple[float, float]  # where the houses stand
    crossing: float  # the zebra's distance, metres; 0: none
    end: float  # a street that ends at a row of houses; else HORIZON_METRES

    def kerb(self, side: int) -> float:
        return self.kerbs[side > 0]

    def path(self, side: int) -> float:
        return self.paths[side > 0]

    def front(self, side: int) -> float:
        return self.fronts[side > 0]


class Thing(NamedTuple):
    """Something that stands in the street: painted after whatever has a larger `depth`, metres."""

    depth: float
    paint: Callable[[], None]


def draw(seed: int, city: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene of a city -> image (height, width, 3) uint8 RGB, labels (height, width) uint8 raw Cityscapes ids."""
    town, dice = _city(city), Dice(seed, city, 1)
    weather = dice.pick(town.weathers)
    w, h = width * SUPERSAMPLE, height * SUPERSAMPLE
    focal = dice.between(1.3, 1.5) * math.sqrt(w * h / 2)
    bend = dice.pick((0.0, 0.0, dice.between(-9e-4, 9e-4)))
    camera = Camera(focal, w * dice.between(0.42, 0.56), h * dice.between(0.44, 0.54), dice.between(1.35, 1.7), bend)
    light = _light(weather, dice)
    canvas = Canvas(_sky(weather, light, camera, (w, h), dice), camera, light)
    street = _lay_out(town, dice)
    _pave(canvas, town, street, dice)
    things = [*_skyline(canvas, town, street, dice)]
    for side in (-1, 1):
        things += [*_plots(canvas, town, street, side, dice), *_furniture(canvas, town, street, side, dice)]
    things += [*_traffic(canvas, town, street, dice), *_people(canvas, town, street, dice)]
    for thing in sorted(things, key=lambda thing: -thing.depth):
        thing.paint()
    _own_car(canvas, town)
    return _develop(canvas, town, weather, dice)


# --- a city and its weather -----------------------------------------------------------------------------------------


def _city(number: int) -> City:
    dice = Dice(number, 20)
    grey = dice.between(112, 150)
    gloomy = dice.pick((("overcast", "rain"), ("fog", "overcast"), ("dusk", "cloudy"), ("golden", "clear")))
    plots = ("house",) * dice.whole(4, 8) + ("garden", "park", "yard", "gap", "gap")[: dice.whole(2, 5)]
    return City(
        palette=PALETTES[(number * 3 + dice.whole(0, 1)) % len(PALETTES)],
        leaves=dice.pick(LEAVES),
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
        bonnet=dice.near(dice.pick(CAR_PAINTS[:6]), 8) if dice.chance(0.5) else None,
        border=dice.chance(0.12),
        tint=(dice.between(0.97, 1.03), 1.0, dice.between(0.96, 1.04)),
    )


def _light(weather: str, dice: Dice) -> Light:
    _, haze, ambient, sunlight, elevation, _, metres = WEATHERS[weather]
    up, around = math.radians(elevation + dice.between(-5, 5)), dice.between(0, 2 * math.pi)
    sun = (math.cos(up) * math.sin(around), math.sin(up), math.cos(up) * math.cos(around))
    shadow = 0.22 + 0.5 * min(0.5, sunlight[0])
    exposure = dice.between(0.95, 1.17)
    return Light(sun, scaled(sunlight, exposure), scaled(ambient, exposure), haze, metres, shadow, weather == "dusk")


def _sky(weather: str, light: Light, camera: Camera, size: tuple[int, int], dice: Dice) -> Image.Image:
    """The sky: a gradient, a glow around the sun, soft clouds that flatten towards the horizon."""
    top, low, _, _, _, cover, _ = WEATHERS[weather]
    w, h = max(2, size[0] // 8), max(2, size[1] // 8)
    rows = np.linspace(0, size[1], h, dtype=np.float32)[:, None]
    fall = np.clip(rows / camera.horizon, 0, 1)
    sky = np.array(top, np.float32) + (np.array(low, np.float32) - np.array(top, np.float32)) * fall[..., None]
    sky = np.repeat(sky, w, axis=1)
    columns = np.linspace(0, size[0], w, dtype=np.float32)[None, :]
    glow_x = camera.centre + camera.focal * light.sun[0] * 1.2
    away = ((columns - glow_x) / size[0]) ** 2 + ((rows - camera.horizon * 0.75) / size[1]) ** 2
    glow = 0.5 * light.sunlight[0] / (1 + 9 * away) * (1 if light.sun[2] > 0 else 0.3)
    sky += (np.array((255, 244, 220), np.float32) - sky) * glow[..., None]
    clouds = np.zeros((h, w), np.float32)
    for octave, weight in ((3, 0.5), (7, 0.3), (15, 0.2)):
        grid = dice.generator.random((octave * 2, octave * 2 + 1), dtype=np.float32)
        clouds += weight * np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC))
    share = np.clip((clouds - 0.62 + 0.32 * cover) * 5, 0, 1) * (0.75 - 0.35 * fall)
    white = np.array(mix((250, 248, 246), low, 0.25 if light.lamps is False else 0.75), np.float32)
    shade = white * (0.84 + 0.16 * np.clip((clouds - 0.35) * 3, 0, 1))[..., None]
    sky += (shade - sky) * share[..., None]
    pixels = np.clip(sky, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


# --- the ground -----------------------------------------------------------------------------------------------------


def _lay_out(town: City, dice: Dice) -> Street:
    bays = [2.2 if town.parking or dice.chance(0.35) else 0.0 for _ in range(2)]
    kerbs = (1.8 + 3.4 * town.lanes + bays[0], 1.9 + bays[1])
    paths = (kerbs[0] + town.verge, kerbs[1] + town.verge)
    fronts = (paths[0] + town.pavement_width, paths[1] + town.pavement_width * dice.between(0.9, 1.3))
    crossing = dice.between(9, 22) if dice.chance(0.5) else 0.0
    return Street(kerbs, paths, fronts, crossing, dice.between(55, 110) if dice.chance(0.35) else HORIZON_METRES)


def _pave(canvas: Canvas, town: City, street: Street, dice: Dice) -> None:
    """Everything flat: grass to the horizon, the pavements, the road, its markings and patches."""
    far, grass = HORIZON_METRES, mix(town.leaves[0], (150, 150, 96), 0.35)
    canvas.ground(-500, 500, 0, far, grass, parts.TERRAIN)
    for side in (-1, 1):
        kerb, path, front = street.kerb(side), street.path(side), street.front(side)
        canvas.ground(side * kerb, side * (front + 0.6), 0, far, town.pavement, parts.SIDEWALK)
        if path > kerb:
            canvas.ground(side * (kerb + 0.3), side * path, 0, far, grass, parts.TERRAIN)
        joints = 1.5 if town.pavement_width < 3.5 else 1.1
        for k in range(1, int(0.2 * math.sqrt(canvas.camera.focal) / joints) + 3):
            canvas.ground(side * path, side * front, k * joints, k * joints + 0.05, scaled(town.pavement, 0.86), None)
    canvas.ground(-street.kerb(-1), street.kerb(1), 0, far, town.asphalt, parts.ROAD)
    for side in (-1, 1):
        kerb = street.kerb(side)
        if town.parking:
            bays = scaled(town.asphalt, 0.9) if side > 0 else mix(town.asphalt, town.pavement, 0.3)
            canvas.ground(side * (kerb - 2.2), side * kerb, 0, far, bays, parts.PARKING)
            canvas.ground(side * (kerb - 2.25), side * (kerb - 2.15), 0, far, (206, 204, 198), parts.ROAD)
        stone = mix(town.pavement, (206, 202, 194), 0.6)
        canvas.ground(side * kerb, side * (kerb + 0.28), 0, far, stone, parts.SIDEWALK)
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


# --- along the street -----------------------------------------------------------------------------------------------


def _house(town: City, dice: Dice, small: bool = False) -> House:
    palette, kind = town.palette, dice.pick(town.palette.kinds)
    wall, high = dice.near(dice.pick(palette.walls), 12), palette.roof[0] * dice.between(0.7, 1.2)
    return House(
        kind=kind,
        wall=wall,
        trim=mix(wall, dice.pick(((244, 240, 232), (236, 234, 230), (112, 104, 98))), 0.7),
        accent=dice.near(dice.pick(ACCENTS), 16),
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


def _plots(canvas: Canvas, town: City, street: Street, side: int, dice: Dice) -> list[Thing]:
    """What stands behind the pavement of one side, plot after plot, from the camera to the street's end."""
    things: list[Thing] = []
    z = dice.between(-8, 3)
    while z < min(street.end, 150):
        kind, x = dice.pick(town.plots), street.front(side)
        long = dice.between(8, 18) if kind != "gap" else dice.between(6, 9)
        end, start = z + long, max(z, parts.NEAR)
        if end < 4:
            z = end
            continue
        if kind == "house":
            _building_shadow(canvas, side, x, start, end, 12.0)
            things.append(Thing(end, partial(parts.building, canvas, _house(town, dice), side, x, start, end)))
        elif kind == "gap":
            canvas.ground(side * (street.kerb(side) - 0.1), side * 80, start, end, town.asphalt, parts.ROAD)
            canvas.ground(side * (x + 2), side * 80, end - 1.5, end, town.pavement, parts.SIDEWALK)
        else:
            things += _open_plot(canvas, town, side, x, start, end, kind, dice)
        z = end
    return things


def _open_plot(
    canvas: Canvas, town: City, side: int, x: float, z0: float, z1: float, kind: str, dice: Dice
) -> list[Thing]:
    """A garden with a small house set back, a park, or a yard, behind a hedge, a fence or a wall."""
    things: list[Thing] = []
    if kind == "garden":
        house = _house(town, dice, small=True)
        things.append(Thing(z1 + 0.1, partial(parts.building, canvas, house, side, x + 6, z0 + 1.5, z1 - 1.5)))
    if kind == "yard":
        ground = mix(town.asphalt, town.pavement, 0.5)
        canvas.ground(side * x, side * (x + 30), z0, z1, ground, parts.PARKING)
        for _ in range(dice.whole(0, 3)):
            things += _vehicle(canvas, dice, side * (x + dice.between(3, 9)), dice.between(z0, z1), math.pi / 2)
    for _ in range({"park": 4, "yard": 1, "garden": 2}[kind]):
        out = dice.between(1.5, 5) if kind == "garden" else dice.between(3, 14)
        things += _tree(canvas, town, side * (x + out), dice.between(max(z0, 6), max(z1, 7)), dice, wild=True)
    colour = dice.near(dice.pick(((150, 140, 128), (176, 164, 146), (140, 84, 70))), 10)
    style = dice.pick(("hedge", "fence", "wall", "fence"))
    tall = dice.between(1.0, 1.9)
    brush = Brush(canvas, side * x, z0, (0.0, 1.0), haze_at=(z0 + z1) / 2)
    if style == "hedge":
        things.append(Thing(z1, partial(_hedge, canvas, side * x, z0, z1, tall, town.leaves[0], dice)))
    else:
        colour, label = (town.metal, parts.FENCE) if style == "fence" else (colour, parts.WALL)
        things.append(Thing(z1, partial(parts.barrier, brush, z1 - z0, tall, colour, label)))
    return things


def _hedge(canvas: Canvas, x: float, z0: float, z1: float, tall: float, leaf: Colour, dice: Dice) -> None:
    core = Brush(canvas, x, z0, (0.0, 1.0), haze_at=(z0 + z1) / 2)
    core.rect(0, 0, z1 - z0, tall * 0.9, scaled(leaf, 0.72), parts.VEGETATION)
    z = z1
    while z > z0:
        parts.foliage(Brush(canvas, x, max(z, 2.0)), dice, (0, tall * 0.55), 0.7, tall * 0.5, leaf, 7)
        z -= 0.9 + z * 0.02


def _building_shadow(canvas: Canvas, side: int, x: float, z0: float, z1: float, height: float) -> None:
    """A house between the sun and the street darkens the pavement and perhaps the road."""
    sx, sy, _ = canvas.light.sun
    reach = height * max(0.0, side * sx) / max(sy, 0.3)
    if canvas.light.shadow < 0.33 or reach < 0.5:
        return
    corners = ((x + 0.3, z0), (x + 0.3, z1), (x - reach, z1), (x - reach, z0))
    canvas.glaze([canvas.project(side * a, 0, z) for a, z in corners], (24, 28, 48), canvas.light.shadow * 0.8)


def _tree(canvas: Canvas, town: City, x: float, z: float, dice: Dice, wild: bool = False) -> list[Thing]:
    height, leaf = dice.between(5, 9) * (1.25 if wild else 1), dice.near(dice.pick(town.leaves), 12)
    brush, slim = Brush(canvas, x, z), dice.between(0.24, 0.34)
    canvas.shadow(x, z, height * slim * 1.4, height * 0.8, height * 0.3)
    if wild and dice.chance(0.25):
        needles = mix(leaf, (52, 84, 66), 0.6)
        return [Thing(z, partial(parts.conifer, brush, height * 1.1, height * 0.24, needles, BARK))]
    return [Thing(z, partial(parts.tree, brush, dice, height, height * slim, leaf, BARK))]


def _furniture(canvas: Canvas, town: City, street: Street, side: int, dice: Dice) -> list[Thing]:
    """Lamp posts, signs, street trees, bins and signals, between the kerb and the pavement."""
    things: list[Thing] = []
    x, tall = side * (street.kerb(side) + 0.5), dice.between(5.5, 8.0)
    z = dice.between(7, 20)
    while z < 100:
        canvas.shadow(x, z, 0.25, tall, 0.2)
        things.append(Thing(z, partial(parts.lamp_post, Brush(canvas, x, z), tall, -side * 1.3, town.metal)))
        z += 24
    for k in range(11):
        z = 7 + 9 * k + dice.between(-2, 2)
        if dice.chance(town.trees) and abs(z - street.crossing) > 3:
            things += _tree(canvas, town, side * (street.kerb(side) + 0.9), z, dice)
    for _ in range(dice.whole(1, 4)):
        z = dice.between(6, 45)
        brush, kind = Brush(canvas, x + side * dice.between(0, 0.4), z), dice.pick((0, 1, 2, 3, 0, 1, 4, 5))
        things.append(Thing(z, partial(parts.sign, brush, kind, dice.between(2.3, 3.0), town.metal)))
    for _ in range(dice.whole(1, 3)):
        z = dice.between(6, 32)
        large = dice.chance(0.12) and town.pavement_width > 3.2  # a skip needs room: it stands before a house
        out = street.front(side) - 1.7 if large else dice.between(street.path(side) + 0.4, street.front(side) - 0.4)
        colour = dice.near(dice.pick(((70, 96, 78), (92, 96, 100), (176, 140, 58), (58, 72, 96), (146, 62, 54))), 14)
        canvas.shadow(side * out, z, 2.6 if large else 0.6, 1.0)
        things.append(Thing(z, partial(parts.litter_bin, Brush(canvas, side * out, z), colour, large)))
    if street.crossing and dice.chance(0.7):
        z = street.crossing - 2.2
        things.append(Thing(z, partial(parts.traffic_light, Brush(canvas, x, z), dice.whole(0, 2), town.metal)))
    return things


def _skyline(canvas: Canvas, town: City, street: Street, dice: Dice) -> list[Thing]:
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
            brush.rect(0, 0, wide, size[1] * 0.6, scaled(leaf, 0.75), parts.VEGETATION)
            things.append(Thing(z, partial(parts.foliage, brush, dice, (wide / 2, size[1] * 0.8), *size, leaf, 12)))
        x += wide
    if dice.chance(0.07):
        z = dice.between(35, 70)
        things.append(Thing(z, partial(parts.bridge, canvas, z, dice.between(4.6, 6), dice.near((158, 154, 148), 12))))
    return things


def _front(canvas: Canvas, house: House, x: float, z: float, wide: float) -> None:
    brush, top = Brush(canvas, x, z), house.height + house.roof_height
    eaves = ((0.0, house.height), (0.6, top), (wide - 0.6, top), (wide, house.height))
    brush.shape(eaves, house.roof, parts.BUILDING)
    parts.facade(brush, house, wide)


# --- traffic and people ---------------------------------------------------------------------------------------------


def _vehicle(canvas: Canvas, dice: Dice, x: float, z: float, yaw: float, heavy: float = 0.0) -> list[Thing]:
    if dice.chance(heavy):
        name = dice.pick(("bus", "truck", "truck", "bus", "caravan"))
    else:
        name = dice.pick(("hatch", "saloon", "suv", "hatch", "van", "saloon"))
    model, paint = parts.MODELS[name], dice.near(dice.pick(CAR_PAINTS), 12)
    second = dice.near(dice.pick(((226, 226, 222), (120, 134, 118), (178, 172, 160), (92, 118, 156))), 14)
    if name == "caravan":
        paint = dice.near((230, 226, 216), 10)
    along = abs(math.cos(yaw)) > 0.7
    tall = 3.0 if name in ("bus", "truck") else 1.4
    canvas.shadow(x, z, (model.width if along else model.length) + 0.2, tall, model.length if along else model.width)
    return [Thing(z, partial(parts.vehicle, canvas, model, x, z, yaw, paint, second))]


def _traffic(canvas: Canvas, town: City, street: Street, dice: Dice) -> list[Thing]:
    """Parked rows along both kerbs, a lane ahead, the oncoming lanes, bicycles and motorcycles."""
    things: list[Thing] = []
    for side in (-1, 1):
        z = dice.between(6, 14)
        room = street.kerb(side) - (1.9 if side > 0 else 1.8 + 3.4 * town.lanes)
        while room > 1 and z < 90:
            if dice.chance(town.traffic * 0.75) and abs(z - street.crossing) > 5:
                x, yaw = side * (street.kerb(side) - 1.1), dice.between(-0.04, 0.04) + (math.pi if side < 0 else 0)
                things += _vehicle(canvas, dice, x, z, yaw, heavy=0.04)
            z += dice.between(5.8, 8)
    lanes = [(0.0, 0.0, dice.between(10, 34))]
    lanes += [(-3.45 - 3.4 * k, math.pi, dice.between(9, 26)) for k in range(town.lanes)]
    for x, yaw, z in lanes:
        while z < 110:
            if dice.chance(town.traffic * 0.8) and abs(z - street.crossing) > 6:
                things += _vehicle(canvas, dice, x + dice.between(-0.3, 0.3), z, yaw + dice.between(-0.03, 0.03), 0.16)
            z += dice.between(12, 30)
    for _ in range(dice.whole(1, 4)):
        side, z = dice.pick((-1, 1)), dice.between(6.5, 28)
        x, along = side * (street.kerb(side) + dice.between(0.5, 1.0)), _turned(dice.between(-1.2, 1.2))
        brush = Brush(canvas, x, z, along)
        canvas.shadow(brush.x, z, 1.0, 0.8)
        things.append(Thing(z, partial(parts.two_wheeler, brush, dice.chance(0.3), dice.pick(CAR_PAINTS))))
    for _ in range(dice.whole(0, 2)):
        x, z, motor = dice.pick((1.2, -1.9, -2.6)), dice.between(8, 30), dice.chance(0.3)
        brush = Brush(canvas, x, z, _turned(dice.between(0.75, 1.3) * dice.pick((-1, 1))))
        canvas.shadow(x, z, 0.8, 1.6, 1.6)
        things.append(Thing(z, partial(parts.rider, brush, _looks(dice), motor, dice.pick(CAR_PAINTS))))
    return things


def _turned(angle: float) -> tuple[float, float]:
    """A direction on the ground, `angle` radians from across the view."""
    return (math.cos(angle), math.sin(angle))


def _people(canvas: Canvas, town: City, street: Street, dice: Dice) -> list[Thing]:
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
        things.append(Thing(z, partial(parts.person, Brush(canvas, x, z), looks)))
        if dice.chance(0.05):
            colour = dice.pick(HAIRS)
            things.append(Thing(z - 0.1, partial(parts.dog, Brush(canvas, x + 0.8, z - 0.1), colour)))
    return things


def _looks(dice: Dice, turned: bool = False) -> Looks:
    return Looks(
        skin=dice.near(dice.pick(SKINS), 8),
        hair=dice.near(dice.pick(HAIRS), 8),
        top=dice.near(dice.pick(CLOTHES), 14),
        legs=dice.near(dice.pick(CLOTHES[:6] + CLOTHES[9:10]), 12),
        tall=dice.between(1.55, 1.9) if dice.chance(0.88) else dice.between(1.05, 1.35),
        stride=dice.between(0.35, 1.0) * dice.pick((-1, 1)),
        dress=dice.pick(("", "", "coat", "skirt")),
        carries=dice.pick(("", "", "bag", "backpack", "umbrella" if dice.chance(0.2) else "")),
        turned=turned,
    )


# --- the camera -----------------------------------------------------------------------------------------------------


def _own_car(canvas: Canvas, town: City) -> None:
    """The bonnet of the camera's own car (ego vehicle, id 1) and, in a few cities, an edge out of the image (id 3)."""
    w, h = canvas.image.size
    if town.bonnet is not None:
        for k, share in enumerate((0.0, 0.12, 0.3, 0.55)):
            top = h * (0.9 + 0.1 * share)
            rim = [(w * s / 12, top + h * 0.075 * (1 - share) * (s / 6 - 1) ** 2) for s in range(-1, 14)]
            colour = canvas.shade(scaled(town.bonnet, (0.62, 0.98, 0.9, 0.8)[k]), UP, 2.0)
            canvas.fill([*rim, (w * 1.1, h), (-w * 0.1, h)], colour, parts.EGO)
    if town.border:
        edge = max(2, w // 110)
        for x0, x1 in ((0, edge), (w - edge, w)):
            canvas.fill(((x0, 0), (x1, 0), (x1, h), (x0, h)), (14, 14, 16), parts.OUT_OF_ROI)


def _table(default: float, **by_label: float) -> np.ndarray:
    table = np.full(256, default, np.float32)
    for name, value in by_label.items():
        table[getattr(parts, name)] = value
    return table


# How rough a surface looks, as a share of its brightness: pixel by pixel, in tufts, and in broad stains.
_GRAIN = _table(0.02, SKY=0.0, ROAD=0.07, PARKING=0.07, SIDEWALK=0.05, VEGETATION=0.12, TERRAIN=0.16)
_TUFTS = _table(0.02, SKY=0.0, CAR=0.0, EGO=0.0, VEGETATION=0.16, TERRAIN=0.2, ROAD=0.04, SIDEWALK=0.06)
_STAINS = _table(0.05, SKY=0.0, CAR=0.03, EGO=0.02, ROAD=0.12, SIDEWALK=0.12, BUILDING=0.08, TERRAIN=0.2)


def _develop(canvas: Canvas, town: City, weather: str, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
    """Halves the canvas and makes a photograph of it: surfaces, wet roads, vignetting, sensor noise, a soft lens."""
    labels = np.ascontiguousarray(np.asarray(canvas.labels)[1::SUPERSAMPLE, ::SUPERSAMPLE])
    image = np.asarray(canvas.image.reduce(SUPERSAMPLE)).astype(np.float32)
    h, w = labels.shape
    random = dice.generator
    if weather == "rain":
        image = _wet(image, labels, int(canvas.camera.horizon / SUPERSAMPLE))
    texture = (random.random((h, w), dtype=np.float32) - 0.5) * _GRAIN[labels]
    for table, cell in ((_TUFTS, max(2, h // 90)), (_STAINS, max(4, h // 12))):
        grid = random.random((h // cell + 2, w // cell // 2 + 2), dtype=np.float32) - 0.5
        texture += np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC)) * table[labels]
    across, down = np.linspace(-1, 1, w, dtype=np.float32), np.linspace(-1, 1, h, dtype=np.float32)
    texture += 1 - 0.1 * across[None, :] ** 2 - 0.08 * down[:, None] ** 2
    image *= texture[..., None]
    image *= np.array(town.tint, np.float32)
    noise = 9.0 if weather == "dusk" else 5.0
    image += (random.random((h, w, 3), dtype=np.float32) - 0.5) * noise
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if dice.chance(0.5):
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.4 * max(1.0, h / 512))))
    return np.ascontiguousarray(pixels), labels


def _wet(image: np.ndarray, labels: np.ndarray, horizon: int) -> np.ndarray:
    """Wet ground mirrors what stands above it."""
    h = image.shape[0]
    rows = np.clip(2 * horizon - np.arange(h), 0, h - 1)
    flipped = Image.fromarray(image[rows].astype(np.uint8)).filter(ImageFilter.BoxBlur((1, 6)))
    wet = np.isin(labels, (parts.ROAD, parts.PARKING, parts.SIDEWALK)).astype(np.float32)[..., None]
    reflected: np.ndarray = image * (1 - 0.32 * wet) + np.asarray(flipped).astype(np.float32) * (0.27 * wet)
    return reflected


# --- a data set -----------------------------------------------------------------------------------------------------


def write(
    folder: Path,
    train: int,
    val: int,
    height: int,
    width: int,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> None:
    """Writes `train` + `val` scenes under `folder` as Cityscapes lays them out, the two splits from different cities.

    Calls `progress` after each scene. Uses every core from 64 scenes on.
    """
    jobs = [*_jobs(folder, "train", train, seed, height, width), *_jobs(folder, "val", val, seed, height, width)]
    for parent in {path.parent for job in jobs for path in (job.image, job.labels)}:
        parent.mkdir(parents=True, exist_ok=True)
    workers = min(os.cpu_count() or 1, len(jobs) // 32)
    if workers < 2:
        for job in jobs:
            _write_scene(job)
            if progress is not None:
                progress()
        return
    # Drawing holds the interpreter's lock, so processes, not threads; spawned: safe beside a parent's own threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            for _ in pool.map(_write_scene, jobs, chunksize=4):
                if progress is not None:
                    progress()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Job(NamedTuple):
    image: Path
    labels: Path
    seed: int
    city: int
    height: int
    width: int


def _jobs(folder: Path, split: str, count: int, seed: int, height: int, width: int) -> list[_Job]:
    names, first = (TRAIN_CITIES, 0) if split == "train" else (VAL_CITIES, len(TRAIN_CITIES))
    cities = max(1, min(len(names), count, max(6 if split == "train" else 2, count // 10)))
    jobs = []
    for k in range(count):
        city, sequence = k % cities, k // cities
        stem = f"{names[city]}_{sequence:06d}_{19:06d}"  # Cityscapes labels the 20th frame of each sequence
        image = folder / "leftImg8bit" / split / names[city] / f"{stem}_leftImg8bit.png"
        labels = folder / "gtFine" / split / names[city] / f"{stem}_gtFine_labelIds.png"
        jobs.append(_Job(image, labels, seed * 1_000_000 + k, first + city, height, width))
    return jobs


def _write_scene(job: _Job) -> None:
    image, labels = draw(job.seed, job.city, job.height, job.width)
    for path, pixels in ((job.image, image), (job.labels, labels)):
        unfinished = path.with_suffix(".tmp")
        Image.fromarray(pixels).save(unfinished, format="PNG", compress_level=1)
        os.replace(unfinished, path)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
