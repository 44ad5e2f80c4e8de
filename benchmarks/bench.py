"""Compares segbench with what a user would write instead, alternately in one process, several times.

    make bench                                      all rows and all other benchmarks, about 20 minutes on 2 cores
    python -m benchmarks.bench --only deeplab       the rows whose name contains a word

Every row runs segbench's code and its peer (see peers.py) alternately, and reports the median of the paired ratios with
its range. Seconds on a shared machine drift; ratios of neighbouring runs drift less. Peak memory is the most that one
call adds to the memory that was resident before it. Writes reports/bench.json and reports/bench.html.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from benchmarks import page, panoptic, peers
from benchmarks.ours import BATCH, HYPERPARAMETERS, SIZE, inputs, photographs, train_step
from benchmarks.page import Result, Row
from benchmarks.paired import Case, measure
from segbench import architectures
from segbench.architectures.parts import matching
from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.panoptic import PANOPTIC
from segbench.core.protocol import Data, Search
from segbench.core.records import PRECISIONS, to_json
from segbench.data import layouts, packing, streets, subsets
from segbench.data.batches import Batches
from segbench.engine import evaluation, training
from segbench.engine.inference import predict, ready
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

PHOTOGRAPH = (1024, 2048)  # height, width of a Cityscapes image
TRAIN, VAL = 24, 4  # the protocol's 300/50 in small


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="the rows whose name contains WORD")
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="how often each row runs both sides")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of our side; the peers' is float32")
    arguments = parser.parse_args(argv)
    device = compute.choose(arguments.device, arguments.precision)
    print(f"{device.description}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for make in CASES:
            if arguments.only in make.__name__.replace("_", " "):
                for case in make(device, Path(folder)):
                    rows.append(measure(case, arguments.pairs, device))
                    _print(rows[-1])
    if not rows:
        raise UserError(f"no row contains '{arguments.only}'; rows: {', '.join(m.__name__ for m in CASES)}")
    _table(rows)
    result = Result(device.description, torch.__version__, f"{datetime.now(UTC):%Y-%m-%d}", tuple(rows))
    (paths.reports() / "bench.json").write_text(json.dumps(to_json(result), indent=1))
    page.write(paths.reports() / "bench.html", result)
    print(f"\n{paths.reports() / 'bench.html'}")
    return 0


def _photographs(folder: Path) -> Path:
    """Drawn scenes of Cityscapes' size, as PNGs: decoding them takes about as long as decoding Cityscapes."""
    root = folder / "photographs"
    if not root.exists():
        streets.write(root, TRAIN, VAL, *PHOTOGRAPH, seed=0)
    return root


def data(device: Compute, folder: Path) -> Iterator[Case]:
    root = _photographs(folder)
    dataset = packing.prepare(root, SIZE, folder / "cache")
    ours = Batches(dataset.train, np.arange(TRAIN), 8, device.device)
    for peer, workers in (("(a) PIL per item", 0), ("(b) DataLoader, 2 workers", 2)):
        theirs = peers.Photographs(root, "train", SIZE)
        yield Case(
            "data", peer, TRAIN, "images/s", 100 if workers == 0 else 0,
            lambda: list(ours.shuffled(0, 0)),
            functools.partial(_all, theirs, workers),
        )  # fmt: skip


def _all(photographs: peers.Photographs, workers: int) -> list[object]:
    return list(peers.loader(photographs, 8, workers))


def packing_case(device: Compute, folder: Path) -> Iterator[Case]:
    root = _photographs(folder)
    number = iter(range(10**6))
    theirs = [peers.Photographs(root, split, SIZE) for split in ("train", "val")]
    yield Case(
        "packing", "(a) PIL per item", TRAIN + VAL, "images/s", 0,
        lambda: packing.prepare(root, SIZE, folder / f"cache-{next(number)}"),
        lambda: [split[index] for split in theirs for index in range(len(split))],
    )  # fmt: skip
    instances = layouts.of(Data(SIZE, task=PANOPTIC))
    yield Case(
        "packing with instances", "(a) without", TRAIN + VAL, "images/s", 1 / 1.3,
        lambda: packing.prepare(root, SIZE, folder / f"cache-{next(number)}", layout=instances),
        lambda: packing.prepare(root, SIZE, folder / f"cache-{next(number)}"),
    )  # fmt: skip


def train_deeplab(device: Compute, folder: Path) -> Iterator[Case]:
    yield _train("deeplab", "train step, DeepLabV3-ResNet50", "(a) float32, channels first", 2.5, device)


def train_mask2former(device: Compute, folder: Path) -> Iterator[Case]:
    peer = "(a, c) transformers' forward, float32"
    yield _train("mask2former", "train step, Mask2Former-Swin-Small", peer, 2.0, device)


def _train(name: str, row: str, peer: str, target: float, device: Compute) -> Case:
    images, labels = (tensor.to(device.device) for tensor in inputs())
    model, _ = architectures.create(name, peers.CLASSES, "random", {}, 0)
    theirs, step = _peer(name)
    theirs.to(device.device).train()
    optimizer = torch.optim.AdamW(theirs.parameters(), 1e-4)
    plain = images.contiguous()
    ours = train_step(model, images, labels, device)
    return Case(row, peer, BATCH, "images/s", target, ours, lambda: step(theirs, optimizer, plain, labels))


def _peer(name: str) -> tuple[torch.nn.Module, Callable[..., None]]:
    return (peers.deeplab(), peers.deeplab_step) if name == "deeplab" else (peers.mask2former(), peers.mask2former_step)


