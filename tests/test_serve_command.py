"""`python -m segbench.serve` as a process: what it says, imports and refuses, and how it stops."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from segbench.runtime import local_server
from segbench.serve import __main__ as serve
from segbench.serve import access, listening
from segbench.serve.networks import Lane
from segbench.serve.pool import Pool
from tests.serving import form, photograph, promote
from tests.test_commands import call, error_of

HEAVY = ("mlflow", "optuna", "plotly", "pandas", "sqlalchemy", "pyarrow", "jinja2", "streamlit", "ray")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    promote("deeplab")
    return tmp_path


class Process:
    """The command, once it is ready; it tells on its end which modules it had imported."""

    def __init__(self, *arguments: str) -> None:
        script = (
            "import sys, atexit; from segbench.serve.__main__ import main\n"
            "atexit.register(lambda: print('MODULES', *sys.modules))\n"
            "raise SystemExit(main(sys.argv[1:]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, "--port", "0", "--device", "cpu", "--no-page", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.said)
        assert found, self.process.communicate()
        self.address = found[0]

    def post(self, path: str, **headers: str) -> Any:
        body, kind = form(photograph())
        request = urllib.request.Request(self.address + path, body, {**kind, **headers})
        return urllib.request.urlopen(request, timeout=60)

    def end(self) -> tuple[int, str, str]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        said, errors = self.said + self.process.stdout.read(), self.process.stderr.read()
        return self.process.wait(60), said, errors


def test_a_lean_server_answers_and_stops(own: Path) -> None:
    server = Process()
    own_process = psutil.Process(server.process.pid)
    listening = [c.laddr.ip for c in own_process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert (listening, own_process.children()) == (["127.0.0.1"], [])
    assert server.post("v1/segment").status == 200
    server.process.send_signal(signal.SIGTERM)
    code, said, errors = server.end()
    assert code == 0
    assert f"try:  curl -F image=@street.jpg {server.address}v1/segment" in said
    assert re.search(r"POST /v1/segment 200 \d+ ms", errors)
    assert "Traceback" not in errors
    imported = said.partition("MODULES ")[2].split()
    assert "torch" in imported
    assert [name for name in HEAVY if name in imported] == []


@pytest.mark.slow
def test_the_second_signal_stops_at_once(own: Path) -> None:
    server = Process("--quiet")
    assert server.post("v1/segment", Prefer="respond-async").status == 202  # the server waits for it to be fetched
    server.process.send_signal(signal.SIGINT)
    assert server.process.stderr is not None
    while "press Ctrl-C again" not in server.process.stderr.readline():
        pass
    server.process.send_signal(signal.SIGINT)
    assert server.end()[0] == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--queue", "0"], "--queue is 0"),
        (["--deadline", "nan"], "--deadline is nan"),
        (["--model", "fly"], "no promoted model 'fly'; promoted models: demo-deeplab"),
        (["--host", "0.0.0.0"], "add --token"),
        (["--host", "no.such.host.invalid", "--no-token"], "cannot be listened on"),
        (["--token"], "at least 16 plain characters in SEGBENCH_TOKEN, found 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(
    arguments: list[str], message: str, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEGBENCH_TOKEN", raising=False)
    assert call(serve, *arguments) == 2
    assert message in error_of(capsys)


def test_a_taken_port_is_named(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening.listen("127.0.0.1", 0) as taken:
        assert call(serve, "--port", taken.getsockname()[1]) == 2
    assert "give another --port" in error_of(capsys)


def test_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    assert call(serve) == 2
    assert "run python -m segbench.promote first" in error_of(capsys)


@pytest.mark.parametrize(
    ("host", "said"), [("127.0.0.1", "for this machine only"), ("0.0.0.0", "anyone who reaches port 80 of 0.0.0.0")]
)
def test_it_says_who_can_reach_it(host: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    local_server.announce("the page", access.address(host, 80), browse=False, reach=access.reach(host, 80))
    printed = capsys.readouterr().out
    assert printed.startswith("the page: http://127.0.0.1:80/\n")
    assert said in printed
    assert ("for this machine only" in printed) == (host == "127.0.0.1")


def test_the_lane_computes_as_predict_does() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        lane, pool = Lane(0, "cpu"), Pool()

        async def both() -> tuple[float, int, int]:
            tiny = torch.tensor([1e-40])
            in_pool = await pool.run(torch.get_num_threads)
            return await lane.run(lambda: float(tiny * 0.5)), await lane.run(torch.get_num_threads), in_pool

        assert asyncio.run(both()) == (
            0.0,
            2,
            1,
        )  # denormals count as zero; the lane has the cores, a pool's thread one
    finally:
        torch.set_num_threads(before)
