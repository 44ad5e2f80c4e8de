"""Everything a server may meet, at once and for long: mixed requests, and whatever its own description allows."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import gc
import io
import random
import socket
from collections.abc import Iterator

import psutil
import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from segbench.serve.service import Settings
from tests.serving import Live, Reply, form, photograph, pixels, promote

CLIENTS, REQUESTS = 32, 2000
WARM_UP = 24  # requests of each client, until every thread has its heap and every kind of request its code
EXPECTED = {200, 202, 204, 304, 400, 403, 404, 408, 412, 413, 415, 422, 429, 503, 504}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(tmp_path_factory.mktemp("soaked")))
        promote("deeplab")
        server = Live(Settings(devices=("cpu",), queue=CLIENTS, megapixels=2, upload_bytes=2_000_000))
        try:
            yield server
        finally:
            server.stop()


def encoded(mode: str, kind: str, orientation: int, width: int) -> bytes:
    image = Image.open(io.BytesIO(photograph(30, width))).convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif)
    return buffer.getvalue()


class Client:
    """Makes requests of every kind, each with a width of its own, by which it knows its answer."""

    def __init__(self, live: Live, number: int) -> None:
        self._live, self._random, self._number = live, random.Random(number), number
        kinds = (self.valid, self.valid, self.valid, self.picture, self.cut, self.bomb, self.other, self.oversized)
        self._kinds = (*kinds, self.chunked, self.leaves, self.trickled, self.job)

    def go(self, times: int) -> set[int]:
        return {self._random.choice(self._kinds)() for _ in range(times)}

    def _photograph(self) -> tuple[bytes, int, int]:
        mode, kind = self._random.choice(
            [("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG")]
        )
        orientation, width = self._random.randint(1, 8), 40 + self._number * 16 + self._random.randint(0, 15)
        size = (30, width) if orientation < 5 else (width, 30)
        return encoded(mode, kind, orientation, width), *size

    def valid(self) -> int:
        content, height, width = self._photograph()
        body, headers = form(content) if self._random.random() < 0.5 else (content, {"content-type": "image/png"})
        reply = self._live.post("/v1/segment", body, headers["content-type"])
        if reply.status == 200:
            assert reply.json()["image"] == {"height": height, "width": width}  # its own
        return reply.status

    def picture(self) -> int:
        content, height, width = self._photograph()
        kind = self._random.choice(["mask", "overlay", "label-ids"])
        reply = self._live.post(f"/v1/models/demo-deeplab/{kind}", content)
        if reply.status == 200:
            assert pixels(reply.body).shape[:2] == (height, width)
        return reply.status

    def cut(self) -> int:
        content = photograph(90, 90, compress_level=0)
        return self._live.post("/v1/segment", content[: self._random.randint(1, len(content) - 100)]).status

    def bomb(self) -> int:
        buffer = io.BytesIO()
        Image.new("1", (1900, 1900) if self._random.random() < 0.5 else (1000, 1000)).save(buffer, "PNG")
        return self._live.post("/v1/segment", buffer.getvalue()).status

    def other(self) -> int:
        return self._live.post("/v1/segment", b"GIF89a" + self._random.randbytes(99), "image/gif").status

    def oversized(self) -> int:
        return self._live.post("/v1/segment", b"x" * 2_100_000).status

    def chunked(self) -> int:
        return self._live.post("/v1/segment", (b"x" * 100_000 for _ in range(22))).status

    def leaves(self) -> int:
        content = self._photograph()[0]
        head = f"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        with self._live.connect() as connection:
            connection.sendall((head + content)[: self._random.randint(1, len(head) + len(content))])
        return 204

    def trickled(self) -> int:
        content = self._photograph()[0]
        head = f"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        with self._live.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(head + content), 300):
                connection.sendall((head + content)[start : start + 300])
            return int(connection.recv(4096).split()[1])

    def job(self) -> int:
        begun = self._live.post("/v1/segment", self._photograph()[0], prefer="respond-async")
        if begun.status != 202:
            return begun.status
        reply = Reply(202, {}, b"")
        while reply.status == 202:
            reply = self._live.ask("GET", begun.headers["location"])
        assert self._live.ask("DELETE", begun.headers["location"]).status == 204
        return reply.status


def resident() -> int:
    """Bytes in memory, without what the C library keeps for later: the clients' threads are in this process, too."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_two_thousand_mixed_requests(live: Live) -> None:
    def together(times: int) -> set[int]:
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
            seen = list(threads.map(lambda number: Client(live, number).go(times), range(CLIENTS)))
        return set().union(*seen)

    seen = together(WARM_UP)
    memory = resident()
    seen |= together(REQUESTS // CLIENTS - WARM_UP)
    assert seen <= EXPECTED, seen
    assert 200 in seen
    assert resident() < 1.05 * memory
    assert live.service.scheduler.requests == live.service.uploads._arrived == 0
    assert live.post("/v1/segment", photograph()).status == 200


def test_the_server_is_as_it_describes_itself(live: Live) -> None:
    torch.set_flush_denormal(False)  # which computing sets, and hypothesis refuses to draw numbers with
    described = schemathesis.openapi.from_url("http://{}:{}/openapi.json".format(*live.address))
    conform = (checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance)
    asked = set()
    for operation in (found.ok() for found in described.get_all_operations()):

        @settings(max_examples=5, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def conforms(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=[not_a_server_error, *conform])

        conforms()
        asked.add(operation.label)
    assert {"POST /v1/segment", "POST /v1/models/{model}/mask", "GET /v1/jobs/{job}", "GET /metrics"} <= asked
