"""Many workers on one search: the same numbers as one, whatever happens to them or to who started them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from segbench import search
from segbench.core import paths
from segbench.core import protocol as protocols
from segbench.core.errors import UserError
from segbench.core.protocol import Search
from segbench.core.study_record import StudyRecord
from segbench.data import dataset, streets
from segbench.experiment import local_launcher, workers
from segbench.ledger import database, liveness, queue, samplers, studies
from segbench.runtime import terminal
from tests import launchers
from tests.conftest import PROTOCOL, write_protocol

OUTCOME = list[tuple[int, str, float | None, dict[str, Any], list[Any]]]


def call(*arguments: object) -> int:
    return terminal.run(lambda: search.main([str(one) for one in arguments]))


def outcome(study: StudyRecord) -> OUTCOME:
    """What training computed, trial by trial."""
    return [
        (t.index, t.state, t.value, dict(t.params), [epoch.without_timings() for epoch in t.epochs])
        for t in study.trials
    ]


def numbers(where: str | Path) -> list[int]:
    """The trial of every trial there ever was."""
    study = optuna.load_study(study_name="small-deeplab", storage=database.connect(where))
    return sorted(studies.index_of(trial) for trial in study.get_trials())


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def alone(
    drawn: Path, made_databases: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[object], OUTCOME]]:
    """A search's arguments, and what one process computes."""
    folder = tmp_path_factory.mktemp("alone")
    where: list[object] = ["deeplab", "--protocol", write_protocol(folder / "small"), "--data", drawn]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert call(*where) == 0
        yield where, outcome(studies.record(database.connect(paths.studies_database()), "small-deeplab"))


