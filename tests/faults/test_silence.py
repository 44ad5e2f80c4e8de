"""Processes that hang, changed clocks, and trainings that cannot continue."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from segbench.ledger import database, liveness, queue, studies
from tests import worker
from tests.faults.command import Instant
from tests.faults.harness import Found, Place, assert_whole

pytestmark = pytest.mark.slow  # whole searches in processes of their own

SHORT = (1, 2)  # seconds: between two heartbeats, and of grace


@pytest.mark.slow
def test_a_hanging_process_is_replaced_and_writes_nothing_later(place: Place, searched: Found) -> None:
    hangs = place.start("search", Instant("segbench.engine.training", "_pass", 2, what="stop"), heartbeat=SHORT)
    place.wait_until(lambda: liveness.WorkerId.of(hangs.pid) and _state(hangs.pid) == "T")
    waits = place.start("search", Instant("segbench.ledger.queue", "claim", 2))  # killed when the other trial is done
    waits.join(200)
    patient = place.start("search")
    place.wait_until(lambda: "waiting for trials of other processes (1)" in place.said.read_text())
    os.kill(patient.pid or 0, signal.SIGTERM)
    patient.join(60)
    assert patient.exitcode == 128 + signal.SIGTERM
    place.output()
    assert place.run("search", heartbeat=SHORT) == 0
    assert f"{hangs.pid}" in place.output()
    assert_whole(place, searched)
    os.kill(hangs.pid or 0, signal.SIGCONT)
    hangs.join(200)
    assert hangs.exitcode == 0, place.output()
    assert_whole(place, searched)


def _state(pid: int | None) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_clock_that_is_set_ends_no_live_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = database.connect(tmp_path / "studies.db")
    study = worker.study(storage, 1)
    trial = queue.claim(study, str(liveness.me()))
    assert trial is not None

    def set_the_clock() -> None:
        with storage.engine.begin() as connection:
            connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'"))

    now = time.monotonic()
    monkeypatch.setattr(database.time, "monotonic", lambda: now)
    set_the_clock()
    assert queue.requeue_dead(study) == []
    now += database.HEARTBEAT_SECONDS  # by now it has beaten
    storage.record_heartbeat(trial._trial_id)
    assert queue.requeue_dead(study) == []
    set_the_clock()
    assert queue.requeue_dead(study) == []
    now += 2 * database.HEARTBEAT_SECONDS - 1
    assert queue.requeue_dead(study) == []
    now += 2  # it hangs
    assert queue.requeue_dead(study) == [f"trial 0: {liveness.me()} is gone; queued again"]


@pytest.mark.parametrize(
    ("what", "state"), [("nan", "diverged"), pytest.param("memory", "out of memory", marks=pytest.mark.slow)]
)
def test_a_training_that_cannot_continue_fails_only_its_trial(
    what: str, state: str, place: Place, searched: Found
) -> None:
    assert place.run("search", Instant("segbench.engine.training", "_pass", 2, what=what)) == 0, place.output()
    assert place.run("search") == 0
    name = studies.names(place.study_storage)[0]
    failed, fine = studies.record(place.study_storage, name).trials
    assert (failed.state, failed.index, len(failed.epochs)) == (state, 0, 1)
    key = f"{name} {fine.index}"
    expected = searched._replace(
        trials={f"{name} 0": (state, None, dict(failed.params), searched.trials[f"{name} 0"][3][:1]),
               key: searched.trials[key]},
        weights={path.replace("trial0", "trial1"): "" for path in searched.weights},
    )  # fmt: skip
    assert_whole(place, expected._replace(weights=place.found().weights))