def inference_deeplab(device: Compute, folder: Path) -> Iterator[Case]:
    yield _inference("deeplab", "(a) float32, channels first", device)


def inference_mask2former(device: Compute, folder: Path) -> Iterator[Case]:
    yield _inference("mask2former", "(a) transformers' forward and processor, float32", device)


def _inference(name: str, peer: str, device: Compute) -> Case:
    drawn = photographs().to(device.device)
    ours = ready(architectures.create(name, peers.CLASSES, "random", {}, 0)[0], device)
    theirs = _peer(name)[0].to(device.device).eval()
    plain = inputs()[0].contiguous().to(device.device)

    @torch.inference_mode()
    def call() -> object:
        return peers.predict(name, theirs, plain)

    return Case(f"inference, {name}", peer, BATCH, "images/s", 2.5, lambda: predict(ours, drawn, device), call)


def loss_mask2former(device: Compute, folder: Path) -> Iterator[Case]:
    """Full-size outputs: 10 predictions of 100 queries, mask maps of 64×64, batch 8."""
    model = peers.mask2former()
    generator = torch.Generator().manual_seed(0)
    layers, batch, queries = 10, 8, 100
    classes = torch.randn(layers, batch, queries, peers.CLASSES + 1, generator=generator).to(device.device)
    masks = torch.randn(layers, batch, queries, 64, 64, generator=generator).to(device.device)
    labels = inputs(batch)[1].to(device.device)
    for tensor in (classes, masks):
        tensor.requires_grad_()

    def ours() -> None:
        torch.stack(list(matching.loss(classes, masks, labels))).sum().backward()

    def theirs() -> None:
        targets, present = peers.mask2former_labels(labels)
        auxiliary = [
            {"class_queries_logits": c, "masks_queries_logits": m}
            for c, m in zip(classes[:-1], masks[:-1], strict=True)
        ]
        terms = model.get_loss_dict(masks[-1], classes[-1], targets, present, auxiliary)
        model.get_loss(terms).backward()

    yield Case("loss alone, Mask2Former", "(c) transformers' loss", 1, "calls/s", 3.0, ours, theirs)


def metrics_alone(device: Compute, folder: Path) -> Iterator[Case]:
    generator = np.random.default_rng(0)
    raw = torch.from_numpy(generator.integers(0, 34, (50, *SIZE)).astype(np.uint8))
    predicted = torch.from_numpy(generator.integers(0, 8, (50, *SIZE)))
    labels = torch.from_numpy(peers.TO_CATEGORY).long()[raw.int()]
    yield Case(
        "metrics alone", "NumPy, image by image", 50, "images/s", 0,
        lambda: evaluation.count(raw, predicted, peers.CLASSES), lambda: peers.confusion(predicted, labels),
    )  # fmt: skip


def trial_deeplab(device: Compute, folder: Path) -> Iterator[Case]:
    """One epoch on 24 images, scored on 4: the protocol's 300/50 in small, the peer decoding PNGs as the note does."""
    yield _trial("deeplab", 2.5, device, folder)


def trial_mask2former(device: Compute, folder: Path) -> Iterator[Case]:
    yield _trial("mask2former", 2.0, device, folder)


def _trial(name: str, target: float, device: Compute, folder: Path) -> Case:
    root = _photographs(folder)
    dataset = packing.prepare(root, SIZE, folder / "cache")
    chosen = subsets.draw_search(dataset, Search(1, 1, TRAIN, VAL, select_on="val"))
    untrained, _ = architectures.create(name, peers.CLASSES, "random", {}, 0)  # once per study, as the search does

    def ours() -> None:
        model = copy.deepcopy(untrained)
        train, val = (
            Batches(s, i, BATCH, device.device) for s, i in ((dataset.train, chosen.train), (dataset.val, chosen.val))
        )
        list(training.fit(training.begin(model, HYPERPARAMETERS, device), train, val, epochs=1, seed=0))

    def theirs() -> None:
        train, val = (
            peers.loader(peers.Photographs(root, split, SIZE), n, 0) for split, n in (("train", BATCH), ("val", VAL))
        )
        model, step = _peer(name)
        model.to(device.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
        for images, labels in train:
            step(model, optimizer, images.to(device.device), labels.to(device.device))
        model.eval()
        with torch.inference_mode():
            for images, labels in val:
                peers.confusion(peers.predict(name, model, images.to(device.device)).cpu(), labels)

    peer = "(a) PNGs decoded each epoch, float32"
    return Case(f"one trial, {name}", peer, TRAIN, "images/s", target, ours, theirs, warm_up=False)


def panoptic_objects(device: Compute, folder: Path) -> Iterator[Case]:
    yield from panoptic.cases(device, folder)


CASES: tuple[Callable[[Compute, Path], Iterator[Case]], ...] = (
    data,
    packing_case,
    metrics_alone,
    loss_mask2former,
    inference_deeplab,
    inference_mask2former,
    train_deeplab,
    train_mask2former,
    trial_deeplab,
    trial_mask2former,
    panoptic_objects,
)


def _print(row: Row) -> None:
    print(f"{row.name} against {row.peer}: {row.ratio:.2f}x", flush=True)


def _table(rows: list[Row]) -> None:
    terminal.table(
        "ours : peer, medians of paired runs", page.COLUMNS, [page.cells(row) for row in rows], right={3, 4, 5, 6, 8, 9}
    )
    for line in page.limits(rows):
        print(line)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