@pytest.mark.slow
def test_two_workers_equal_one(
    alone: tuple[list[object], OUTCOME], storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where, expected = alone
    assert call(*where, "--workers", 2) == 0
    record = studies.record(database.connect(paths.studies_database()), "small-deeplab")
    assert outcome(record) == expected
    assert numbers(paths.studies_database()) == [0, 1]
    assert str(liveness.me()) not in {trial.owner for trial in record.trials}
    said = capfd.readouterr()
    assert said.err == ""
    assert "2 workers, cpu (1 threads each)" in said.out
    assert call(*where, "--workers", 2) == 0  # nothing is left, so nobody is started
    assert "0 of 2 trials to run" in capfd.readouterr().out


@pytest.mark.slow  # as two workers, which the suite runs
def test_two_hosts_equal_one(alone: tuple[list[object], OUTCOME], storage: Path, postgres: Any) -> None:
    where, expected = alone
    url = postgres.fresh()
    command = [sys.executable, "-m", "segbench.search", *map(str, where), "--study-db", url]
    hosts = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for host in hosts:
        _, errors = host.communicate(timeout=600)
        assert (host.returncode, errors) == (0, "")
    assert outcome(studies.record(database.connect(url), "small-deeplab")) == expected
    assert numbers(url) == [0, 1]


@pytest.mark.slow  # 20 s and more on one core
def test_two_ray_workers_equal_one(
    alone: tuple[list[object], OUTCOME], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'segbench[cluster]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    where, expected = alone
    try:
        assert call(*where, "--workers", 2, "--launcher", "ray") == 0
    finally:
        ray.shutdown()
    assert outcome(studies.record(database.connect(paths.studies_database()), "small-deeplab")) == expected
    assert numbers(paths.studies_database()) == [0, 1]


# From here on the workers only pretend to train: what is asked is how they are looked after.


def held(folder: Path) -> dict[int, int]:
    """The trial that each process has said to hold, by its id."""
    return {int(p.name.split("-")[1]): int(p.name.split("-")[0]) for p in folder.glob("*-*") if p.name[0].isdigit()}


def beside(work: Callable[[], None]) -> threading.Thread:
    """Does it while the main thread, which alone gets signals, runs the workers."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def states(study: optuna.Study) -> list[tuple[int, str]]:
    return sorted((studies.index_of(t), t.state.name) for t in study.get_trials())


DONE = [(0, "COMPLETE"), (1, "COMPLETE"), (2, "COMPLETE")]


@pytest.mark.slow
def test_a_killed_worker_is_started_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = launchers.study(tmp_path)

    def kill_one() -> None:
        wait_for(lambda: len(held(tmp_path)) == 2)
        victim = next(pid for pid, index in held(tmp_path).items() if index == 0)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(held(tmp_path)) == 3)
        (tmp_path / "go").touch()

    beside(kill_one)
    workers.run(launchers.launcher(tmp_path), [study])
    assert states(study) == sorted([*DONE, (0, "FAIL")])
    assert re.fullmatch(
        r"segbench: warning: worker [01] was killed by SIGKILL; restarting it\n", capfd.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("stubborn",)], ids=["once", "twice"])
def test_a_signal_stops_all_and_loses_nothing(
    options: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = launchers.study(tmp_path)
    said = threading.Event()

    def stop() -> None:
        wait_for(lambda: len(held(tmp_path)) == 2)
        os.kill(os.getpid(), signal.SIGINT)
        if options:
            said.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

    crew = launchers.launcher(tmp_path, *options)
    stop_crew = crew.stop

    def stop_all() -> None:
        if options:  # asleep, they hear both signals at the same moment
            for pid in held(tmp_path):
                os.kill(pid, signal.SIGSTOP)
                threading.Timer(1, os.kill, (pid, signal.SIGCONT)).start()
        stop_crew()
        said.set()

    crew.stop = stop_all  # type: ignore[method-assign]
    beside(stop)
    with pytest.raises(KeyboardInterrupt):
        workers.run(crew, [study])
    assert all(liveness.WorkerId(liveness.here(), pid, 0.0).gone for pid in held(tmp_path))
    waiting = [t for t in study.get_trials() if t.state.name == "WAITING"]
    assert sorted(studies.index_of(t) for t in waiting) == [0, 1, 2]
    assert all("deaths" not in t.user_attrs for t in waiting)  # stopped, not dead
    assert "waiting for 2 workers to end their epochs" in capfd.readouterr().out
    (tmp_path / "go").touch()
    workers.run(launchers.launcher(tmp_path), [study])
    assert [t.state for t in studies.record(database.storage_of(study), "tiny").trials] == ["complete"] * 3


@pytest.mark.slow
def test_workers_leave_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.launchers", str(tmp_path), "parent"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert parent.stdout is not None
    children = [
        liveness.WorkerId.of(pid) for pid in wait_for(lambda: len(held(tmp_path)) == 2 and list(held(tmp_path)))
    ]
    assert not any(child.gone for child in children)
    parent.kill()
    parent.communicate()
    wait_for(lambda: all(child.gone for child in children))
    study = launchers.study(tmp_path)
    waiting = [t for t in study.get_trials() if t.state.name == "WAITING"]
    assert sorted(studies.index_of(t) for t in waiting) == [0, 1, 2]
    assert all("deaths" not in t.user_attrs for t in waiting)  # each ended its epoch first


def test_workers_that_cannot_begin_end_the_search(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = launchers.study(tmp_path)
    for script, message, shown in (
        ("import os; os.kill(os.getpid(), 9)", "3 times without progress; it is not restarted", 2),
        ("raise ValueError('a bug')", "ValueError: a bug", 1),  # of both workers, and shown once
        ("raise SystemExit('segbench: error: no disk')", "segbench: error: no disk", 1),
    ):
        with pytest.raises(UserError, match=r"2 of 2 workers ended with an error.*3 trials are left"):
            workers.run(local_launcher.Local([sys.executable, "-c", script], [{"OMP_NUM_THREADS": "1"}] * 2), [study])
        said = capfd.readouterr().err
        assert said.count(message) == shown
        assert "worker " in said


def test_each_worker_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5a")  # as a batch system gives them
    assert local_launcher.environments(None, "1,0", "auto") == [
        {"CUDA_VISIBLE_DEVICES": "GPU-5a"},
        {"CUDA_VISIBLE_DEVICES": "4"},
    ]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in local_launcher.environments(3, None, "cuda")] == ["4", "GPU-5a", "4"]
    assert local_launcher.environments(2, None, "cpu") == [{}, {}]
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(local_launcher, "cores", lambda: 8)
    assert [one["OMP_NUM_THREADS"] for one in local_launcher.environments(3, None, "cpu")] == ["2", "2", "2"]


@pytest.mark.parametrize(
    ("arguments", "gpus", "message"),
    [
        (["--workers", "0"], 0, "--workers is 0: expected 1 to 2"),
        (["--workers", "-1"], 0, "--workers is -1: expected 1 to 2"),
        (["--workers", "3"], 0, "--workers is 3: expected 1 to 2, as many as there are trials"),
        (["--gpus", "0"], 0, "--gpus 0: this machine has no GPU that CUDA can use"),
        (["--gpus", "0,2"], 2, "--gpus 0,2: this machine has GPUs 0, 1; choose among them"),
        (["--gpus", "two"], 2, "--gpus two: this machine has GPUs 0, 1"),
        (["--gpus", "0,0"], 2, "--gpus 0,0 names a GPU twice"),
        (["--gpus", "0", "--device", "cpu"], 2, "--gpus 0 and --device cpu contradict each other"),
        (["--gpus", "0,1", "--trials", "1"], 2, "--gpus 0,1 means 2 workers: expected 1 to 1"),
        (["--workers", "2", "--device", "cuda"], 0, "no device 'cuda' here"),
        (["--launcher", "ray"], 0, "--launcher ray: how many workers? Add --workers N"),
        (["--launcher", "ray", "--gpus", "0"], 2, "Ray assigns the GPUs itself"),
        (["--launcher", "ray", "--workers", "2"], 0, "needs Ray: pip install 'segbench[cluster]'"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    gpus: int,
    message: str,
    protocol: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    assert call("deeplab", "--protocol", protocol, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("segbench: error: ")
    assert message in line


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_workers_with_a_sampler_do_not_draw_the_same(name: str, tmp_path: Path) -> None:
    asked = Search(trials=4, epochs=1, train_images=1, val_images=1, sampler=name)
    storage = database.connect(tmp_path / "studies.db")
    drawn = []
    for _ in range(4):  # each as a process of its own would
        sampler = samplers.sampler(asked)
        study = optuna.create_study(storage=storage, sampler=sampler, study_name="tiny", load_if_exists=True)
        queue.plan(study, {}, asked, None)
        trial = queue.claim(study, str(liveness.me()))
        assert trial is not None
        drawn += [trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)]
    assert len(set(drawn)) == 8


def test_streets_are_drawn_once(tmp_path: Path, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PROTOCOL.replace("[search]", "[data.streets]\ntrain = 24\nval = 8\nsize = [32, 64]\n[search]")
    asked = protocols.load(write_protocol(tmp_path / "small", text))
    begun, write = [], streets.write

    def slowly(*arguments: Any, **options: Any) -> None:
        begun.append(threading.current_thread())
        write(*arguments, **options)

    monkeypatch.setattr(streets, "write", slowly)
    found: list[str] = []
    hosts = [threading.Thread(target=lambda: found.append(dataset.ready(asked, None).fingerprint)) for _ in range(2)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()
    assert len(begun) == 1
    assert len(found) == 2
    assert len(set(found)) == 1
