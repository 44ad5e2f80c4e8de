"""Workers that Ray starts, on this machine or on the cluster at RAY_ADDRESS.

Each worker is a task that requests one GPU, if the cluster has any, and starts the command in a process of its own. All
nodes must see the same files under the same paths, including the Python environment.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segbench.core.errors import UserError
from segbench.experiment import local_launcher
from segbench.runtime import terminal

_RETRIES = 3
_SECONDS_BETWEEN_POLLS = 0.1
_SECONDS_TO_LEAVE = 10.0
# Prefixes of the variables to pass to other nodes.
_OURS = ("SEGBENCH_", "MLFLOW_", "PG", "CITYSCAPES_DATASET", "PYTHONPATH", "HF_", "TORCH_HOME")


class Killed(Exception):
    """The worker's process was killed by a signal: Ray starts it again."""


class Ray:
    """A Launcher."""

    def __init__(self, command: Sequence[str], number: int | None, gpus: str | None) -> None:
        """`gpus`: the value of --gpus. Raises UserError if Ray is not installed or its cluster does not answer."""
        if gpus is not None or number is None:
            raise UserError("Ray assigns the GPUs itself: instead of --gpus give --workers N with --launcher ray")
        self._ray = ray = connect(number)
        self.size, self._command = number, command
        threads = max(1, local_launcher.cores() // number)
        gpu = 1 if ray.cluster_resources().get("GPU") else 0
        self._environment = environment(threads)
        options = {"num_cpus": 1, "num_gpus": gpu, "max_retries": _RETRIES, "retry_exceptions": [Killed]}
        self._work: Any = ray.remote(**options)(_work)
        self._tasks: dict[int, Any] = {}
        self.description = f"{number} Ray workers, " + ("1 GPU each" if gpu else f"cpu ({threads} threads each)")

    def start(self, worker: int) -> None:
        command = [str(worker) if part == local_launcher.NUMBER else part for part in self._command]
        self._tasks[worker] = self._work.remote(command, self._environment, str(Path.cwd()))

    def ended(self) -> list[tuple[int, int]]:
        ended = []
        for worker, task in list(self._tasks.items()):
            if not self._ray.wait([task], timeout=0)[0]:
                continue
            del self._tasks[worker]
            try:
                ended.append((worker, int(self._ray.get(task))))
            except self._ray.exceptions.RayError as error:
                terminal.warn(f"worker {worker}: {str(error).strip().splitlines()[-1]}")
                ended.append((worker, 1))
        return ended

    @property
    def running(self) -> int:
        return len(self._tasks)

    def name(self, owner: str) -> str:
        return owner.rsplit(":", 1)[0]

    def stop(self) -> None:
        for task in self._tasks.values():
            self._ray.cancel(task)  # KeyboardInterrupt in the task, which returns when its process has ended

    def kill(self) -> None:
        self.stop()
        _, left = self._ray.wait(list(self._tasks.values()), num_returns=self.running, timeout=_SECONDS_TO_LEAVE)
        for task in left:
            self._ray.cancel(task, force=True)


def connect(cores: int, forwarded: bool = True) -> Any:
    """The module `ray`, joined to the cluster that RAY_ADDRESS names, else to one of its own on this machine that gives
    out so many `cores`. `forwarded`: what its processes print is printed here too.

    Raises UserError where Ray is not installed or its cluster does not answer.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise UserError("--launcher ray needs Ray: pip install 'segbench[cluster]'") from None
    options = {"logging_level": "error", "log_to_driver": forwarded}
    if not os.environ.get("RAY_ADDRESS"):
        ray.init(include_dashboard=False, num_cpus=cores, _node_ip_address="127.0.0.1", **options)
        return ray
    try:
        ray.init(address="auto", **options)
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no Ray cluster at RAY_ADDRESS ({reason}); start it, or unset RAY_ADDRESS") from None
    return ray


@contextlib.contextmanager
def connected(cores: int, forwarded: bool = True) -> Iterator[Any]:
    """`connect` until the block ends."""
    ray = connect(cores, forwarded)
    try:
        yield ray
    finally:
        ray.shutdown()


def environment(threads: int) -> dict[str, str]:
    """What a process on another node must know of this one's environment."""
    given = {key: value for key, value in os.environ.items() if key.startswith(_OURS)}
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)), **given}


def _work(command: list[str], environment: dict[str, str], folder: str) -> int:
    """In Ray's process: runs one worker and returns its exit code."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # closes when this task ends, see `become_worker`
        env={**os.environ, **environment},
        cwd=folder,
        start_new_session=True,
    )
    stopping = False
    while process.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            while process.poll() is None:
                time.sleep(_SECONDS_BETWEEN_POLLS)
            break
        stopping = True
        process.send_signal(signal.SIGTERM)
    if process.returncode < 0 and not stopping:
        raise Killed(f"its process was killed by signal {-process.returncode}")
    return process.returncode
