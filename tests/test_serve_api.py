"""The server over real sockets of this machine: what it answers, to whom, and what it refuses."""

from __future__ import annotations

import base64
import functools
import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.core import labels
from segbench.core.labels import DEFAULT
from segbench.data import pictures
from segbench.engine import inference
from segbench.ledger import models
from segbench.runtime import compute
from segbench.serve import answers, uploads
from segbench.serve import server as serving
from segbench.serve.service import Settings
from tests.serving import SIZE, Live, form, photograph, pixels, problem, promote, wait_for

NAMES = ("demo-deeplab", "demo-mask2former")


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage that holds two promoted models. Do not change it; copy it."""
    folder = tmp_path_factory.mktemp("promoted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(folder))
        for name in ("deeplab", "mask2former"):
            promote(name)
    return folder


@pytest.fixture(scope="module")
def live(promoted: Path) -> Iterator[Live]:
    """A server of both models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(promoted))
        server = Live(Settings(devices=("cpu",), queue=16, megapixels=1, upload_bytes=1_000_000))
        try:
            yield server
        finally:
            server.stop()


@functools.cache
def network(storage: Path, name: str) -> Any:
    folder = storage / "models" / name / "seed0"
    return inference.load(models.read_card(folder / "card.json"), folder / "best.safetensors", compute.choose("cpu"))


def predicted(storage: Path, content: bytes, name: str) -> Any:
    """What `python -m segbench.predict` makes of a photograph."""
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    return inference.segment(network(storage, name), image, SIZE, compute.choose("cpu"))


def test_both_models_answer_as_predict_does(live: Live, promoted: Path) -> None:
    content = photograph(90, 130)
    reply = live.post("/v1/segment", content, x_request_id="mine-1")
    assert (reply.status, reply.headers["x-request-id"]) == (200, "mine-1")
    answer = reply.json()
    assert answer["image"] == {"width": 130, "height": 90}
    assert [one["model"] for one in answer["models"]] == list(NAMES)
    maps = []
    for one in answer["models"]:
        maps.append(pixels(base64.b64decode(one["mask"])))
        np.testing.assert_array_equal(maps[-1], predicted(promoted, content, one["model"]))  # alone: bit for bit
        assert one["shares"] == pytest.approx(
            {name: (maps[-1] == category).mean() for category, name in enumerate(labels.DEFAULT.names)}
        )
        assert (one["batch"], one["drawn"]) == (1, True)
        assert set(one["milliseconds"]) == {"queue", "forward", "encode"}
    assert len(np.unique(maps[0])) > 1
    assert answer["agreement"]["share"] == pytest.approx((maps[0] == maps[1]).mean())
    np.testing.assert_array_equal(pixels(base64.b64decode(answer["agreement"]["map"])), maps[0] == maps[1])
    assert answer["legend"] == answers.legend(labels.DEFAULT)
    flat = answer["models"][1]["legend"][1]
    assert (flat["category"], flat["name"], flat["colour"], flat["id"]) == (1, "flat", "#804080", 7)
    times = answer["milliseconds"]
    assert times["total"] >= times["read"] + times["decode"] + max(
        one["milliseconds"]["forward"] for one in answer["models"]
    )

    alone = live.post(f"/v1/segment?model={NAMES[1]}", content).json()
    assert [one["model"] for one in alone["models"]] == [NAMES[1]]
    assert alone["agreement"] is None


def test_in_company_the_maps_are_the_same(live: Live, promoted: Path) -> None:
    contents = [photograph(50, 70, seed) for seed in range(12)]
    replies = live.many([("/v1/segment", content) for content in contents])
    assert [reply.status for reply in replies] == [200] * 12
    wanted = {name: [predicted(promoted, content, name) for content in contents] for name in NAMES}
    for number, reply in enumerate(replies):
        for one in reply.json()["models"]:
            same = pixels(base64.b64decode(one["mask"])) == wanted[one["model"]][number]
            assert same.mean() >= 0.999


def test_pictures_of_one_model(live: Live, promoted: Path) -> None:
    content = photograph(60, 50, kind="JPEG", quality=95)
    categories = predicted(promoted, content, NAMES[0])
    mask, overlay, ids = (
        live.post(f"/v1/models/{NAMES[0]}/{kind}", content) for kind in ("mask", "overlay", "label-ids")
    )
    assert {reply.headers["content-type"] for reply in (mask, overlay, ids)} == {"image/png"}
    np.testing.assert_array_equal(pixels(mask.body), categories)
    image = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(
        pixels(overlay.body), np.asarray(pictures.overlay(image, categories, DEFAULT.colours))
    )
    np.testing.assert_array_equal(pixels(ids.body), np.array(labels.DEFAULT.typical_ids)[categories])


