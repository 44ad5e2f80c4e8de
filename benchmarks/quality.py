"""Does speed cost quality? Compares segbench's training with plain training, on a real dataset, over several seeds.

    python -m benchmarks.quality --data DIR         a folder with leftImg8bit/ and gtFine/; takes an hour on one core

Fast is the training of `segbench.search`: bfloat16 if the device supports it, segbench's losses and loop. Plain is that
of peers.py: float32, channels first, transformers' Mask2Former with its loss on random points. Both start from the same
weights, see the same batches in the same order and are scored by the same code. Writes reports/quality.json.
"""

from __future__ import annotations

import argparse
import json
import statistics as numbers
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from benchmarks import peers
from segbench import architectures, stats
from segbench.core import paths
from segbench.core.protocol import Search
from segbench.core.records import Hyperparameters, to_json
from segbench.data import packing, subsets
from segbench.data.batches import Batches
from segbench.engine import evaluation, training
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

CHOSEN = Hyperparameters(2e-3, 1e-4, "adamw", {})
BATCH = 8
NAMES = ("deeplab", "mask2former")


@dataclass(frozen=True)
class Run:
    architecture: str
    path: str  # "fast" | "plain"
    seed: int
    miou: float  # of the best epoch, as a trial's value is
    last_miou: float


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, default=10, metavar="N")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="height and width")
    arguments = parser.parse_args(argv)
    root = paths.dataset(arguments.data)
    assert root
    dataset = packing.prepare(root, (arguments.size,) * 2, paths.cache())
    chosen = subsets.draw_search(dataset, Search(1, 1, 300, 50, select_on="val"))
    device = compute.choose("cpu")
    runs: list[Run] = []
    path = paths.reports() / "quality.json"
    for name in NAMES:
        for seed in range(arguments.seeds):
            for way in ("fast", "plain"):
                train, val = (
                    Batches(s, i, BATCH, device.device)
                    for s, i in ((dataset.train, chosen.train), (dataset.val, chosen.val))
                )
                scores = (_fast if way == "fast" else _plain)(name, train, val, arguments.epochs, seed, device)
                runs.append(Run(name, way, seed, max(scores), scores[-1]))
                print(f"{name}, {way}, seed {seed}: mIoU {max(scores):.4f}, last {scores[-1]:.4f}", flush=True)
                about = {"device": device.description, "date": f"{datetime.now(UTC):%Y-%m-%d}", "size": arguments.size}
                path.write_text(json.dumps({**about, "runs": [to_json(run) for run in runs]}, indent=1))
    _table(runs)
    return 0


def _fast(name: str, train: Batches, val: Batches, epochs: int, seed: int, device: Compute) -> list[float]:
    model, _ = architectures.create(name, peers.CLASSES, "random", {"size": "tiny"}, seed)
    state = training.begin(model, CHOSEN, device)
    return [record.miou for record in training.fit(state, train, val, epochs=epochs, seed=seed)]


def _plain(name: str, train: Batches, val: Batches, epochs: int, seed: int, device: Compute) -> list[float]:
    model, _ = architectures.create(name, peers.CLASSES, "random", {"size": "tiny"}, seed)
    network = model.network.to(memory_format=torch.contiguous_format)
    if name == "mask2former":
        for layer in network.model.pixel_level_module.decoder.encoder.layers:
            del layer.self_attn.forward  # back to transformers' own
    step: Callable[..., None] = peers.deeplab_step if name == "deeplab" else peers.mask2former_step
    call = _as_torchvision(network) if name == "deeplab" else network
    optimizer = torch.optim.AdamW(network.parameters(), CHOSEN.lr, weight_decay=CHOSEN.weight_decay)
    plain = compute.choose(str(device.device), "fp32")
    scores = []
    for epoch in range(epochs):
        torch.manual_seed(seed * 1_000_003 + epoch)
        model.train()
        for batch in train.shuffled(seed, epoch):
            step(call, optimizer, batch.images.contiguous(), batch.labels)
        scores.append(evaluation.evaluate(model, val, plain).scores.miou)
    return scores


def _as_torchvision(network: Any) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """torchvision's forward for segbench's tiny DeepLab: full-size scores of both heads."""

    def forward(images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = network.backbone(images)
        heads = {"out": network.classifier(features["out"]), "aux": network.aux_classifier(features["aux"])}
        resize = torch.nn.functional.interpolate
        return {k: resize(v, size=images.shape[-2:], mode="bilinear", align_corners=False) for k, v in heads.items()}

    return forward


def _table(runs: list[Run]) -> None:
    rows = []
    for name in NAMES:
        scores = {way: [r.miou for r in runs if (r.architecture, r.path) == (name, way)] for way in ("fast", "plain")}
        difference = stats.seed_summary([f - p for f, p in zip(scores["fast"], scores["plain"], strict=True)])
        means = [f"{numbers.mean(v):.4f} ± {numbers.stdev(v) if len(v) > 1 else 0:.4f}" for v in scores.values()]
        rows.append([name, *means, f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"])
    terminal.table(
        "best epoch's mIoU, mean ± deviation over the seeds", ["", "fast", "plain", "fast − plain (95 %)"], rows
    )


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
