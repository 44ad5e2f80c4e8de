"""A command in a process of its own, forked from one that has imported everything: starting costs no seconds.

It may be told an `Instant` at which something befalls it. What it is doing goes, a word a line, into a file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import contextlib
import importlib
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mlflow.store.tracking.sqlalchemy_store  # the imports of the commands, once
import optuna_dashboard
import torch

from segbench import promote, search
from segbench.architectures.parts import torchvision_ops
from segbench.engine import checkpoint as checkpoint
from segbench.engine import evaluation, resume, speed, training
from segbench.experiment import examine, objective, searching
from segbench.ledger import database, tracking
from segbench.runtime import terminal

torchvision_ops.ensure_importable()
importlib.import_module("torchvision.models.segmentation")
del mlflow, optuna_dashboard, search, promote, examine

_PHASES = {  # what a process is in while it is inside of a function; else "start-up"
    "step": (training, "_pass"),
    "evaluation": (training, "evaluate_together"),
    "checkpoint": (checkpoint, "write"),
    "examination": (evaluation, "evaluate"),
}


class Instant(NamedTuple):
    """Before or after a function's n-th call, as in Instant("segbench.ledger.runs", "log_epoch", 2, after=True)."""

    module: str
    name: str  # with dots for methods
    call: int = 1
    after: bool = False
    what: str = "kill"  # or "stop", "terminate": a signal to itself; "fill PATH": its disk is full from then on;
    # "nan", "memory": what the call gives


class Settings(NamedTuple):
    """How a command is run."""

    environment: dict[str, str]
    said: str  # the file that takes its output
    share: float | None = float("inf")  # of the time that may go into checkpoints; None: the program's own
    instant: Instant | None = None
    file_bytes: int = 0  # the largest file it can write; 0 for any
    heartbeat: tuple[int, int] = (60, 180)  # seconds: between two beats, and of grace
    patience: float = 60  # seconds that a database which cannot be used is waited for
    user: int = 0  # whom to become
    events: str = ""  # the file that takes what it is doing


def run(module: str, arguments: list[str], settings: Settings) -> None:
    """What the new process does; it ends with the command's exit code."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # it may draw with others
    torch.set_num_threads(1)
    searching._say_cost = lambda search, left: None  # it trains for some steps, which instants count
    os.environ.update(settings.environment)
    _redirect(settings.said)
    if settings.share is not None:
        resume.SHARE = settings.share
        speed._SECONDS_PER_PART = 0.01
    database.HEARTBEAT_SECONDS, database.GRACE_SECONDS = settings.heartbeat
    database._SECONDS_TO_WAIT_FOR_A_SERVER = settings.patience  # type: ignore[assignment]
    tracking._SECONDS_TO_WAIT = settings.patience  # type: ignore[assignment]
    if settings.events:
        _tell(settings.events)
    if settings.instant:
        _hurt(settings.instant)
    if settings.file_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings.file_bytes, resource.RLIM_INFINITY))
    if settings.user:
        os.setgroups([])
        os.setuid(settings.user)
    main = importlib.import_module(module).main
    code = terminal.run(lambda: int(main(arguments)))
    sys.stdout.flush()
    os._exit(code)


def _redirect(said: str) -> None:
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _replace(where: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    *path, last = name.split(".")
    for part in path:
        where = getattr(where, part)
    setattr(where, last, make(getattr(where, last)))


def _hurt(instant: Instant) -> None:
    calls = 0

    def make(one: Callable[..., Any]) -> Callable[..., Any]:
        def hurt(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != instant.call:
                return one(*arguments, **options)
            if instant.what == "memory":
                raise torch.OutOfMemoryError("out of memory")
            if not instant.after:
                _signal(instant.what)
            result = one(*arguments, **options)
            if instant.after:
                _signal(instant.what)
            return result._replace(loss=float("nan")) if instant.what == "nan" else result

        return hurt

    _replace(importlib.import_module(instant.module), instant.name, make)


def _signal(what: str) -> None:
    if what.startswith("fill "):
        _fill(what.removeprefix("fill "))
    number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}.get(what)
    if number:
        os.kill(os.getpid(), number)


def _fill(path: str) -> None:
    """Leaves no byte on its disk."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


def _tell(events: str) -> None:
    descriptor = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    doing = ["start-up"]

    def tell(word: str) -> None:
        os.write(descriptor, f"{word}\n".encode())

    @contextlib.contextmanager
    def phase(word: str) -> Iterator[None]:
        doing.append(word)
        tell(word)
        try:
            yield
        finally:
            doing.pop()
            tell(doing[-1])

    def during(word: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(one: Callable[..., Any]) -> Callable[..., Any]:
            def told(*arguments: Any, **options: Any) -> Any:
                with phase(word):
                    return one(*arguments, **options)

            return told

        return make

    def logged(one: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any) -> Any:
            one(*arguments)
            tell("epoch")
            doing[:] = ["bookkeeping"]
            tell("bookkeeping")

        return told

    tell("start-up")
    for word, (module, name) in _PHASES.items():
        _replace(module, name, during(word))
    _replace(objective.runs, "log_epoch", logged)
