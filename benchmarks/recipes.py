"""Do recipes help? Trains every architecture with recipes and without, on a real dataset, over several seeds.

    CITYSCAPES_DATASET=DIR python -m benchmarks.recipes     leftImg8bit/ and gtFine/; four hours on one core
    python -m benchmarks.recipes --streets                  on drawn streets instead
    python -m benchmarks.recipes --only segformer --seeds 1 --epochs 3

At the tiny size, 64×128 pixels, from random weights. Two recipes are compared with the note's, a constant learning rate
and nothing else:

- published: of studies/cityscapes-50, but with one learning rate for the whole network; a smaller one for the backbone
  is for pretrained weights;
- average: the note's, but the average of the weights over the last steps is scored. The training is the same.

The published recipe and the note's each have their own learning rate, since one that decays is half as large on
average: the best of RATES, and of further ones where that is the lowest or the highest, in one training with a seed
that is not used again. Weights, batches and epochs are the same, so that the runs of a seed are a pair. Reported is the
mean difference of the last epoch's mIoU with its 95 % interval by Student's t over the seeds. The best epoch's would be
chosen on the images that score it, which flatters the curve that fluctuates more. Writes reports/recipes.json after
each run, and skips runs that it holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import ttest_rel

from segbench import architectures
from segbench.core import paths, protocol
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.core.protocol import Search
from segbench.core.recipe import OFF, Recipe
from segbench.core.records import Hyperparameters, from_json, to_json
from segbench.data import packing, streets, subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset
from segbench.engine import training
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

SIZE = (64, 128)
BATCH = 8
RATES, WEIGHT_DECAY = (1e-3, 3e-3, 1e-2), 1e-2  # of AdamW
LADDER = (1e-4, 3e-4, *RATES, 3e-2, 1e-1)
TUNING_SEED = 1000
STUDY = "cityscapes-50"
AVERAGE = Recipe(ema=0.98)  # of about 50 steps, 4 % of these trainings; published ones: 0.9998 over 10**5 steps, 5 %
_MOST = (300, 100)  # images to train on and to validate on
_STREETS = (240, 48)  # drawn for training and for validation


@dataclass(frozen=True)
class Run:
    architecture: str
    recipe: Recipe
    seed: int
    lr: float
    miou: float  # of the last epoch
    best_miou: float  # of the best, as a trial's value is
    nll: float  # of the last epoch
    seconds: float


def main(argv: list[str] | None = None) -> int:
    folder = paths.protocol_folder(STUDY)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streets", action="store_true", help="draw the images")
    parser.add_argument("--only", nargs="+", choices=protocol.architecture_names(folder), metavar="ARCHITECTURE")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, default=30, metavar="N")
    arguments = parser.parse_args(argv)
    dataset, device = _dataset(arguments.streets), compute.choose("cpu")
    about = {"data": dataset.folder.name, "epochs": arguments.epochs, "device": device.description}
    path = paths.reports() / "recipes.json"
    runs = _known(path, about)

    def run(name: str, recipe: Recipe, seed: int, lr: float) -> float:
        for known in runs:
            if (known.architecture, known.recipe, known.seed, known.lr) == (name, recipe, seed, lr):
                return known.miou
        runs.append(_run(name, recipe, seed, lr, dataset, arguments.epochs, device))
        written = {**about, "date": f"{datetime.now(UTC):%Y-%m-%d}", "runs": [to_json(run) for run in runs]}
        path.write_text(json.dumps(written, indent=1))
        return runs[-1].miou

    for name in arguments.only or protocol.architecture_names(folder):
        published = recipe_of(folder, name)
        rate, published_rate = (best_rate(partial(run, name, recipe, TUNING_SEED)) for recipe in (OFF, published))
        for label, recipe, lr in (("published", published, published_rate), ("average", AVERAGE, rate)):
            pairs = [(run(name, recipe, seed, lr), run(name, OFF, seed, rate)) for seed in range(arguments.seeds)]
            print(f"{name}, {label} at {lr:g} against off at {rate:g}: {_summary(pairs)}", flush=True)
    return 0


def recipe_of(folder: Path, name: str) -> Recipe:
    """The architecture's in that study, but with one learning rate for the whole network."""
    published = protocol.load(folder).recipe_of(protocol.load_architecture(folder, name))
    return published.changed({"backbone_lr": 1.0, "layer_decay": 1.0})


def best_rate(score: Callable[[float], float]) -> float:
    """Of RATES, or further on LADDER for as long as the best is the lowest or the highest that was tried."""
    low, high = (LADDER.index(end(RATES)) for end in (min, max))
    while True:
        best = max(LADDER[low : high + 1], key=score)
        if best == LADDER[low] and low > 0:
            low -= 1
        elif best == LADDER[high] and high + 1 < len(LADDER):
            high += 1
        else:
            return best


def _dataset(drawn: bool) -> Dataset:
    given = paths.dataset(None)
    if not drawn:
        if given is None:
            raise UserError(f"{paths.DATASET_VARIABLE} names no dataset; set it, or add --streets")
        return packing.prepare(given, SIZE, paths.cache())
    root = paths.storage() / "recipes-streets"
    if not root.is_dir():
        streets.write(root, *_STREETS, 2 * SIZE[0], 2 * SIZE[1], seed=0)
    return packing.prepare(root, SIZE, paths.cache())


def _known(path: Path, about: dict[str, Any]) -> list[Run]:
    """The runs of an earlier call on the same data with the same settings."""
    if not path.is_file():
        return []
    content = json.loads(path.read_text())
    same = all(content.get(key) == value for key, value in about.items())
    return [from_json(Run, run) for run in content["runs"]] if same else []


def _run(name: str, recipe: Recipe, seed: int, lr: float, dataset: Dataset, epochs: int, device: Compute) -> Run:
    trained, scored = (min(most, len(split)) for most, split in zip(_MOST, (dataset.train, dataset.val), strict=True))
    chosen = subsets.draw_search(dataset, Search(1, 1, trained, scored, select_on="val"))
    train, val = (
        Batches(split, indices, BATCH, device.device)
        for split, indices in ((dataset.train, chosen.train), (dataset.val, chosen.val))
    )
    model, _ = architectures.create(name, len(DEFAULT), "random", {"size": "tiny"}, seed)
    hyperparameters = Hyperparameters(lr, WEIGHT_DECAY, "adamw", {}, recipe)
    state = training.begin(model, hyperparameters, device)
    records = list(training.fit(state, train, val, epochs=epochs, seed=seed))
    last, best, seconds = (
        records[-1].miou,
        max(record.miou for record in records),
        sum(record.seconds.total for record in records),
    )
    label = {OFF: "off", AVERAGE: "average"}.get(recipe, "published")
    print(f"{name}, {label}, seed {seed}, lr {lr:g}: mIoU {last:.4f}, best {best:.4f}, {seconds:.0f} s", flush=True)
    return Run(name, recipe, seed, lr, last, best, records[-1].val_nll, seconds)


def _summary(pairs: list[tuple[float, float]]) -> str:
    """pairs: with the recipe and without, of each seed."""
    on, off = zip(*pairs, strict=True)
    means = statistics.mean(on), statistics.mean(off)
    known = f"{means[0]:.4f} and {means[1]:.4f}, {100 * (means[0] - means[1]):+.1f} points"
    if len(pairs) < 2:
        return f"{known}, one seed"
    interval = ttest_rel(on, off).confidence_interval(0.95)
    return f"{known} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f}), {len(pairs)} seeds"


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
