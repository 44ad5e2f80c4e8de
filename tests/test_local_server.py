"""A command that serves a page leaves no server behind, and shows no secret."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from segbench.ledger import tracking
from segbench.runtime import terminal

SERVES = """
import signal, sys, time
from segbench.runtime import local_server
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also under nohup
port = local_server.free_port(0)
address = f"http://127.0.0.1:{port}/"
server = f"{sys.executable} -m http.server {port} --bind 127.0.0.1 & wait"
with local_server.process(["sh", "-c", server], {}, address):
    print(address, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_killed_command_takes_its_server_along(sent: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVES], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    family = psutil.Process(process.pid).children(recursive=True)
    try:
        assert len(family) >= 3  # the watchdog, the shell, the server
        process.send_signal(sent)
        process.communicate(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
    finally:
        for left in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("foo://me:hunter2@h/x?token=hunter2#hunter2", "foo://h/x"),
        ("foo:hunter2@bar", "foo:…"),
        ("https://me:hunter2@mlflow.example/x?token=hunter2", "https://mlflow.example/x"),
        ("postgresql://me:hunter2@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db"),
        ("postgresql:/me:hunter2@h/db", "postgresql:h/db"),
        ("storage/mlruns", "storage/mlruns"),
    ],
)
def test_an_mlflow_address_is_shown_without_secrets(
    uri: str, told: str, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tracking.shown(uri) == told
    secret = next((part for part in ("me:hunter2", "hunter2") if part in uri), "nothing")
    assert secret not in tracking._reason(ValueError(f"{uri} refused {secret}"), uri).replace("nothing", "")
    if not uri.startswith("foo"):
        return
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert terminal.run(lambda: tracking.client() and 0) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"MLFLOW_TRACKING_URI={told} cannot be used; expected" in line
    assert "hunter2" not in line
