"""What tests share: drawn scenes, a protocol folder, a storage with its databases made once."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

# Before torch is imported: models this small gain nothing from a second thread, and lose much where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs, and so what they start, ignore Ctrl-C; what the tests start is to hear it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import pytest
from filelock import FileLock

from segbench.data import streets
from segbench.runtime import terminal
from tests.postgres import postgres  # noqa: F401  (a fixture)

# A shared machine may be slow, and no timing decides a test.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SIZE = (32, 64)
PROTOCOL = """
title = "Test streets"
[data]
size = [32, 64]
[search]
trials = 2
epochs = 2
train_images = 16
val_images = 4
[final]
epochs = 2
"""
ARCHITECTURE = """
title = "{name} (tiny)"
batch_size = 8
weights = "random"
[model]
size = "tiny"
[space]
lr = {{ log_uniform = [1e-4, 1e-2] }}
weight_decay = {{ log_uniform = [1e-6, 1e-3] }}
optimizer = {optimizer}
{extra}
[baseline]
lr = 1.5e-4
weight_decay = 1e-8
optimizer = "adamw"
{extra_baseline}
"""


@pytest.fixture(autouse=True)
def outspoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ran before in this process with --quiet."""
    monkeypatch.setattr(terminal, "_quiet", False)
    monkeypatch.setattr(terminal, "_silent", False)


@pytest.fixture(autouse=True)
def unestimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches start at once: their estimate trains for some steps, which some tests count."""
    monkeypatch.setattr("segbench.experiment.searching._say_cost", lambda search, left: None)


@pytest.fixture(autouse=True)
def hardly_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promotions time their networks for a moment instead of for seconds."""
    monkeypatch.setattr("segbench.engine.speed._SECONDS_PER_PART", 0.01)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in Cityscapes folders: 24 + 8 scenes. Do not change it; copy it."""
    root = tmp_path_factory.mktemp("drawn") / "streets"
    streets.write(root, 24, 8, *SIZE, seed=0)
    return root


@pytest.fixture
def dataset(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the drawn dataset that a test may damage."""
    return Path(shutil.copytree(drawn, tmp_path / "dataset"))


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    """A protocol folder named `small` with both architectures at their tiny size."""
    return write_protocol(tmp_path / "small")


def write_protocol(folder: Path, protocol: str = PROTOCOL) -> Path:
    folder.mkdir()
    (folder / "protocol.toml").write_text(protocol)
    deeplab = {"optimizer": '{ choice = ["adam", "adamw", "sgd"] }', "extra": "aux_loss = { choice = [true, false] }"}
    texts = {
        "deeplab": ARCHITECTURE.format(name="deeplab", **deeplab, extra_baseline="aux_loss = true"),
        "mask2former": ARCHITECTURE.format(name="mask2former", optimizer='"adamw"', extra="", extra_baseline=""),
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def made_databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage whose MLflow database has its tables: making them takes seconds, copying them does not."""
    temporary = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        temporary = temporary.parent  # which the workers share
    folder, lock = temporary / "databases", FileLock(temporary / "databases.lock")
    with lock, pytest.MonkeyPatch.context() as patch:
        if not folder.is_dir():
            making = temporary / "databases-in-making"
            making.mkdir()
            patch.setenv("SEGBENCH_STORAGE", str(making))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            from segbench.ledger import tracking

            tracking.client()
            making.rename(folder)
    return folder


@pytest.fixture
def storage(made_databases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage of one's own, which the environment names; reports lie beside it."""
    folder = Path(shutil.copytree(made_databases, tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_STORAGE", str(folder))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    monkeypatch.delenv("CITYSCAPES_DATASET", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder
