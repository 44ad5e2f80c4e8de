"""Synthetic street scenes in Cityscapes' folders, for training without the real dataset.

A scene is composed in metres from the parts in synthetic/ and painted far to near at twice the size, image and labels
with the same strokes. Then both are halved: the image by averaging, the labels by picking a pixel.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segbench.core.panoptic import label_of
from segbench.data.synthetic.canvas import Camera, Canvas
from segbench.data.synthetic.city import city_numbered
from segbench.data.synthetic.dice import Dice
from segbench.data.synthetic.photograph import SUPERSAMPLE, add_own_car, develop
from segbench.data.synthetic.plots import plots, skyline
from segbench.data.synthetic.roadside import roadside
from segbench.data.synthetic.street import lay_out, pave
from segbench.data.synthetic.traffic import traffic, walkers
from segbench.data.synthetic.weather import WEATHERS, light_in, sky_in
from segbench.runtime import pools

TRAIN_CITIES = ("alderbruck", "belmora", "castrovent", "dunhaven", "eskelund", "fontargent", "grauwinkel", "hollinmere",
                "isterwald", "jorvessa", "kaltenau", "lindemark", "montreval", "norrvik", "ostermoor", "pellagrada",
                "quistorp", "rosendaal")  # fmt: skip
VAL_CITIES = ("silberhain", "tavastrand", "ulmeforde", "valdoria", "westerlo", "zirkenburg")


def draw(seed: int, city: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene of a city -> image (height, width, 3) uint8 RGB, labels (height, width) uint8 raw Cityscapes ids."""
    image, instances = draw_instances(seed, city, height, width)
    return image, label_of(instances)


def draw_instances(seed: int, city: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The same image, with (height, width) uint16 ids as in an instance file: label * 1000 + k, or the label alone."""
    town, dice = city_numbered(city), Dice(seed, city, 1)
    weather = WEATHERS[dice.pick(town.weathers)]
    w, h = width * SUPERSAMPLE, height * SUPERSAMPLE
    focal = dice.between(1.3, 1.5) * math.sqrt(w * h / 2)
    bend = dice.pick((0.0, 0.0, dice.between(-9e-4, 9e-4)))
    camera = Camera(focal, w * dice.between(0.42, 0.56), h * dice.between(0.44, 0.54), dice.between(1.35, 1.7), bend)
    light = light_in(weather, dice)
    canvas = Canvas(sky_in(weather, light, camera, (w, h), dice), camera, light)
    street = lay_out(town, dice)
    pave(canvas, town, street, dice)
    things = skyline(canvas, town, street, dice)
    for side in (-1, 1):
        things += [*plots(canvas, town, street, side, dice), *roadside(canvas, town, street, side, dice)]
    things += [*traffic(canvas, town, street, dice), *walkers(canvas, town, street, dice)]
    for thing in sorted(things, key=lambda thing: -thing.depth):
        canvas.begin(thing.told_apart)
        thing.paint()
    add_own_car(canvas, town)
    return develop(canvas, town, weather, dice)


def write(
    folder: Path,
    train: int,
    val: int,
    height: int,
    width: int,
    seed: int,
    progress: Callable[[], None] | None = None,
    temporary: bool = False,
    instances: bool = True,
) -> None:
    """Writes `train` + `val` scenes of height x width pixels in Cityscapes' folders under `folder`, the two splits from
    different cities; `instances`: with instance files, too.

    Calls `progress` after each scene. Uses all cores from 64 scenes on. A `temporary` folder is removed if this process
    is killed while its worker processes draw.
    """
    size = (height, width)
    jobs = [
        job for split, n in (("train", train), ("val", val)) for job in _jobs(folder, split, n, seed, size, instances)
    ]
    for parent in {path.parent for job in jobs for path in (job.image, job.labels)}:
        parent.mkdir(parents=True, exist_ok=True)
    number = min(os.cpu_count() or 1, len(jobs) // 32)
    if number < 2:
        for job in jobs:
            _write_scene(job)
            if progress is not None:
                progress()
        return
    with pools.processes(number, folder if temporary else None) as drawing:  # which holds Python's lock
        for drawn in [drawing.submit(_write_scene, job) for job in jobs]:
            drawn.result()
            if progress is not None:
                progress()


class _Job(NamedTuple):
    image: Path
    labels: Path
    instances: Path | None  # None: not wanted
    seed: int
    city: int
    height: int
    width: int


def _jobs(folder: Path, split: str, count: int, seed: int, size: tuple[int, int], instances: bool) -> list[_Job]:
    names, first = (TRAIN_CITIES, 0) if split == "train" else (VAL_CITIES, len(TRAIN_CITIES))
    cities = max(1, min(len(names), count, max(6 if split == "train" else 2, count // 10)))
    jobs = []
    for k in range(count):
        city, sequence = k % cities, k // cities
        stem = f"{names[city]}_{sequence:06d}_{19:06d}"  # Cityscapes labels the 20th frame of each sequence
        image = folder / "leftImg8bit" / split / names[city] / f"{stem}_leftImg8bit.png"
        labels = folder / "gtFine" / split / names[city] / f"{stem}_gtFine_labelIds.png"
        ids = labels.with_name(f"{stem}_gtFine_instanceIds.png") if instances else None
        jobs.append(_Job(image, labels, ids, seed * 1_000_000 + k, first + city, *size))
    return jobs


def _write_scene(job: _Job) -> None:
    image, instances = draw_instances(job.seed, job.city, job.height, job.width)
    for path, pixels in ((job.image, image), (job.labels, label_of(instances)), (job.instances, instances)):
        if path is not None:
            Image.fromarray(pixels).save(path, compress_level=1)
