"""The speed of every architecture: against its library's plain use, and against what the machine can multiply.

    make bench                                                 tiny sizes, as in studies/frontier-demo
    python -m benchmarks.architectures --size published        the published ones
    python -m benchmarks.architectures --only segformer        the architectures whose name contains a word
    python -m benchmarks.architectures --layouts               channels_last against channels first, on our side alone

Each pair runs alternately in one process (see paired.py); inference goes from photographs to classes on both sides.
GMAC are counted while the network runs; the machine's limit is a large matrix product in the same precision, timed in
the same run. A network can exceed it: a dilated convolution's taps in the padding are counted, but not computed. Writes
reports/architectures-SIZE.json, or reports/layouts-SIZE.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import torch

from benchmarks import paired, peers, plain
from benchmarks.ours import inputs, photographs, train_step
from benchmarks.page import Row
from benchmarks.paired import Case
from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.records import PRECISIONS, to_json
from segbench.engine import inference, speed
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

TARGET = 1.0  # a training step is no slower than the plain one
_MATRIX = {"cpu": 2048, "cuda": 8192}  # rows and columns of the product that measures the limit
_REPEATS = 10


class Size(NamedTuple):
    options: dict[str, Any]  # of `build`
    image: tuple[int, int]  # height, width
    batch: int


SIZES = {"tiny": Size({"size": "tiny"}, (64, 128), 8), "published": Size({}, (256, 256), 4)}


class Measured(NamedTuple):
    """One architecture: `page.Row`s of its training and its inference, and its arithmetic."""

    architecture: str
    parameters: int
    gmac: float  # of one image's inference
    rows: list[Row]
    limit: float  # GMAC/s of the machine's matrix product


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--only", default="", metavar="WORD", help="the architectures whose name contains WORD")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="how often each row runs both sides")
    parser.add_argument("--layouts", action="store_true", help="compare memory layouts instead of plain use")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of our side; the peers' is float32")
    arguments = parser.parse_args(argv)
    names = [name for name in architectures.names() if arguments.only in name]
    if not names:
        known = ", ".join(architectures.names())
        raise UserError(f"no architecture contains '{arguments.only}'; architectures: {known}")
    device, size = compute.choose(arguments.device, arguments.precision), SIZES[arguments.size]
    title = f"{device.description}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}, {arguments.size} sizes"
    terminal.say(f"{title}, batch {size.batch}, {size.image[0]}×{size.image[1]}")
    limit = matrix_limit(device)
    terminal.say(f"matrix product: {limit:.0f} GMAC/s")
    cases = _layouts if arguments.layouts else _against_plain
    found = []
    for name in names:
        model = architectures.create(name, peers.CLASSES, "random", size.options, 0)[0]
        ready = inference.ready(copy.deepcopy(model), device)
        gmac, parameters = speed.gmac(ready, size.image, device), sum(p.numel() for p in model.parameters())
        rows = [paired.measure(case, arguments.pairs, device) for case in cases(name, model, size, device)]
        found.append(Measured(name, parameters, gmac, rows, limit))
        terminal.say("  ".join(cells(found[-1])))
    terminal.table(title, COLUMNS, [cells(one) for one in found], right=set(range(1, len(COLUMNS))))
    for row in (row for one in found for row in one.rows if row.limit):
        terminal.say(f"{row.name} misses its target; our time by operation: {row.limit}")
    kind = "layouts" if arguments.layouts else "architectures"
    records = [{**one._asdict(), "rows": [to_json(row) for row in one.rows]} for one in found]
    path = paths.reports() / f"{kind}-{arguments.size}.json"
    path.write_text(json.dumps({"title": title, "architectures": records}, indent=1))
    return 0


COLUMNS = [
    "architecture", "M parameters", "GMAC",
    "training, images/s", "peer's", "ratio",
    "inference, images/s", "peer's", "ratio",
    "GMAC/s", "of the limit",
]  # fmt: skip


def cells(one: Measured) -> list[str]:
    """A line of the table."""
    numbers = [f"{one.parameters / 1e6:.1f}", f"{one.gmac:.3g}"]
    for row in one.rows:
        ratio = f"{row.ratio:.2f} ({row.least:.2f}–{row.most:.2f})"
        numbers += [f"{row.ours:.4g}", f"{row.theirs:.4g}", ratio]
    rate = one.gmac * one.rows[-1].ours
    return [one.architecture, *numbers, f"{rate:.3g}", f"{100 * rate / one.limit:.0f} %"]


def matrix_limit(device: Compute) -> float:
    """Billions of multiply-accumulates a second of a large matrix product in the device's precision, median."""
    number = _MATRIX.get(device.device.type, 4096)
    kind = torch.bfloat16 if device.bf16 else torch.float32
    left, right = (torch.randn(number, number, device=device.device, dtype=kind) for _ in range(2))
    torch.mm(left, right)
    took = [paired.seconds(lambda: torch.mm(left, right), device) for _ in range(_REPEATS)]
    return number**3 / statistics.median(took) / 1e9


def _against_plain(name: str, model: Segmenter, size: Size, device: Compute) -> Iterator[Case]:
    peer = plain.of(name, model)
    peer.model.to(device.device)
    images, labels = (tensor.to(device.device) for tensor in inputs(size.batch, size.image, model.normalisation))
    first = images.contiguous()
    step = train_step(copy.deepcopy(model), images, labels, device)
    yield Case(f"{name}, training", peer.description, size.batch, "images/s", TARGET, step, peer.step(first, labels))
    ready, drawn = inference.ready(model, device), photographs(size.batch, size.image).to(device.device)
    peer.model.eval()

    mean, std = (torch.tensor(part, device=device.device)[:, None, None] for part in model.normalisation)

    @torch.inference_mode()
    def theirs() -> object:
        return peer.predict((drawn.permute(0, 3, 1, 2).float().contiguous() / 255 - mean) / std)

    def ours() -> object:
        return inference.predict(ready, drawn, device)

    yield Case(f"{name}, inference", peer.description, size.batch, "images/s", 0, ours, theirs)


def _layouts(name: str, model: Segmenter, size: Size, device: Compute) -> Iterator[Case]:
    """Ours: channels_last; the peer: channels first. What an architecture's file chooses should be the faster."""
    made = inputs(size.batch, size.image, model.normalisation)
    images, labels = (tensor.to(device.device) for tensor in made)
    layouts = (torch.channels_last, torch.contiguous_format)
    sides = [copy.deepcopy(model).to(memory_format=layout) for layout in layouts]  # type: ignore[call-overload]
    seen = [images.contiguous(memory_format=layout) for layout in layouts]
    ours, theirs = (train_step(side, image, labels, device) for side, image in zip(sides, seen, strict=True))
    yield Case(f"{name}, training", "channels first", size.batch, "images/s", 0, ours, theirs)
    ready = [
        inference.ready(side, device).to(memory_format=layout) for side, layout in zip(sides, layouts, strict=True)
    ]  # type: ignore[call-overload]

    def scored(index: int) -> object:
        with torch.inference_mode():
            return inference.scores(ready[index], seen[index], device)

    yield Case(f"{name}, inference", "channels first", size.batch, "images/s", 0, lambda: scored(0), lambda: scored(1))


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
