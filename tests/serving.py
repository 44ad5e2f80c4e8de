"""What tests of the server share: promoted models with random weights, photographs, and a server in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from segbench import architectures, predict
from segbench.architectures.segmenter import Segmenter
from segbench.core import files, paths
from segbench.core.labels import DEFAULT, LabelSet
from segbench.core.panoptic import SEMANTIC
from segbench.core.records import (
    Device,
    EpochRecord,
    EpochSeconds,
    Hyperparameters,
    ModelCard,
    SpeedCard,
)
from segbench.data.batches import IMAGENET
from segbench.engine import checkpoint
from segbench.ledger import models
from segbench.serve import api, listening
from segbench.serve.access import Access
from segbench.serve.server import Server
from segbench.serve.service import Service, Settings

Answer = TypeVar("Answer")
SIZE = (32, 64)
DEVICE = Device("cpu", "", 1, 1, "fp32", False)


def promote(
    architecture: str,
    seed: int = 0,
    model_size: str = "tiny",
    size: tuple[int, int] = SIZE,
    labels: LabelSet = DEFAULT,
    task: str = SEMANTIC,
) -> Path:
    """A network with random weights as a promoted model of the study demo-<architecture>. Returns its folder."""
    folder = paths.model_folder(f"demo-{architecture}", seed)
    folder.mkdir(parents=True, exist_ok=True)
    extra = {"aux_loss": True} if architecture == "deeplab" else {}
    options = {"size": model_size, **extra}
    model, origin = architectures.create(architecture, len(labels), "random", options, seed)
    _vary(model)
    checkpoint.save(model, folder / "best.safetensors")
    epoch = EpochRecord(1, 1.0, 1.0, 1.0, 0.5, 0.4, 0.4, (0.4,) * len(labels), EpochSeconds(*[0.0] * 8), 1.0, 1.0)
    card = ModelCard(
        architecture=architecture,
        title=f"{architecture} (tiny)",
        model={"size": model_size},
        categories=labels.names,
        labels=labels,
        size=size,
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        hyperparameters=Hyperparameters(1e-3, 1e-4, "adamw", extra),
        batch_size=1,
        protocol="demo",
        protocol_title="Test streets",
        drawn=True,
        fingerprint="f",
        data_fingerprint="d",
        cache="c",
        weights=origin,
        study=f"demo-{architecture}",
        trial=0,
        attempt=0,
        study_id="s",
        seed=seed,
        epochs=1,
        train_images=1,
        val_images=1,
        best=epoch,
        last=epoch,
        majority_miou=0.1,
        speed=SpeedCard(DEVICE, 1, SIZE, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0),
        device=DEVICE,
        versions={},
        run_id="r",
        seconds=1.0,
        created="2026-01-01T00:00:00+00:00",
        sha256=files.sha256(folder / "best.safetensors"),
        task=task,
    )
    models.write_card(folder / "card.json", card)
    return folder


def _vary(model: Segmenter) -> None:
    """Changes random weights so that they tell different parts of a photograph apart."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0 if name.endswith("bias") else 1.5 if parameter.ndim > 1 else 1)
        if any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
            model.train()
            for _ in range(20):
                model(torch.randn(4, 3, *SIZE, generator=generator))


def photograph(height: int = 40, width: int = 70, seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    """Coarse noise, encoded."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(content)))


def form(content: bytes, field: str = "image") -> tuple[bytes, dict[str, str]]:
    """As `curl -F` sends it."""
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="x.png"\r\n\r\n'
    return head.encode() + content + b"\r\n--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Live:
    """A server in a thread of its own, on a socket of this machine."""

    def __init__(
        self, settings: Settings, access: Access | None = None, admin: bool = False, names: Sequence[str] | None = None
    ) -> None:
        self.service = Service(lambda: predict.choose(names), settings)
        self.app = api.create(self.service, access or Access(), admin)
        self._listener = listening.listen("127.0.0.1", 0)
        self.address = self._listener.getsockname()
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),))
        self._thread.start()
        started.result(60)

    async def _serve(self, started: concurrent.futures.Future[None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server(self.app, self.service)
        async with self.service.running():
            try:
                await self.service.load()
            except BaseException as error:
                started.set_exception(error)
                return
            self.loop.call_soon(started.set_result, None)
            await self.server.serve([self._listener])

    def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Runs a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def stop(self) -> None:
        self.do(self.server.stop())
        self._thread.join(60)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            reply = connection.getresponse()
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, content_type: str = "image/png", **headers: str) -> Reply:
        return self.ask("POST", path, body, content_type=content_type, **headers)

    def many(self, calls: Sequence[tuple[str, bytes]]) -> list[Reply]:
        """Posts all at once."""
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(lambda call: self.post(*call), calls))


def problem(reply: Any, status: int) -> str:
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/problem+json"
    content = reply.json()
    assert set(content) == {"type", "title", "status", "detail"}
    assert content["status"] == status
    return str(content["detail"])


def wait_for(live: Live, path: str) -> Any:
    while (reply := live.ask("GET", path)).status == 202:
        time.sleep(0.01)
    return reply
