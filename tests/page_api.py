"""An API for tests of the page: it has the routes the page asks, and answers as the real one does."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.core.labels import DEFAULT
from segbench.core.panoptic import SPAN
from segbench.data import pictures
from segbench.serve import answers

LEGEND = answers.legend(DEFAULT)
FLAT, SKY, VEHICLE = (DEFAULT.names.index(name) for name in ("flat", "sky", "vehicle"))


class FakeApi:
    """`problem`: a status and a detail to answer photographs with, instead of masks."""

    def __init__(self, models: int = 2, panoptic: bool = False) -> None:
        self.photographs: list[bytes] = []  # that were sent, in order
        self.tokens: list[str | None] = []
        self.problem: tuple[int, str] | None = None
        self.cards = [card(f"demo-{name}", f"Model {name}") for name in "abc"[:models]]
        self.address = ""
        self.panoptic = panoptic  # whether the last model is

    def answer(self, photograph: bytes) -> dict[str, Any]:
        image = pictures.rgb(pictures.decoded(io.BytesIO(photograph)))
        maps = [categories(image.height, image.width, number) for number in range(len(self.cards))]
        answered = [segmented(one, values) for one, values in zip(self.cards, maps, strict=True)]
        if self.panoptic:
            answered[-1]["panoptic"] = objects(maps[-1])
        same = np.logical_and.reduce([one == maps[0] for one in maps])
        agreement = {"share": float(same.mean()), "map": encoded(Image.fromarray(same))} if len(maps) > 1 else None
        return {
            "image": {"width": image.width, "height": image.height},
            "models": answered,
            "legend": LEGEND,
            "agreement": agreement,
            "milliseconds": {"read": 3.25, "decode": 14.0, "total": 402.0},
        }


def categories(height: int, width: int, number: int) -> NDArray[np.uint8]:
    """Sky above flat; the second model sees a vehicle in the lower right quarter."""
    made = np.full((height, width), FLAT, np.uint8)
    made[: height // 2] = SKY
    if number == 1:
        made[height // 2 :, width // 2 :] = VEHICLE
    return made


def objects(values: NDArray[np.uint8]) -> dict[str, Any]:
    """Two vehicles side by side, and the stuff; as the API answers."""
    ids = np.where(values == VEHICLE, VEHICLE * SPAN + 1, values.astype(np.int64) * SPAN)
    ids[:, values.shape[1] * 3 // 4 :] += values[:, values.shape[1] * 3 // 4 :] == VEHICLE
    found = answers._objects(answers.Maps(values, ids, DEFAULT))
    assert found
    return found


def segmented(one: dict[str, Any], values: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        **{name: one[name] for name in ("model", "study", "seed", "architecture", "title", "drawn")},
        "legend": LEGEND,
        "mask": encoded(pictures.mask(values, DEFAULT.colours)),
        "shares": {name: float((values == number).mean()) for number, name in enumerate(DEFAULT.names)},
        "batch": 3,
        "milliseconds": {"queue": 0.5, "forward": 231.25, "encode": 12.0},
    }


def card(name: str, title: str) -> dict[str, Any]:
    return {
        "model": name, "study": name, "seed": 0, "architecture": "deeplab", "title": title, "protocol": "demo",
        "protocol_title": "Test streets", "drawn": True, "warning": "drawn", "miou": 0.7125,
        "miou_interval": [0.69, 0.7312], "miou_official": 0.7, "iou": {}, "val_images": 60,
        "size": {"width": 512, "height": 256}, "largest_batch": 4, "fingerprint": "3f9a0c1d2e4b5a67",
    }  # fmt: skip


def encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """On a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(200, {"models": api.cards, "legend": LEGEND})

        def do_POST(self) -> None:
            photograph = self.rfile.read(int(self.headers["content-length"]))
            api.photographs.append(photograph)
            api.tokens.append(self.headers["authorization"])
            if api.problem:
                self.send(api.problem[0], {"detail": api.problem[1]})
            else:
                self.send(200, api.answer(photograph))

        def send(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
