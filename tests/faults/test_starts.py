"""The first start on an empty storage: killed at each thing it makes, and twice at the same instant."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import write_protocol
from tests.faults import harness
from tests.faults.command import Instant
from tests.faults.conftest import SMALL
from tests.faults.harness import Place, assert_whole

STREETS = SMALL.replace("[search]\ntrials = 2\nepochs = 3", "[data.streets]\ntrain = 24\nval = 8\nsize = [32, 64]\n"
                        "[search]\ntrials = 2\nepochs = 1")  # fmt: skip
FIRST_STEPS = {
    "while streets are drawn": Instant("segbench.data.streets", "_jobs", 2),
    "streets drawn, not in place": Instant("pathlib", "Path.rename"),
    "while they are packed": Instant("segbench.data.packing", "digest", 5),
    "while a split is described": Instant("segbench.data.packing", "os.replace"),
    "Optuna's tables made, not marked": Instant("sqlalchemy", "MetaData.create_all", 1, after=True),
    "Optuna's version not written": Instant("optuna.storages._rdb.storage", "_VersionManager._set_alembic_revision"),
    "MLflow's tables made, not upgraded": Instant("mlflow.store.db.utils", "_upgrade_db"),
    "in the middle of MLflow's upgrade": Instant("alembic.ddl.impl", "DefaultImpl._exec", 40),
    "MLflow's tables made, not in place": Instant("segbench.ledger.runs", "os.replace"),
}


@pytest.mark.slow
def test_killed_at_first_use_and_then_started_twice_at_once(tmp_path: Path) -> None:
    where = ["deeplab", "--protocol", str(write_protocol(tmp_path / "small", STREETS))]
    place, reference = Place(tmp_path / "storage", where), Place(tmp_path / "reference", where)
    for name, instant in FIRST_STEPS.items():
        assert place.run("search", instant) == -signal.SIGKILL, (name, place.output())
    both = [place.start("search"), place.start("search")]
    for process in both:
        process.join(200)
    assert [process.exitcode for process in both] == [0, 0], place.output()
    both = [reference.start("search"), reference.start("search")]  # also streets, packing and tables
    for process in both:
        process.join(200)
    assert [process.exitcode for process in both] == [0, 0], reference.output()
    assert_whole(place, harness.found(reference))
