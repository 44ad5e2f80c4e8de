"""The GPU in one command: its tests, the speed of every architecture, and the note's whole protocol on drawn streets.

    python -m benchmarks.gpu --minutes 8 --out DIR             rerun the same command to go on where it stopped
    python -m benchmarks.gpu --minutes 1 --out DIR --smoke     tiny sizes, to try it on any machine

It needs no network and only what training needs: Optuna, MLflow and plotly may be absent, so nothing is written to
their databases. The search is replaced by as many trainings of the note's own choice. Writes DIR/gpu.json and
DIR/gpu.md; drawn streets and unfinished trainings lie in storage/, so keep it until the command says that all is done.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import paired, peers
from benchmarks.architectures import matrix_limit
from benchmarks.ours import inputs, train_step
from segbench import architectures
from segbench.core import files, paths
from segbench.core import protocol as protocols
from segbench.core.errors import UserError
from segbench.core.protocol import Data, Protocol, Streets
from segbench.core.records import Hyperparameters, to_json
from segbench.data import dataset
from segbench.data.batches import Batches
from segbench.engine import inference, resume, speed, training
from segbench.engine.resume import TrainingSession
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

_STEPS = 10  # timed, after as many that are not
_PACKAGES = ("torch", "torchvision", "transformers", "timm", "numpy")


class Plan(NamedTuple):
    """What is run."""

    options: Mapping[str, Any]  # of every architecture's `build`
    size: tuple[int, int]  # height, width
    batch: int  # of training, and eight times that of inference
    train: int  # images drawn
    val: int
    epochs: int | None = None  # of every training; None: the protocol's
    trials: int | None = None
    names: tuple[str, ...] = architectures.names()


NOTE = Plan({}, (256, 256), 8, 2975, 500)
SMOKE = Plan({"size": "tiny"}, (32, 64), 4, 16, 4, epochs=1, trials=2)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, metavar="N", help="stop after about as many")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the command")
    arguments = parser.parse_args(argv)
    out = paths.writable(arguments.out, "--out")
    run = Run(SMOKE if arguments.smoke else NOTE, compute.choose(arguments.device), 60 * arguments.minutes)
    terminal.say(f"{run.device.description}; what is half done lies in {run.folder}")
    for key, result in run.parts():
        terminal.say(f"{key}: {json.dumps(result)}")
        run.write(out)
    run.write(out)
    terminal.say((out / "gpu.md").read_text())
    terminal.say(f"{out / 'gpu.json'}, {out / 'gpu.md'}")
    if run.left:
        terminal.next_command("the same command: it goes on where it stopped")
    return 0


class Run:
    """All parts of the measurement: done ones are kept in the storage, the others follow until time is up."""

    def __init__(self, plan: Plan, device: Compute, seconds: float) -> None:
        self.plan, self.device, self.ends = plan, device, time.monotonic() + seconds
        versions = {name: metadata.version(name) for name in _PACKAGES if find_spec(name)}
        self.about = {"device": device.description, "versions": versions, "plan": to_json(plan._asdict())}
        self.folder = paths.storage() / "gpu" / resume.identity(self.about)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "done.json"
        self.done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    @property
    def keys(self) -> list[str]:
        trainings = [(name, index) for name in ("deeplab", "mask2former") for index in range(self.trials(name) + 1)]
        protocol = [f"protocol {name} {index}" for name, index in trainings]
        return ["tests", "matrix product", *(f"speed {name}" for name in self.plan.names), *protocol]

    @property
    def left(self) -> list[str]:
        return [key for key in self.keys if key not in self.done]

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.ends

    def trials(self, name: str) -> int:
        return self.plan.trials or self.note.search.trials or 0

    @property
    def note(self) -> Protocol:
        return protocols.load(paths.protocol_folder("cityscapes"))

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Runs what is left, and yields each part as it is done, until time is up."""
        for key in self.left:
            if self.is_over:
                return
            kind, _, rest = key.partition(" ")
            started = time.perf_counter()
            result = self._part(kind, rest)
            if result is None:
                return
            self.done[key] = {**result, "took_seconds": time.perf_counter() - started}
            with files.replaced(self.folder / "done.json") as partial:
                partial.write_text(json.dumps(self.done))
            yield key, self.done[key]

    def _part(self, kind: str, rest: str) -> dict[str, Any] | None:
        if kind == "tests":
            return {"result": _tests(self.device)}
        if kind == "matrix":
            return {"gmac_per_second": matrix_limit(self.device)}
        try:
            return self._speed(rest) if kind == "speed" else self._training(*rest.split())
        except (UserError, ImportError, torch.OutOfMemoryError) as error:
            return {"failed": f"{type(error).__name__}: {error}"}

    def _speed(self, name: str) -> dict[str, Any]:
        plan, device = self.plan, self.device
        model, _ = architectures.create(name, peers.CLASSES, "random", plan.options, 0)
        images, labels = (part.to(device.device) for part in inputs(plan.batch, plan.size, model.normalisation))
        step = train_step(model, images, labels, device)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            step()
        device.forget_peak()
        for _ in range(_STEPS):
            step()
        took = statistics.median(paired.seconds(step, device) for _ in range(_STEPS))
        peak, issued = device.peak_memory_gb(), statistics.median(_issued(step, device) for _ in range(_STEPS))
        ready = inference.ready(model, device)
        card = speed.measure(ready, plan.size, 8 * plan.batch, device)
        return {
            "parameters": card.parameters,
            "training_images_per_second": plan.batch / took,
            "training_host_share": issued / took,  # of a step in which the host still issues work: 1 if it is the limit
            "training_gmac": counter.get_total_flops() / 2e9 / plan.batch,
            "training_peak_gb": peak,
            "inference_images_per_second": card.inference_images_per_second,
            "inference_gmac": speed.gmac(ready, plan.size, device),
            "latency_ms": card.latency_ms,
        }

    def _training(self, name: str, index: str) -> dict[str, Any] | None:
        """One training of the protocol, the last of which is the final one. None if time was up before it ended."""
        started = time.perf_counter()
        folder, final = paths.protocol_folder("cityscapes"), int(index) == self.trials(name)
        architecture = protocols.load_architecture(folder, name)
        data, budget = self._data(), (self.note.final if final else self.note.search)
        train, val = len(data.train), len(data.val)
        if not final:
            train, val = (min(n, given) for n, given in zip(_search_images(self.note), (train, val), strict=True))
        chosen = [np.sort(np.random.default_rng(0).permutation(n)[:some]) for n, some in
                  ((len(data.train), train), (len(data.val), val))]  # fmt: skip
        batches = [Batches(split, indices, self.plan.batch, self.device.device)
                   for split, indices in zip((data.train, data.val), chosen, strict=True)]  # fmt: skip
        hyperparameters = Hyperparameters.from_params(architecture.baseline)
        options = {**self.plan.options, **hyperparameters.model}
        model, _ = architectures.create(name, peers.CLASSES, "random", options, 0)
        state = training.begin(model, hyperparameters, self.device)
        session = TrainingSession(self.folder / f"{name}-{index}", resume.identity(self.about, name, index))
        session.restore(state)
        start_up, epochs = time.perf_counter() - started, self.plan.epochs or budget.epochs
        for record in session.epochs(state, training.fit(state, *batches, epochs=epochs, seed=int(index))):
            if self.is_over and record.epoch == state.epoch < epochs:
                session.write(state)
                return None
        session.clear()
        return {
            "seconds": start_up + sum(record.seconds.total for record in session.records),
            "epochs": epochs,
            "train_images": train,
            "images_per_second": statistics.median(record.images_per_second for record in session.records),
            "evaluation_seconds": statistics.median(record.seconds.evaluation for record in session.records),
            "peak_memory_gb": max(record.peak_memory_gb for record in session.records),
            "miou": session.best.record.miou,
        }

    def _data(self) -> Any:
        plan = self.plan
        streets = Streets(plan.train, plan.val, plan.size)
        return dataset.ready(Protocol("gpu", "", Data(plan.size, streets), self.note.search, self.note.final), None)

    def write(self, out: Path) -> None:
        """The results so far, as JSON and as Markdown."""
        measured = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **self.about, "left": self.left, "parts": self.done}
        for name, text in (("gpu.json", json.dumps(measured, indent=1)), ("gpu.md", "\n".join(self._markdown()))):
            with files.replaced(out / name) as partial:
                partial.write_text(text + "\n")

    def _markdown(self) -> Iterator[str]:
        limit = self.done.get("matrix product", {}).get("gmac_per_second")
        versions = ", ".join(f"{name} {version}" for name, version in self.about["versions"].items())
        height, width = self.plan.size
        yield f"{self.about['device']}; {versions}; {height}×{width}, batch {self.plan.batch}"
        tests = self.done.get("tests", {}).get("result", "not yet")
        yield f"\nTests on CUDA: {tests}. Matrix product: {f'{limit:.0f} GMAC/s' if limit else 'not yet'}.\n"
        yield "| architecture | M parameters | training, images/s | of the limit | peak GB | inference | of the limit |"
        yield "|---|---|---|---|---|---|---|"
        for name in self.plan.names:
            yield f"| {name} | {' | '.join(_cells(self.done.get(f'speed {name}'), limit))} |"
        yield "\n| the note's protocol | trainings done | images/s | peak GB | minutes so far |\n|---|---|---|---|---|"
        for name in ("deeplab", "mask2former"):
            yield f"| {name} | {' | '.join(self._protocol_cells(name))} |"
        if self.left:
            yield f"\n{len(self.left)} of {len(self.keys)} parts are left."

    def _protocol_cells(self, name: str) -> list[str]:
        number = self.trials(name) + 1
        done = [self.done[key] for index in range(number) if (key := f"protocol {name} {index}") in self.done]
        good = [one for one in done if "failed" not in one]
        if not good:
            return [f"{len(done)} of {number}", *(["–"] * 3)]
        rate = statistics.median(one["images_per_second"] for one in good)
        peak = max(one["peak_memory_gb"] for one in good)
        minutes = sum(one["seconds"] for one in good) / 60
        return [f"{len(good)} of {number}", f"{rate:.0f}", f"{peak:.1f}", f"{minutes:.1f}"]


