"""Workers as processes of this host: their GPUs and threads, and how they end with their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from segbench.core.errors import UserError
from segbench.ledger import liveness
from segbench.runtime import terminal

NUMBER = "{worker}"  # placeholder for the worker's number in a command

_SECONDS_TO_RECEIVE_A_SIGNAL = 1.0
_SECONDS_TO_READ_LAST_OUTPUT = 1.0
_SECONDS_TO_LEAVE = 10.0  # after SIGINT, before SIGKILL


class Local:
    """A Launcher on this host. Each worker is a session of its own, so that Ctrl-C reaches only their parent."""

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        """`command`: NUMBER in it becomes the worker's number; `environments`: added to each worker's."""
        self.size = len(environments)
        gpus = dict.fromkeys(each["CUDA_VISIBLE_DEVICES"] for each in environments if "CUDA_VISIBLE_DEVICES" in each)
        threads = {**os.environ, **environments[0]}["OMP_NUM_THREADS"]
        self.description = f"{self.size} workers, " + (
            f"GPU {', '.join(gpus)}" if gpus else f"cpu ({threads} threads each)"
        )
        self._command, self._environments = command, environments
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._relays: dict[int, threading.Thread] = {}
        self._names: dict[str, str] = {}
        self._shown: set[str] = set()
        self._stopping = False

    def start(self, worker: int) -> None:
        process = subprocess.Popen(
            [str(worker) if part == NUMBER else part for part in self._command],
            stdin=subprocess.PIPE,  # closes when this process ends, see `become_worker`
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **self._environments[worker]},
            start_new_session=True,
        )
        self._processes[worker] = process
        self._names[str(liveness.WorkerId.of(process.pid))] = f"worker {worker}"
        self._relays[worker] = threading.Thread(target=self._relay, args=(worker, process.stdout), daemon=True)
        self._relays[worker].start()

    def ended(self) -> list[tuple[int, int]]:
        ended = [(worker, code) for worker, p in self._processes.items() if (code := p.poll()) is not None]
        for worker, _ in ended:
            self._relays.pop(worker).join(_SECONDS_TO_READ_LAST_OUTPUT)  # before this process reports its end
            process = self._processes.pop(worker)
            assert process.stdin is not None
            process.stdin.close()
        return ended

    @property
    def running(self) -> int:
        return len(self._processes)

    def name(self, owner: str) -> str:
        return self._names.get(owner, owner.rsplit(":", 1)[0])

    def stop(self) -> None:
        self._stopping = True
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        try:
            if not self._stopping:
                self.stop()
                self._wait(_SECONDS_TO_RECEIVE_A_SIGNAL)
            # The second signal stops at once. Another SIGTERM would merge with a first that is still pending.
            self._send(signal.SIGINT)
            self._wait(_SECONDS_TO_LEAVE)
        finally:
            self._send(signal.SIGKILL)
            self._wait(_SECONDS_TO_LEAVE)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            process.send_signal(number)  # does nothing to an ended process

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def _relay(self, worker: int, lines: IO[str]) -> None:
        """Prints the worker's output with its number; a text that several workers print only once."""
        for line in lines:
            text = line + (lines.read() if line.startswith("Traceback") else "")
            if text.strip() and text not in self._shown:
                self._shown.add(text)
                text = text.rstrip().replace("\n", f"\nworker {worker}: ")
                print(f"worker {worker}: {text}", file=sys.stderr, flush=True)


def environments(number: int | None, gpus: str | None, device: str) -> list[dict[str, str]]:
    """The additions to each worker's environment: its GPU and its number of threads.

    `number` of workers: by default one per GPU of `gpus`, the value of --gpus; `device`: the value of --device. Raises
    UserError for missing GPUs.
    """
    from segbench.runtime import compute

    visible = _visible()
    if gpus is not None:
        chosen = _chosen(gpus, len(visible), device)
    else:
        chosen = list(range(len(visible))) if device in ("auto", "cuda") else []
    if not chosen:
        compute.choose(device)  # raises UserError if it is missing
    number = len(chosen) if number is None else number
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores() // number))}
    devices = [{"CUDA_VISIBLE_DEVICES": visible[gpu]} for gpu in chosen] or [{}]
    return [{**threads, **devices[worker % len(devices)]} for worker in range(number)]


def cores() -> int:
    """The number of cores this process may use: a batch system or a container may restrict them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def become_worker() -> None:
    """Makes this process a worker: it prints only warnings and errors. When its parent process ends, it stops as after
    SIGTERM: it finishes and saves its epoch, and exits."""
    terminal.set_quiet()
    threading.Thread(target=_leave_with_the_parent, daemon=True, name="parent").start()


def _visible() -> list[str]:
    """The GPUs of this process, named as in CUDA_VISIBLE_DEVICES, which a batch system may have set."""
    import torch

    count = torch.cuda.device_count()  # without creating contexts
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in given.split(",")][:count] if given else [str(gpu) for gpu in range(count)]


def _chosen(gpus: str, count: int, device: str) -> list[int]:
    if device not in ("auto", "cuda"):
        raise UserError(f"--gpus {gpus} and --device {device} contradict each other; drop one of them")
    parts = [part.strip() for part in gpus.split(",")]
    known = [str(gpu) for gpu in range(count)]
    if not set(parts) <= set(known):
        has = f"has GPUs {', '.join(known)}" if known else "has no GPU that CUDA can use"
        raise UserError(f"--gpus {gpus}: this machine {has}; choose among them, as in --gpus 0, or use --workers")
    if len(set(parts)) < len(parts):
        raise UserError(f"--gpus {gpus} names a GPU twice; for more workers than GPUs add --workers N")
    return [int(part) for part in parts]


def _leave_with_the_parent() -> None:
    while os.read(0, 1):  # until the parent's end of the pipe is closed, also by SIGKILL
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)  # nobody reads them anymore
    os.kill(os.getpid(), signal.SIGTERM)
