"""What crops cost in training, and how fast windows are against whole images.

    python -m benchmarks.crops

Crops with the published augmentation against a training step on them; an evaluation by windows of the crop's size
against one of whole images, in pixels that the network sees a second. All in turn: the median of the pairs and their
range. On a CPU the time is the process's own, so that other programs count less.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.augment import _step
from segbench import architectures
from segbench.core.augment import Augment
from segbench.core.crops import WHOLE, Passes
from segbench.core.labels import chosen
from segbench.core.records import Hyperparameters
from segbench.data import packing, streets
from segbench.data.batches import Batches
from segbench.engine import evaluation, training
from segbench.engine.passes import windows
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

SIZE, CROP = (512, 1024), (256, 512)
BATCH = 4
PUBLISHED = Augment(flip=0.5, scale=(0.5, 2.0), colour=0.4)
NETWORKS = {"efficientvit": "b0", "segformer": "b0", "deeplab": "tiny"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, metavar="N")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    device = compute.choose(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        streets.write(Path(folder) / "streets", BATCH, 2, *SIZE, 0)
        labels = chosen("cityscapes-19", Path(folder))
        data = packing.prepare(Path(folder) / "streets", SIZE, Path(folder) / "cache", label_set=labels)
        rows = [*_crops(data, device, arguments.pairs), *_windows(data, device, arguments.pairs)]
    sizes = f"images of {SIZE[0]}×{SIZE[1]}, crops and windows of {CROP[0]}×{CROP[1]}"
    terminal.table(f"{device.description}, {sizes}", ["network", "measured", "median", "range"], rows, right={2, 3})
    return 0


def _crops(data: packing.Dataset, device: Compute, pairs: int) -> Iterator[list[str]]:
    """The share of crops, drawn and sampled, in a training step of the smallest network."""
    model, _ = architectures.create("efficientvit", len(data.train.label_set), "random", {"size": "b0"}, 0)
    state = training.begin(model, Hyperparameters(1e-3, 1e-4, "adamw", {}), device)
    train = Batches(data.train, np.arange(BATCH), BATCH, device.device, PUBLISHED, CROP)
    shares = []
    for epoch in range(pairs + 1):
        drawn = _seconds(functools.partial(list, train.shuffled(0, epoch)), device)
        [batch] = train.shuffled(0, epoch)
        step = _seconds(functools.partial(_step, state, batch), device)
        shares.append(drawn / (drawn + step))
    yield ["efficientvit", "crops, share of a step", *_spread(shares[1:], "{:.1%}")]


def _windows(data: packing.Dataset, device: Compute, pairs: int) -> Iterator[list[str]]:
    """The pixels that the network sees a second by windows, over those in whole images."""
    by_windows = Passes.of(SIZE, CROP, None, False, (1.0,))
    for name, size in NETWORKS.items():
        model, _ = architectures.create(name, len(data.val.label_set), "random", {"size": size}, 0)
        model.to(device.device)
        val = Batches(data.val, np.arange(2), BATCH, device.device)
        ratios = []
        for _ in range(pairs + 1):
            rates = []
            for passes in (WHOLE, by_windows):
                model.passes = passes
                seconds = _seconds(functools.partial(evaluation.evaluate, model, val, device), device)
                rates.append(_pixels(passes) / seconds)
            ratios.append(rates[1] / rates[0])
        yield [name, "windows : whole, pixels/s", *_spread(ratios[1:], "{:.2f}")]


def _pixels(passes: Passes) -> int:
    """What a network sees of an image."""
    height, width = passes.window or SIZE
    return windows(passes, SIZE) * height * width


def _seconds(call: Callable[[], object], device: Compute) -> float:
    clock = time.process_time if device.device.type == "cpu" else time.perf_counter
    started = clock()
    call()  # both end with numbers on the host, so that the device has finished
    return clock() - started


def _spread(values: list[float], form: str) -> tuple[str, str]:
    return form.format(statistics.median(values)), f"{form.format(min(values))}..{form.format(max(values))}"


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