def test_a_form_is_as_good_as_a_body(live: Live) -> None:
    content = photograph(500, 600, kind="PNG", compress_level=0)
    body, kind = form(content)
    sent = live.post(f"/v1/models/{NAMES[0]}/mask", body, **{"content_type": kind["content-type"]})
    assert sent.body == live.post(f"/v1/models/{NAMES[0]}/mask", content).body
    wrong, kind = form(content, "picture")
    refused = live.post("/v1/segment", wrong, content_type=kind["content-type"])
    assert (refused.status, "field `image`" in refused.json()["detail"]) == (422, True)
    broken = live.post("/v1/segment", b"--b\r\nnonsense", content_type="multipart/form-data; boundary=b")
    assert broken.status == 422
    assert live.post("/v1/segment", b"x", content_type="multipart/form-data").status == 422


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(orientation: int, live: Live) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    answer = live.post("/v1/segment", photograph(40, 80, kind="JPEG", exif=exif), content_type="image/jpeg").json()
    turned = (answer["image"]["height"], answer["image"]["width"])
    assert turned == ((40, 80) if orientation < 5 else (80, 40))


def test_every_mode_is_served(live: Live) -> None:
    for mode in ("RGBA", "L", "LA", "P", "1", "I;16"):
        image = (
            Image.fromarray(np.full((6, 9), 30_000, np.uint16))
            if mode == "I;16"
            else Image.new("RGB", (9, 6)).convert(mode)
        )
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        assert live.post("/v1/segment", buffer.getvalue()).status == 200, mode