def _issued(step: Callable[[], object], device: Compute) -> float:
    """Seconds until the host has issued a step, on a device that had nothing to do."""
    started = time.perf_counter()
    step()
    issued = time.perf_counter() - started
    paired.wait(device)
    return issued


def _cells(found: dict[str, Any] | None, limit: float | None) -> list[str]:
    if found is None or "failed" in found:
        return [found["failed"] if found else "not yet", *(["–"] * 5)]
    training, inferring = found["training_images_per_second"], found["inference_images_per_second"]
    shares = [
        f"{100 * rate * gmac / limit:.2g} %" if limit else "–"
        for rate, gmac in ((training, found["training_gmac"]), (inferring, found["inference_gmac"]))
    ]
    peak = f"{found['training_peak_gb']:.1f}"
    return [f"{found['parameters'] / 1e6:.1f}", f"{training:.0f}", shares[0], peak, f"{inferring:.0f}", shares[1]]


def _search_images(note: Protocol) -> tuple[int, int]:
    return note.search.train_images, note.search.val_images


def _tests(device: Compute) -> str:
    """The last line of the tests that need CUDA."""
    if device.device.type != "cuda":
        return f"not run: this is {device.device.type}"
    if not find_spec("pytest"):
        return "not run: pytest is not installed"
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-o", "addopts=", "tests/test_cuda.py"]
    lines = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.strip().splitlines()
    return lines[-1] if lines else "not run: pytest printed nothing"


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
