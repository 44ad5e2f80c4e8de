"""`--launcher ray`: the same answers from a real Ray of this machine."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from segbench.engine.predictor import Predictor
from segbench.ledger import models
from segbench.serve import __main__ as serve
from tests.serving import form, photograph, pixels, promote
from tests.test_commands import call, error_of

ARCHITECTURES = ("deeplab", "mask2former")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for architecture in ARCHITECTURES:
        promote(architecture)
    return tmp_path


class Process:
    """The command, once it is ready."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "segbench.serve", "--launcher", "ray", "--port", "0", "--no-page", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"serves (.*): (http://127\.0\.0\.1:\d+/)", self.process.stdout.readline())
        assert found, self.process.communicate()
        self.what, self.address = found.groups()

    def ask(self, path: str, content: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        body, kind = form(content) if content else (None, {})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.address + path, body, {**kind, **named}), timeout=120
            ) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def many(self, contents: list[bytes]) -> list[tuple[int, bytes]]:
        with concurrent.futures.ThreadPoolExecutor(len(contents)) as threads:
            return list(threads.map(lambda content: self.ask("v1/segment", content), contents))


@pytest.fixture
def server(own: Path) -> Iterator[Process]:
    running = Process("--queue", "16", "--largest-batch", "4")
    yield running
    family = psutil.Process(running.process.pid).children(recursive=True)
    running.process.send_signal(signal.SIGTERM)
    _, errors = running.process.communicate(timeout=120)
    assert (running.process.returncode, "Traceback" in errors) == (0, False), errors
    assert "answering what was admitted" in errors
    assert psutil.wait_procs(family, timeout=60)[1] == []


@pytest.mark.slow
def test_ray_answers_as_predict_does(server: Process) -> None:
    assert server.what.startswith("demo-deeplab, demo-mask2former on 1 x cpu")
    assert server.ask("health/ready")[0] == 200
    photographs = [photograph(seed=seed) for seed in range(12)]
    answers = server.many(photographs)
    assert [status for status, _ in answers] == [200] * len(answers)
    reports = [json.loads(body) for _, body in answers]
    for name in ARCHITECTURES:
        [promoted] = [one for one in models.promoted() if one.card.architecture == name]
        predictor = Predictor(promoted.card, promoted.weights, "cpu")
        for content, report in zip(photographs, reports, strict=True):
            [model] = [one for one in report["models"] if one["architecture"] == name]
            expected = predictor.segment(pixels(content))
            assert (pixels(base64.b64decode(model["mask"])) == expected).mean() >= 0.999
    metrics = server.ask("metrics")[1].decode()
    forwards = re.search(r'segbench_batch_size_sum\{model="demo-deeplab"\} (\S+)', metrics)
    assert forwards
    assert float(forwards[1]) == len(photographs)


@pytest.mark.slow
def test_ray_refuses_as_the_server_does(server: Process) -> None:
    assert server.ask("v1/models", host="evil.example.org")[0] == 403
    assert server.ask("v1/segment", b"no photograph")[0] == 415
    assert server.ask("v1/segment", photograph()[:-30])[0] == 422
    assert server.ask("v1/segment?model=fly", photograph())[0] == 404
    status, body = server.ask("v1/segment", photograph(), prefer="respond-async")
    assert status == 202
    job = json.loads(body)["job"]
    while (answer := server.ask(f"v1/jobs/{job}"))[0] == 202:
        time.sleep(0.1)
    assert answer[0] == 200
    assert len(json.loads(answer[1])["models"]) == len(ARCHITECTURES)
    statuses = [status for status, _ in server.many([photograph()] * 64)]
    assert {*statuses} <= {200, 503}
    assert 200 in statuses
    assert 503 in statuses  # --queue is 16


@pytest.mark.slow
def test_nothing_of_ray_is_left_where_the_command_is_killed(own: Path) -> None:
    running = Process("--model", "demo-deeplab", "--replicas", "2")
    assert running.what.startswith("demo-deeplab on 2 x cpu")
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert len(family) > 3
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.communicate()
    assert psutil.wait_procs(family, timeout=180)[1] == []  # Ray's agents look for its head for a minute


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_said_in_one_line(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "models" / "demo-deeplab" / "seed0" / "best.safetensors").write_bytes(b"not weights")
    done = subprocess.run(
        [sys.executable, "-m", "segbench.serve", "--launcher", "ray", "--port", "0", "--no-page"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is not the file in its card" in done.stderr
    assert "Traceback" not in done.stderr


def test_ray_is_told_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'segbench[cluster]'")
    from segbench.serve import ray_serve

    secret = "not for anybody"
    for name in ("SEGBENCH_TOKEN", "PGPASSWORD", "HF_TOKEN"):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("SEGBENCH_STORAGE", "elsewhere")
    told = ray_serve._environment(3)
    assert secret not in told.values()
    assert told["SEGBENCH_STORAGE"] == "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replicas", "2"], "--replicas is for --launcher ray"),
        (["--launcher", "ray", "--replicas", "0"], "--replicas is 0"),
        (["--launcher", "ray", "--device", "cpu"], "Ray assigns the GPUs itself"),
        (["--launcher", "ray", "--admin"], "--admin is not for --launcher ray"),
        (["--launcher", "ray", "--no-page", "--port", "0"], "needs Ray: pip install 'segbench[cluster]'"),
    ],
)
def test_what_ray_cannot_do_is_said(
    arguments: list[str], message: str, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]  # as where it is not installed
    assert call(serve, *arguments) == 2
    assert message in error_of(capsys)
