"""The photograph: what the camera and its own car make of a painted canvas."""

import numpy as np
from PIL import Image, ImageFilter

from segbench.core.panoptic import label_of
from segbench.data.synthetic import ids
from segbench.data.synthetic.canvas import UP, Canvas
from segbench.data.synthetic.city import City
from segbench.data.synthetic.colour import scaled
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.weather import Weather

SUPERSAMPLE = 2  # a canvas is this many times as wide and as high as its photograph


def add_own_car(canvas: Canvas, town: City) -> None:
    """The bonnet of the camera's own car (ego vehicle, id 1) and, in a few cities, an edge out of the image (id 3)."""
    w, h = canvas.image.size
    if town.bonnet is not None:
        for k, share in enumerate((0.0, 0.12, 0.3, 0.55)):
            top = h * (0.9 + 0.1 * share)
            rim = [(w * s / 12, top + h * 0.075 * (1 - share) * (s / 6 - 1) ** 2) for s in range(-1, 14)]
            colour = canvas.shade(scaled(town.bonnet, (0.62, 0.98, 0.9, 0.8)[k]), UP, 2.0)
            canvas.fill([*rim, (w * 1.1, h), (-w * 0.1, h)], colour, ids.EGO)
    if town.border:
        edge = max(2, w // 110)
        for x0, x1 in ((0, edge), (w - edge, w)):
            canvas.fill(((x0, 0), (x1, 0), (x1, h), (x0, h)), (14, 14, 16), ids.OUT_OF_ROI)


def develop(canvas: Canvas, town: City, weather: Weather, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
    """Halves the canvas and makes a photograph of it: surfaces, wet roads, vignetting, sensor noise, a soft lens.
    Returns it with the uint16 ids of its pixels."""
    instances = np.asarray(canvas.ids)[1::SUPERSAMPLE, ::SUPERSAMPLE].astype(np.uint16)
    labels = label_of(instances)
    image = np.asarray(canvas.image.reduce(SUPERSAMPLE)).astype(np.float32)
    h, w = labels.shape
    random = dice.generator
    if weather.wet:
        image = _wet(image, labels, int(canvas.camera.horizon / SUPERSAMPLE))
    texture = (random.random((h, w), dtype=np.float32) - 0.5) * _GRAIN[labels]
    for table, cell in ((_TUFTS, max(2, h // 90)), (_STAINS, max(4, h // 12))):
        grid = random.random((h // cell + 2, w // cell // 2 + 2), dtype=np.float32) - 0.5
        texture += np.asarray(Image.fromarray(grid).resize((w, h), Image.Resampling.BICUBIC)) * table[labels]
    across, down = np.linspace(-1, 1, w, dtype=np.float32), np.linspace(-1, 1, h, dtype=np.float32)
    texture += 1 - 0.1 * across[None, :] ** 2 - 0.08 * down[:, None] ** 2
    image *= texture[..., None]
    image *= np.array(town.tint, np.float32)
    noise = 9.0 if weather.dark else 5.0
    image += (random.random((h, w, 3), dtype=np.float32) - 0.5) * noise
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if dice.chance(0.5):
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.4 * max(1.0, h / 512))))
    return np.ascontiguousarray(pixels), instances


def _wet(image: np.ndarray, labels: np.ndarray, horizon: int) -> np.ndarray:
    """Wet ground mirrors what stands above it."""
    h = image.shape[0]
    rows = np.clip(2 * horizon - np.arange(h), 0, h - 1)
    flipped = Image.fromarray(image[rows].astype(np.uint8)).filter(ImageFilter.BoxBlur((1, 6)))
    wet = np.isin(labels, (ids.ROAD, ids.PARKING, ids.SIDEWALK)).astype(np.float32)[..., None]
    reflected: np.ndarray = image * (1 - 0.32 * wet) + np.asarray(flipped).astype(np.float32) * (0.27 * wet)
    return reflected


# label -> how rough a surface looks, as a share of its brightness: pixel by pixel, in tufts, and in broad stains
_ROUGHNESS = {
    ids.EGO: (0.02, 0.0, 0.02),
    ids.ROAD: (0.07, 0.04, 0.12),
    ids.SIDEWALK: (0.05, 0.06, 0.12),
    ids.PARKING: (0.07, 0.02, 0.05),
    ids.BUILDING: (0.02, 0.02, 0.08),
    ids.VEGETATION: (0.12, 0.16, 0.05),
    ids.TERRAIN: (0.16, 0.2, 0.2),
    ids.SKY: (0.0, 0.0, 0.0),
    ids.CAR: (0.02, 0.0, 0.03),
}
_OF_THE_REST = (0.02, 0.02, 0.05)
_GRAIN, _TUFTS, _STAINS = np.array([_ROUGHNESS.get(label, _OF_THE_REST) for label in range(256)], np.float32).T
