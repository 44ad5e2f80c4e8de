"""What a person sees: the real optuna-dashboard and the real MLflow server, asked over HTTP as their pages ask."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from segbench import dashboard, promote, search, study
from segbench import runs as runs_page
from segbench.core import paths
from segbench.engine import inference, speed
from segbench.experiment import objective, promotion
from segbench.ledger import curves, database, models, notes, registry, runs, showcase, studies, tracking
from segbench.runtime import compute
from tests import worker
from tests.conftest import PROTOCOL, write_protocol
from tests.test_commands import call

NAME = "small-deeplab"
ONE = PROTOCOL.replace("trials = 2", "trials = 1")


class Page:
    """One of the two commands that serve, as a process of its own."""

    def __init__(self, command: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"segbench.{command}", "--port", "0", "--quiet", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.said)
        assert found, self.process.communicate()
        self.address = found[0]

    def get(self, path: str, **headers: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers), timeout=60) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def listens_on(self) -> set[str]:
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        found = [c for one in family for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        return {connection.laddr.ip for connection in found}

    def end(self) -> tuple[int, str]:
        """As Ctrl-C does: its exit code, and what it said on stderr."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def promoted(made_databases: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The storage of a search whose first attempt was killed after its pictures, and of its promotion."""
    folder = tmp_path_factory.mktemp("shown")
    shutil.copytree(made_databases, folder / "storage")
    write_protocol(folder / "small", ONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(folder / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(speed, "_SECONDS_PER_PART", 0.01)
        arguments = ["deeplab", "--protocol", folder / "small", "--data", drawn]
        with patch.context() as killed:

            def die(*_: object) -> None:
                raise KeyboardInterrupt

            killed.setattr(objective, "_keep_weights", die)
            assert call(search, *arguments) == 130
        assert call(search, *arguments) == 0
        with patch.context() as killed:
            killed.setattr(promotion, "_put_in_place", die)
            assert call(promote, *arguments) == 130
        assert call(promote, *arguments) == 0
        yield folder


@pytest.fixture
def shown(promoted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(promoted / "storage"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return promoted


@pytest.mark.slow
def test_the_dashboard_shows_pictures_notes_and_the_plot(shown: Path) -> None:
    page = Page("dashboard")
    try:
        assert page.listens_on() == {"127.0.0.1"}
        (summary,) = page.json("api/studies")["study_summaries"]
        found = page.json(f"api/studies/{summary['study_id']}")
        note = found["note"]["body"]
        again = f"deeplab --protocol {shown / 'small'} --data"
        assert f"python -m segbench.search {again}" in note
        assert f"python -m segbench.promote {again}" in note
        assert "Test streets" in note
        assert "seed 0 (SHA-256" in note
        (plot,) = found["plotly_graph_objects"]
        drawn = json.loads(plot["graph_object"])
        assert [trace["name"] for trace in drawn["data"]][:2] == ["void", "flat"]

        first, last = found["trials"]
        assert (first["state"], last["state"]) == ("Fail", "Complete")
        for one_of in (first, last):  # the killed attempt shows what the finished one shows, once
            assert sorted(one["filename"] for one in one_of["artifacts"]) == ["learning-curve.png", "scenes.jpg"]
        for one in last["artifacts"]:
            path = f"artifacts/{summary['study_id']}/{last['trial_id']}/{one['artifact_id']}"
            with Image.open(io.BytesIO(page.get(path))) as picture:
                assert picture.size == (curves.SIZE if one["filename"].endswith("png") else (1548, 1068))
        attributes = {one["key"]: one["value"] for one in last["user_attrs"]}
        assert f"python -m segbench.runs --run {attributes['run_id']}" in last["note"]["body"]
        assert f"{last['values'][0]:.4f}" in last["note"]["body"]
        traces = {trace["name"]: trace["y"] for trace in drawn["data"]}
        (trial,) = studies.record(database.connect(paths.studies_database()), NAME).trials
        best = trial.best_epoch
        assert traces["sky"] == [pytest.approx(best.iou[5], abs=1e-4)]
        assert len(list((shown / "storage" / "artifacts" / "optuna").iterdir())) == 2

        with pytest.raises(urllib.error.HTTPError, match="403"):
            page.get("api/studies", Host="elsewhere.example")
    finally:
        code, errors = page.end()
    assert (code, errors) == (0, "")


def test_the_dashboard_hides_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(dashboard, "--port", 0, "--study-db", "postgresql+psycopg://me:hunter2@127.0.0.1:1/studies") == 2
    said = capsys.readouterr().err
    assert "me:***@127.0.0.1" in said
    assert "hunter2" not in said


@pytest.mark.slow
def test_mlflow_shows_runs_pictures_and_the_champion(shown: Path) -> None:
    client = tracking.client()
    ((_, card),) = models.promoted("small")
    page = Page("runs", "--run", card.run_id)
    try:
        assert page.listens_on() == {"127.0.0.1"}
        assert f"/runs/{card.run_id}" in page.said
        parent = runs.study_run(client, "small", NAME, card.study_id, {})
        tags = {t["key"]: t["value"] for t in run_of(page, card.run_id)["data"]["tags"]}
        assert tags["mlflow.parentRunId"] == parent
        assert (tags["optuna.study"], tags["optuna.trial"], tags["trial"]) == (NAME, "1", "0")
        files = page.json(f"ajax-api/2.0/mlflow/artifacts/list?run_id={card.run_id}")["files"]
        assert sorted(one["path"] for one in files) == ["card.json", "learning-curve.png", "masks", "model"]
        masks = page.json(f"ajax-api/2.0/mlflow/artifacts/list?run_id={card.run_id}&path=masks")["files"]
        assert len(masks) == 4
        with Image.open(io.BytesIO(page.get(f"get-artifact?path={masks[0]['path']}&run_uuid={card.run_id}"))) as mask:
            assert mask.size == card.size[::-1]
        assert json.loads(page.get(f"get-artifact?path=card.json&run_uuid={card.run_id}"))["run_id"] == card.run_id
        versions = page.json(f"ajax-api/2.0/mlflow/model-versions/search?filter=name%3D'{NAME}'")["model_versions"]
        assert [(one["version"], one["run_id"]) for one in versions] == [("1", card.run_id)]  # though promoted twice
        champion = page.json(f"ajax-api/2.0/mlflow/registered-models/alias?name={NAME}&alias=champion")
        assert champion["model_version"]["version"] == "1"
    finally:
        children = psutil.Process(page.process.pid).children(recursive=True)
        code, errors = page.end()
    assert (code, errors) == (0, "")
    assert not any(child.is_running() for child in children)


def run_of(page: Page, run: str) -> Any:
    return page.json(f"ajax-api/2.0/mlflow/runs/get?run_id={run}")["run"]


def test_the_champion_predicts_as_we_do(shown: Path) -> None:
    ((folder, card),) = models.promoted("small")
    uri = f"sqlite:///{shown / 'storage' / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    try:
        served = mlflow.pyfunc.load_model(f"models:/{NAME}@champion", model_config={"device": "cpu"})
    finally:
        mlflow.set_tracking_uri(None)
    cpu = compute.choose("cpu")
    model = inference.load(card, folder / "best.safetensors", cpu)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, *card.size, 3), dtype=np.uint8)
    maps = served.predict(images)
    assert (maps.dtype, maps.shape) == (np.uint8, images.shape[:3])
    ours = np.concatenate([inference.predict(model, torch.from_numpy(one[None]), cpu).numpy() for one in images])
    np.testing.assert_array_equal(maps, ours)
    photographs = generator.integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    ours = np.stack([inference.segment(model, one, card.size, cpu) for one in photographs])
    np.testing.assert_array_equal(served.predict(photographs), ours)
    assert served.predict(images[:0]).shape == (0, *card.size)
    with pytest.raises(mlflow.MlflowException):
        served.predict(images.astype(np.float32))
    assert not list((shown / "storage" / "artifacts").rglob("*.pkl"))


def test_the_best_seed_of_the_newest_promotion_is_the_champion(shown: Path, storage: Path) -> None:
    shutil.copytree(shown / "storage", storage, dirs_exist_ok=True)
    ((_, card),) = models.promoted("small")
    client = tracking.client()

    def is_champion(seed: int, miou: float, fingerprint: str) -> bool:
        run = runs.nested_run(
            client, runs.study_run(client, "small", NAME, card.study_id, {}), f"seed {seed}", {"seed": str(seed)}, {}
        )
        best = dataclasses.replace(card.best, miou=miou)
        registry._register(client, dataclasses.replace(card, seed=seed, best=best, run_id=run, fingerprint=fingerprint))
        return bool(client.get_model_version_by_alias(NAME, registry.CHAMPION).run_id == run)

    assert is_champion(1, 0.9, card.fingerprint)
    assert not is_champion(2, 0.8, card.fingerprint)
    assert is_champion(0, 0.1, "changed")  # its predecessors answered another question
    registry.delete(client, card.study_id)
    assert not client.search_registered_models()


def test_what_a_person_wrote_stays(storage: Path) -> None:
    made = worker.study(database.connect(paths.studies_database()), 1)
    showcase.describe(made, "go on", "promote")
    first = notes.note(made)
    assert "`go on`" in first
    showcase.describe(made, "go on elsewhere", "promote")
    assert "`go on elsewhere`" in notes.note(made)
    notes.write_note(made, "x" * 5000)  # in three pieces
    notes.write_note(made, "mine")
    showcase.describe(made, "go on", "promote")
    assert notes.note(made) == "mine"


def test_deleting_a_study_deletes_its_pictures(shown: Path, storage: Path) -> None:
    shutil.copytree(shown / "storage", storage, dirs_exist_ok=True)
    assert list((storage / "artifacts" / "optuna").iterdir())
    assert call(study, "delete", NAME, "--yes") == 0
    assert not list((storage / "artifacts" / "optuna").iterdir())
    assert not list((storage / "artifacts" / "mlflow").iterdir())  # MLflow alone would keep its copies of the weights
    assert not tracking.client().search_registered_models()


def test_nothing_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "none"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for command in (dashboard, runs_page):
        assert call(command, "--port", 0) == 2
        assert "Search first: python -m segbench.search" in capsys.readouterr().err
    assert call(dashboard, "--port", 70000) == 2
    assert "expected 0 to 65535" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/")
    assert call(runs_page) == 0
    assert capsys.readouterr().out.strip().endswith("the runs are at MLFLOW_TRACKING_URI: https://mlflow.example/")


@pytest.mark.slow
def test_the_weights_lie_on_disk_once(shown: Path) -> None:
    ((folder, card),) = models.promoted("small")
    copy = shown / "storage" / "artifacts" / "mlflow" / card.run_id / "artifacts" / "model" / "artifacts"
    assert (copy / "best.safetensors").samefile(folder / "best.safetensors")
    assert not list(copy.glob("*.partial"))


BAD_REQUESTS = [
    b"nonsense\r\n\r\n",
    b"GET /api/studies HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /api/studies/999999 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /artifacts/1/1/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n{}",
    b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{a}",
    b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
    b"PUT /api/studies/1/note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /api/studies HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
]


@pytest.mark.slow
def test_the_dashboard_answers_bad_requests_without_a_traceback(shown: Path) -> None:
    page = Page("dashboard")
    try:
        port = int(page.address.rstrip("/").rpartition(":")[2])
        for request in BAD_REQUESTS:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(request)
                with contextlib.suppress(ConnectionResetError):
                    assert b"Traceback" not in connection.recv(65536)
        with socket.create_connection(("127.0.0.1", port)) as connection:  # goes away at once
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"GET /dashboard HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert page.json("api/studies")["study_summaries"]  # it is still there
    finally:
        code, errors = page.end()
    assert (code, errors) == (0, "")
