"""The server under load: what batching together gains, what it costs a lone client, and what happens past its capacity.

    python -m benchmarks.serving                       the note's DeepLab with random weights, about 5 minutes
    python -m benchmarks.serving --model demo-deeplab  a promoted model of your own, on its own device

Clients are processes of their own. Closed loop: each of N clients asks again as soon as it is answered. Open loop:
requests come at random (Poisson), and latency counts from when they were due. Ratios are within one run. Writes
reports/serving.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from PIL import Image

from benchmarks import peer
from benchmarks.clients import Load, load
from benchmarks.peer import EACH, FIRST, LARGEST
from segbench import predict
from segbench.core import paths
from segbench.engine import inference
from segbench.serve import answers, listening, photographs
from segbench.serve.networks import Lane
from segbench.serve.scheduler import Limits, Refused, Scheduler

CLIENTS = (1, 2, 4, 8, 16, 32)
PHOTOGRAPH = (512, 1024)  # height, width
SHOWN = ("batch", "p50", "p95", "p99")


class Fake:
    """A model that sleeps, behind the scheduler or, `plain`, one forward for each request."""

    largest = LARGEST

    def __init__(self, plain: bool) -> None:
        self.sizes: list[int] = []
        self.app = FastAPI(openapi_url=None)
        self.app.post("/x")(self.alone if plain else self.together)
        self._one = asyncio.Lock()
        self.scheduler: Scheduler[Fake, int, int] = Scheduler([self._forward], Limits(64, 1e9))

    async def _forward(self, model: Fake, items: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(FIRST + EACH * len(items))
        self.sizes.append(len(items))
        return items

    async def alone(self, request: Request) -> Response:
        await request.body()
        async with self._one:  # one device
            await self._forward(self, [0])
        return Response(b"x")

    async def together(self, request: Request) -> Response:
        await request.body()
        try:
            async with self.scheduler.admit(1, asyncio.get_running_loop().time() + 60) as ticket:
                await ticket.submit({self: 0})[self]
        except Refused:
            return Response(b"x", 503)
        return Response(b"x")


@contextlib.contextmanager
def serving(fake: Fake) -> Iterator[int]:
    listener = listening.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(fake.app, log_level="critical"))

    async def run() -> None:
        async with fake.scheduler.running():
            await server.serve([listener])

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


class Command:
    """`python -m segbench.serve`, from its start to its end."""

    def __init__(self, *arguments: str) -> None:
        started = time.perf_counter()
        command = [sys.executable, "-m", "segbench.serve", "--port", "0", "--quiet", "--no-page", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline() if self.process.stdout else ""
        self.ready = time.perf_counter() - started
        self.port = int(said.rpartition(":")[2].strip(" /\n"))

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self.text("/metrics").splitlines() if line.startswith(name)]
        return sum(float(line.split()[-1]) for line in lines)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def bare(name: str | None, body: bytes, largest: int) -> dict[str, float]:
    """Seconds of each part of one request, called directly, and the images a second in batches of `largest`."""
    (chosen,) = predict.choose([name] if name else None)[:1]
    lane = Lane(0, "auto")
    model, card, size = lane.load(chosen), chosen.card, chosen.card.size
    image = photographs.decode(body, [size])
    scores = asyncio.run(lane.run(lane._forward, model, card, image.seen[size][None]))[0].scores

    def seconds(call: Callable[[], object]) -> float:
        took = []
        for _ in range(15):
            started = time.perf_counter()
            call()
            took.append(time.perf_counter() - started)
        return statistics.median(took)

    def forward(batch: int) -> float:
        images = np.repeat(image.seen[size][None], batch, 0)
        return seconds(lambda: asyncio.run(lane.run(lane._forward, model, card, images)))

    def encode() -> None:
        categories = inference.class_map(scores, image.pixels.shape[:2]).cpu().numpy()
        answers.mask(image.pixels, answers.Maps(categories, None, card.labels))

    together, alone = forward(largest), forward(1)
    torch.set_num_threads(1)  # as the server's pool
    return {
        "decode": seconds(lambda: photographs.decode(body, [size])),
        "forward": alone,
        "encode": seconds(encode),
        "largest": largest,
        "images_per_second": largest / together,
    }


def row(cells: Sequence[object]) -> None:
    print("  ".join(f"{cell:>10}" for cell in cells), flush=True)


def fakes(seconds: float) -> dict[str, Any]:
    """The scheduler against a plain server of one forward for each request, and against the engines that are installed,
    with a model that sleeps."""
    print(f"\nA fake model of {FIRST * 1000:.0f} ms and {EACH * 1000:.0f} ms an image; answers a second")
    engines = peer.installed()
    row(("clients", "plain", *engines, "ours", *(f"to {name}" for name in ("plain", *engines)), *SHOWN))
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        others = {"plain": (stack.enter_context(serving(Fake(True))), "/x")}
        others |= {name: (stack.enter_context(peer.serving(name)), peer.ROUTE) for name in engines}
        own = stack.enter_context(serving(ours := Fake(False)))
        for clients in CLIENTS:

            def rate(port: int, path: str, clients: int = clients) -> Load:
                return Load.of(clients, seconds, load("closed", port, path, b"1", clients, seconds))

            theirs = {name: rate(*where).rate for name, where in others.items()}
            before = len(ours.sizes)
            mine = rate(own, "/x")
            batch = statistics.mean(ours.sizes[before:])
            ratios = {f"to_{name}": mine.rate / their for name, their in theirs.items()}
            found[str(clients)] = {**theirs, **ratios, "batch": batch, **mine._asdict()}
            cells = [f"{value:.2f}" for value in (*theirs.values(), mine.rate, *ratios.values())]
            row((clients, *cells, f"{batch:.1f}", *mine.shown()))
    return found


def real(name: str | None, body: bytes, seconds: float) -> dict[str, Any]:
    """The command with a real model."""
    server = Command(*(["--model", name] if name else []))
    try:
        served = json.loads(server.text("/v1/models"))["models"][0]
        parts = bare(name, body, served["largest_batch"])
        alone = parts["decode"] + parts["forward"] + parts["encode"]
        path = f"/v1/models/{served['model']}/mask"
        found: dict[str, Any] = {"bare": parts, "ready_seconds": server.ready}
        print(f"\nBare: {', '.join(f'{key} {value:.4g}' for key, value in parts.items())}")
        row(("clients", "images/s", "of bare", "batch", "p50", "p95", "p99", "other", "memory"))
        for clients in CLIENTS:
            before = server.metric("segbench_batch_size_sum"), server.metric("segbench_batch_size_count")
            seen = Load.of(clients, seconds, load("closed", server.port, path, body, clients, seconds))
            after = server.metric("segbench_batch_size_sum"), server.metric("segbench_batch_size_count")
            batch = (after[0] - before[0]) / (after[1] - before[1])
            memory = psutil.Process(server.process.pid).memory_info().rss / 1e9
            share, other = (
                seen.rate / parts["images_per_second"],
                sum(seen.statuses.values()) - seen.statuses.get(200, 0),
            )
            found[str(clients)] = {**seen._asdict(), "batch": batch, "memory_gb": memory}
            row(
                (
                    clients,
                    f"{seen.rate:.1f}",
                    f"{share:.2f}",
                    f"{batch:.1f}",
                    *seen.shown(),
                    other,
                    f"{memory:.2f} GB",
                )
            )
        best = max(found[str(clients)]["rate"] for clients in CLIENTS)
        over = Load.of(0, seconds, load("opened", server.port, path, body, 1.2 * best, seconds))
        found["p50_to_bare"] = found["1"]["p50"] / alone
        found["saturation"] = best / parts["images_per_second"]
        found["open_loop"] = over._asdict()
        computed = server.metric("segbench_batch_size_sum")
        load("leave", server.port, path, body, 60, 0.02)
        time.sleep(3)
        found["left_computed"] = server.metric("segbench_batch_size_sum") - computed
        print(f"one client: p50 is {found['p50_to_bare']:.2f} x decode + forward + encode (target <= 1.10)")
        print(f"saturation: {found['saturation']:.2f} of the bare forward's images a second (target >= 0.90)")
        print(f"120 % of capacity, open loop: {over.statuses}, accepted p50, p95, p99: {', '.join(over.shown())}")
        left = f"{found['left_computed']:.0f} images computed (target: none but those of a batch under way)"
        print(f"60 clients that left after 20 ms: {left}")
    finally:
        server.end()
    return found


def start() -> dict[str, float]:
    """Start to ready against the imports that no such server can do without."""
    imports = (
        "from segbench.architectures.parts import torchvision_ops; torchvision_ops.ensure_importable()\n"
        "import torch, torchvision, transformers"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", imports], check=True)
    return {"imports_seconds": time.perf_counter() - started}


def photograph() -> bytes:
    """Coarse noise, as JPEG."""
    coarse = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(PHOTOGRAPH[::-1], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="STUDY|DIR", help="a promoted model; default: one made for this")
    parser.add_argument("--seconds", type=float, default=10, metavar="N", help="of each row; default: 10")
    parser.add_argument("--only", choices=("fake", "real"), help="only the fake model, or only a real one")
    arguments = parser.parse_args(argv)
    found: dict[str, Any] = {}
    if arguments.only != "real":
        found["fake"] = fakes(arguments.seconds)
    if arguments.only != "fake":
        found |= promoted(arguments.model, arguments.seconds)
    (paths.reports() / "serving.json").write_text(json.dumps(found, indent=1))
    return 0


def promoted(name: str | None, seconds: float) -> dict[str, Any]:
    """The command with a promoted model, or with one that is made for this."""
    with tempfile.TemporaryDirectory() as folder:
        if not name:
            reports = paths.reports().resolve()
            os.environ |= {"SEGBENCH_STORAGE": folder, "SEGBENCH_REPORTS": str(reports)}
            from tests.serving import promote

            promote("deeplab", model_size="resnet50", size=(256, 256))
        found: dict[str, Any] = {**start(), "real": real(name, photograph(), seconds)}
    ratio = found["real"]["ready_seconds"] / found["imports_seconds"]
    print(f"start to ready: {ratio:.2f} x importing torch, torchvision and transformers (target <= 2)")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
