"""The weather: what it makes of the light and of the sky."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from segbench.data.synthetic.canvas import Camera, Light
from segbench.data.synthetic.colour import Colour, mix, scaled
from segbench.data.synthetic.dice import Dice


class Weather(NamedTuple):
    """One kind of weather."""

    top: Colour  # of the sky
    low: Colour  # the sky at the horizon: the colour of the haze, too
    ambient: Colour
    sunlight: Colour
    elevation: float  # the sun's height, degrees
    clouds: float  # 0 few .. 1 closed
    haze_metres: float
    wet: bool = False
    dark: bool = False


WEATHERS: dict[str, Weather] = {
    "clear": Weather((92, 146, 205), (196, 218, 234), (0.62, 0.65, 0.72), (0.52, 0.47, 0.38), 46, 0.25, 420),
    "cloudy": Weather((128, 162, 200), (214, 223, 230), (0.72, 0.73, 0.77), (0.27, 0.25, 0.21), 42, 0.6, 300),
    "overcast": Weather((176, 182, 190), (220, 222, 224), (0.80, 0.81, 0.83), (0.07, 0.07, 0.06), 60, 0.85, 210),
    "rain": Weather((124, 134, 146), (182, 188, 194), (0.64, 0.66, 0.70), (0.04, 0.04, 0.04), 60, 0.8, 130, wet=True),
    "fog": Weather((196, 201, 206), (214, 217, 219), (0.78, 0.79, 0.81), (0.04, 0.04, 0.03), 60, 0.5, 60),
    "golden": Weather((116, 152, 196), (248, 212, 164), (0.60, 0.58, 0.62), (0.66, 0.46, 0.22), 17, 0.4, 230),
    "dusk": Weather((66, 76, 122), (232, 162, 132), (0.44, 0.42, 0.52), (0.10, 0.06, 0.05), 10, 0.5, 260, dark=True),
}


def light_in(weather: Weather, dice: Dice) -> Light:
    """The light on the street, from a sun anywhere around it."""
    up, around = math.radians(weather.elevation + dice.between(-5, 5)), dice.between(0, 2 * math.pi)
    sun = (math.cos(up) * math.sin(around), math.sin(up), math.cos(up) * math.cos(around))
    shadow = 0.22 + 0.5 * min(0.5, weather.sunlight[0])
    exposure = dice.between(0.95, 1.17)
    sunlight, ambient = scaled(weather.sunlight, exposure), scaled(weather.ambient, exposure)
    return Light(sun, sunlight, ambient, weather.low, weather.haze_metres, shadow, lamps=weather.dark)


def sky_in(weather: Weather, light: Light, camera: Camera, size: tuple[int, int], dice: Dice) -> Image.Image:
    """The sky: a gradient, a glow around the sun, soft clouds that flatten towards the horizon."""
    top, low = weather.top, weather.low
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
    share = np.clip((clouds - 0.62 + 0.32 * weather.clouds) * 5, 0, 1) * (0.75 - 0.35 * fall)
    white = np.array(mix((250, 248, 246), low, 0.75 if weather.dark else 0.25), np.float32)
    shade = white * (0.84 + 0.16 * np.clip((clouds - 0.35) * 3, 0, 1))[..., None]
    sky += (shade - sky) * share[..., None]
    pixels = np.clip(sky, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
