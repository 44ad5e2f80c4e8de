"""The server as a whole: full, with other models under it, and stopping."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from segbench.serve.access import Access
from segbench.serve.service import Settings
from tests.serving import Live, photograph, problem, promote, wait_for


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage with one small model, which a test may change."""
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    promote("deeplab")
    return tmp_path


def test_a_full_server_says_when_to_come_back(own: Path) -> None:
    server = Live(Settings(devices=("cpu",), queue=2, megapixels=1))
    try:
        replies = server.many([("/v1/segment", photograph(seed=seed)) for seed in range(12)])
        assert {reply.status for reply in replies} <= {200, 503}
        with_room = [reply for reply in replies if reply.status == 200]
        assert with_room
        server.service.scheduler.limits = server.service.scheduler.limits._replace(requests=0)
        refused = server.post("/v1/segment", photograph())
        assert "--queue" in problem(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        server.service.scheduler.limits = server.service.scheduler.limits._replace(requests=9, megapixels=0.001)
        assert "megapixels are in progress" in problem(server.post("/v1/segment", photograph()), 503)
    finally:
        server.stop()


def test_models_can_change_under_the_server(own: Path) -> None:
    token = "a-token-of-some-length"
    server = Live(Settings(devices=("cpu",)), Access(token=token), admin=True)
    try:
        assert server.ask("GET", "/health/ready").status == 200  # a probe has no token
        for given in ({}, {"authorization": "Bearer another"}, {"authorization": token}):
            refused = server.ask("GET", "/v1/models", **given)
            assert "token" in problem(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        bearer = {"authorization": f"Bearer {token}"}
        content = photograph()
        before = server.post("/v1/segment", content, **bearer)
        for path in (own / "models" / "demo-deeplab" / "seed0").iterdir():
            path.unlink()
        after = server.post("/v1/segment", content, **bearer)
        assert after.json()["models"][0]["mask"] == before.json()["models"][0]["mask"]
        assert "no promoted model" in problem(server.post("/v1/models/reload", None, **bearer), 422)
        assert server.post("/v1/segment", content, **bearer).status == 200
        promote("deeplab", seed=1)
        promote("deeplab", seed=2)
        loaded = server.post("/v1/models/reload", None, **bearer).json()["models"]
        assert [one["model"] for one in loaded] == ["demo-deeplab-seed1", "demo-deeplab-seed2"]
        renewed = server.post("/v1/segment", content, **bearer)
        assert len(renewed.json()["models"]) == 2
        assert renewed.headers["etag"] != before.headers["etag"]
    finally:
        server.stop()


def test_stopping_answers_what_was_admitted(own: Path) -> None:
    server = Live(Settings(devices=("cpu",)))
    job = server.post("/v1/segment", photograph(), prefer="respond-async").headers["location"]
    stopping = server.do(_begin(server))
    problem(server.ask("GET", "/health/ready"), 503)
    refused = server.post("/v1/segment", photograph())
    assert "stopping" in problem(refused, 503)
    assert wait_for(server, job).status == 200  # the job can still be fetched, which ends the server
    server.do(stopping)
    server._thread.join(60)
    with pytest.raises(ConnectionError):
        server.connect()


async def _begin(server: Live) -> Any:
    task = asyncio.create_task(server.server.stop())
    await asyncio.sleep(0)

    async def ended() -> None:
        await task

    return ended()


def test_a_damaged_model_is_named(own: Path) -> None:
    (own / "models" / "demo-deeplab" / "seed0" / "best.safetensors").write_bytes(b"x")
    with pytest.raises(Exception, match="is not the file in its card"):
        Live(Settings(devices=("cpu",)))