def test_what_cannot_be_served_is_refused_in_words(live: Live) -> None:
    bomb = io.BytesIO()
    Image.new("1", (8000, 8000)).save(bomb, "PNG")
    whole = photograph(60, 60, kind="PNG", compress_level=0)
    said = problem(live.post("/v1/segment", bomb.getvalue()), 422)
    assert said == "the photograph has 8000x8000 pixels, 64 megapixels; at most 1 are served. Scale it down first"
    assert "cannot be read" in problem(live.post("/v1/segment", whole[: len(whole) // 2]), 422)
    assert "empty" in problem(live.post("/v1/segment", b""), 422)
    assert "not JPEG, PNG or WebP" in problem(live.post("/v1/segment", b"hello", content_type=""), 415)
    gif = io.BytesIO()
    Image.new("L", (9, 9)).save(gif, "GIF")
    assert "not JPEG, PNG or WebP" in problem(live.post("/v1/segment", gif.getvalue()), 415)
    assert "application/json" in problem(live.post("/v1/segment", b"{}", content_type="application/json"), 415)
    assert "no model 'fly'" in problem(live.post("/v1/segment?model=fly", whole), 404)
    assert "no model '..'" in problem(live.post("/v1/models/../mask", whole), 404)
    problem(live.ask("GET", "/v1/segment"), 405)
    problem(live.ask("GET", "/etc/passwd"), 404)
    assert "X-Request-Timeout" in problem(live.post("/v1/segment", whole, x_request_timeout="soon"), 400)
    assert "deadline" in problem(live.post("/v1/segment", whole, x_request_timeout="0.000001"), 504)
    assert live.post("/v1/segment", whole, x_request_timeout="1000").status == 200


def test_too_many_bytes_are_refused_with_and_without_a_length(live: Live) -> None:
    huge = b"x" * 1_500_000
    assert "1,000,000 bytes" in problem(live.post("/v1/segment", huge), 413)
    parts = (huge[start : start + 100_000] for start in range(0, len(huge), 100_000))
    assert "1,000,000 bytes" in problem(live.post("/v1/segment", parts), 413)  # chunked
    with live.connect() as raw:  # nothing is uploaded that is refused
        raw.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1500000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_only_this_machine_is_answered(live: Live) -> None:
    content = photograph()
    assert "not asked under that name" in problem(live.post("/v1/segment", content, host="evil.example"), 403)
    assert "another origin" in problem(live.post("/v1/segment", content, origin="https://evil.example"), 403)
    assert "another origin" in problem(live.post("/v1/segment", content, origin="null"), 403)
    assert live.post("/v1/segment", content, origin="http://localhost:8501", host="localhost:1").status == 200
    assert live.ask("GET", "/health/live", host="[::1]:80").status == 200
    assert live.ask("GET", "/health/live", x_request_id="a\tb c").headers["x-request-id"] != "a\tb c"


def test_an_answer_one_has_is_not_made_again(live: Live) -> None:
    content = photograph(seed=3)
    first = live.post("/v1/segment", content)
    tag = first.headers["etag"]
    assert "you have this answer" in problem(live.post("/v1/segment", content, if_none_match=tag), 412)
    for other in (live.post("/v1/segment", photograph(seed=4)), live.post(f"/v1/segment?model={NAMES[0]}", content)):
        assert other.headers["etag"] != tag


def test_models_health_and_metrics(live: Live) -> None:
    cards = live.ask("GET", "/v1/models").json()["models"]
    assert [(card["model"], card["miou"], card["size"]) for card in cards] == [
        (name, 0.4, {"width": SIZE[1], "height": SIZE[0]}) for name in NAMES
    ]
    assert "drawn streets" in cards[0]["warning"]
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert live.ask("GET", path).status == 200
    assert live.ask("GET", f"/v2/models/{NAMES[0]}").json()["versions"] == [cards[0]["fingerprint"]]
    live.post("/v1/segment", photograph())
    shown = live.ask("GET", "/metrics").body.decode()
    for line in (
        'segbench_requests_total{route="/v1/segment",status="200"}',
        'segbench_batch_size_bucket{le="1.0",model="demo-deeplab"}',
        "segbench_queue_depth 0.0",
        "segbench_megapixels_in_flight 0.0",
        "segbench_decode_seconds_count",
    ):
        assert line in shown
    described = live.ask("GET", "/openapi.json").json()
    assert "/v1/models/{model}/label-ids" in described["paths"]
    assert live.ask("GET", "/docs").status == 404  # it would load its scripts from elsewhere


def test_answers_are_sent_at_once(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        sockets = [one.transport.get_extra_info("socket") for one in live.server.server_state.connections]
        assert sockets
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)


def test_jobs(live: Live) -> None:
    content = photograph(seed=5)
    begun = live.post("/v1/segment", content, prefer="respond-async")
    assert (begun.status, begun.headers["preference-applied"]) == (202, "respond-async")
    path = begun.headers["location"]
    reply = wait_for(live, path)
    now = live.post("/v1/segment", content)
    assert reply.headers["etag"] == now.headers["etag"]
    assert [one["mask"] for one in reply.json()["models"]] == [one["mask"] for one in now.json()["models"]]
    assert live.ask("GET", path, if_none_match=reply.headers["etag"]).status == 304
    assert live.ask("DELETE", path).status == 204
    assert "no such job" in problem(live.ask("GET", path), 404)
    problem(live.ask("DELETE", path), 404)

    damaged = photograph(60, 60, kind="PNG", compress_level=0)[:4000]
    path = live.post("/v1/segment", damaged, prefer="respond-async").headers["location"]
    assert "cannot be read" in problem(wait_for(live, path), 422)
    live.ask("DELETE", path)


def test_jobs_are_bounded_in_bytes(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segbench.serve.jobs._LARGEST_BYTES", 10)
    path = live.post("/v1/segment", photograph(), prefer="respond-async").headers["location"]
    wait_for(live, path)
    refused = live.post("/v1/segment", photograph(), prefer="respond-async")
    assert "fetch" in problem(refused, 429)
    assert refused.headers["retry-after"] == "60"
    live.ask("DELETE", path)
    assert live.post("/v1/segment", photograph(), prefer="respond-async").status == 202


def test_jobs_end(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segbench.serve.jobs.SECONDS_KEPT", 0.01)
    path = live.post("/v1/segment", photograph(), prefer="respond-async").headers["location"]
    while live.ask("GET", path).status != 404:
        time.sleep(0.01)


def closes(connection: socket.socket) -> bool:
    try:
        while connection.recv(1000):
            pass
    except ConnectionError:
        pass
    return True


def test_slow_connections_are_cut(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_HEADER_SECONDS", 0.2)
    with live.connect() as silent, live.connect() as trickled:
        trickled.sendall(b"GET /health/live HTTP/1.1\r\nHo")
        assert closes(silent)
        assert closes(trickled)
    with live.connect() as second:  # a second request on the same connection
        second.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert second.recv(1000).startswith(b"HTTP/1.1 200 ")
        second.sendall(b"GET /health/live HT")
        assert closes(second)
    with live.connect() as refused:  # one that goes on sending what was refused
        refused.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: evil\r\nContent-Length: 100\r\n\r\n")
        assert refused.recv(1000).startswith(b"HTTP/1.1 403 ")
        assert closes(refused)
    monkeypatch.setattr(uploads, "_PATIENCE", 0.2)
    with live.connect() as slow:
        slow.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_who_leaves_is_counted_and_holds_nothing(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    def cancelled() -> float:
        lines = live.ask("GET", "/metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith("segbench_cancelled_total")).split()[1])

    before, content = cancelled(), photograph(600, 900)
    head = f"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with caplog.at_level("INFO"):
        for sent in (head + content[:50], head + content):
            with live.connect() as connection:
                connection.sendall(sent)
            while cancelled() < before + 1:
                time.sleep(0.01)
    assert "499" in caplog.text
    assert "failed" not in caplog.text
    while live.service.scheduler.requests or live.service.uploads._arrived:  # or it hangs
        time.sleep(0.01)


def test_logs_hold_no_picture_no_token_and_no_query(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        live.post(
            "/v1/segment?model=demo-deeplab&secret=hunter2",
            photograph(),
            authorization="Bearer hunter2",
            x_request_id="abc",
        )
        live.post("/v1/segment", photograph(60, 60, kind="PNG", compress_level=0)[:4000])
    assert "abc POST /v1/segment 200" in caplog.text
    assert "hunter2" not in caplog.text
    assert "PNG" not in caplog.text


def test_without_admin_nothing_is_loaded(live: Live) -> None:
    problem(live.post("/v1/models/reload", None), 404)
