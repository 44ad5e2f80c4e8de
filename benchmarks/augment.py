"""What augmentation costs, and what it buys on photographs.

    python -m benchmarks.augment                    its share of a step of the smallest network
    python -m benchmarks.augment --data DIR         studies/augment on a folder with leftImg8bit/ and gtFine/

The cost: batches of studies/augment's variants and of all operations together against plain batches and a training
step of EfficientViT-B0, all in turn, the median of the pairs and their range. The gain: the architectures of
studies/augment under a protocol for photographs, searched, promoted and reported by the ordinary commands; run again,
it resumes.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from segbench import architectures, promote, search, stats
from segbench.core import paths, protocol
from segbench.core.augment import Augment
from segbench.core.records import Hyperparameters
from segbench.data import packing, streets
from segbench.data.batches import Batch, Batches
from segbench.engine import training
from segbench.report.__main__ import main as report
from segbench.report.numbers import comparison, tables
from segbench.runtime import compute, terminal

Result = TypeVar("Result")

SIZE = (256, 256)
BATCH, BATCHES = 8, 2
EVERYTHING = Augment(0.5, (0.5, 2.0), 0.4, 10.0, 0.3, 1.0, 0.05, "randaugment", "reflect")
PHOTOGRAPHS = """title = "Augmentation on photographs"
data = {{ size = {size} }}
search = {{ trials = 1, epochs = 2, train_images = 80, val_images = 24 }}
final = {{ epochs = {epochs}, seeds = {seeds} }}
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR")
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="of the cost")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("HEIGHT", "WIDTH"), help="of the gain")
    parser.add_argument("--epochs", type=int, default=30, metavar="N", help="of the gain")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of the gain")
    arguments = parser.parse_args(argv)
    if arguments.data:
        _gain(arguments.data, arguments.size, arguments.epochs, range(arguments.seeds))
    else:
        _cost(arguments.pairs)
    return 0


def _cost(pairs: int) -> None:
    device = compute.choose("cpu")
    folder = paths.protocol_folder("augment")
    own = [protocol.load_architecture(folder, name) for name in protocol.architecture_names(folder)]
    variants = [(each.title, each.augment) for each in own if each.augment] + [("everything", EVERYTHING)]
    model, _ = architectures.create("efficientvit", 8, "random", {"size": "b0"}, 0)
    state = training.begin(model, Hyperparameters(1e-3, 1e-4, "adamw", {}), device)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        streets.write(Path(scratch) / "streets", BATCH * BATCHES, 2, 256, 512, 0)
        data = packing.prepare(Path(scratch) / "streets", SIZE, Path(scratch) / "cache").train
        indices = np.arange(BATCH * BATCHES)
        for title, augment in variants:
            plain, augmented = (Batches(data, indices, BATCH, device.device, asked) for asked in (None, augment))
            measured = [_pair(plain, augmented, state, epoch) for epoch in range(pairs + 1)][1:]
            milliseconds, shares = zip(*measured, strict=True)
            rows.append([title, _spread(milliseconds, "{:.1f}"), _spread(shares, "{:.1%}")])
    heading = f"{device.description}, batches of {BATCH} at {SIZE[0]}×{SIZE[1]}, step of EfficientViT-B0"
    terminal.table(heading, ["augmentation", "ms a batch", "share of a step"], rows, right={1, 2})


def _pair(plain: Batches, augmented: Batches, state: training.State, epoch: int) -> tuple[float, float]:
    """Milliseconds per batch that augmentation adds, and their share of a training step with plain batches."""
    without, batches = _timed(lambda: list(plain.shuffled(0, epoch)))
    with_it, _ = _timed(lambda: list(augmented.shuffled(0, epoch)))
    steps, _ = _timed(lambda: list(map(functools.partial(_step, state), batches)))
    return 1e3 * (with_it - without) / BATCHES, (with_it - without) / (without + steps)


def _step(state: training.State, batch: Batch) -> None:
    model = state.model.train()
    with state.compute.autocast():
        outputs = state.forward(batch.images)
    loss = torch.stack(list(model.losses(outputs, batch.labels).values())).sum()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()


def _timed(call: Callable[[], list[Result]]) -> tuple[float, list[Result]]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _spread(values: tuple[float, ...], form: str) -> str:
    median, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low}–{high})"


def _gain(data: str, size: tuple[int, int], epochs: int, seeds: range) -> None:
    where = ["--protocol", str(_protocol(size, epochs, seeds))]
    for command in (search.main, promote.main):
        command([*where, "--data", data])
    report(where)
    summaries = tables.summaries(comparison.read(Path(where[1]), where[1]))
    none = next(row for row in summaries if row.candidate.name.endswith("@none"))
    rows = [[row.candidate.title, *_against(row, none)] for row in summaries]
    columns = ["", "mIoU, mean ± deviation", "points against none, 95 % over images", "95 % over seeds"]
    terminal.table(f"{epochs} epochs, {size[0]}×{size[1]}, {len(seeds)} seeds", columns, rows, right={1, 2, 3})


def _protocol(size: tuple[int, int], epochs: int, seeds: range) -> Path:
    """A folder with the architectures of studies/augment, in the reports' folder."""
    folder = paths.reports() / "augment-photographs"
    folder.mkdir(exist_ok=True)
    for toml in paths.protocol_folder("augment").glob("*@*.toml"):
        shutil.copy(toml, folder)
    text = PHOTOGRAPHS.format(size=list(size), epochs=epochs, seeds=list(seeds))
    (folder / "protocol.toml").write_text(text, encoding="utf-8")
    return folder


def _against(row: tables.Summary, none: tables.Summary) -> Iterator[str]:
    own = stats.seed_summary(row.value_of_seed)
    yield f"{own.mean:.4f} ± {own.spread:.4f}"
    if row is none:
        yield from ("", "")
        return
    by_image = stats.difference(row.candidate.runs, none.candidate.runs, stats.miou(none.candidate.labels))[0]
    by_seed = stats.seed_summary([a - b for a, b in zip(row.value_of_seed, none.value_of_seed, strict=True)])
    yield f"{100 * by_image.estimate:+.1f} ({100 * by_image.low:+.1f} to {100 * by_image.high:+.1f})"
    yield f"{100 * by_seed.mean:+.1f} ({100 * by_seed.low:+.1f} to {100 * by_seed.high:+.1f})"


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
