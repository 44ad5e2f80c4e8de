"""The group of processes that train one model together, as torchrun or `accelerate launch` starts them.

    torchrun --nproc-per-node 4 -m segbench.promote deeplab

Started in the usual way a process is a group of one: then nothing here communicates, and accelerate is not imported.
Process 0 is the main one: it alone writes files and ledgers, and speaks.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from segbench.core.errors import UserError

_ANSWERS = datetime.timedelta(minutes=5)  # of a training step: longer means that a process hangs
_WORKS = datetime.timedelta(hours=12)  # while the main process packs a dataset or writes what a training left
_T = TypeVar("_T")
_patient: Any = None  # a second group, on the CPU: for Python objects, and for waiting until the main one has worked


def size() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if {"WORLD_SIZE", "RANK", "LOCAL_RANK"} <= os.environ.keys() else 1


def rank() -> int:
    """Which of them this is, 0..size-1."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes and speaks."""
    return rank() == 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[str]:
    """Inside, the processes are a group. Yields the device of this one: of "auto" and "cuda" its own GPU.

    Raises UserError where accelerate is missing, and for a device that several processes cannot use.
    """
    global _patient
    if size() == 1:
        yield device
        return
    device_of_this_process = _join(device)
    import torch.distributed as dist

    _patient = dist.new_group(backend="gloo", timeout=_WORKS)
    try:
        yield device_of_this_process
        gather(None)  # nobody leaves while another still works
        dist.destroy_process_group()
    finally:
        _patient = None


def refuse(command: str, instead: str) -> None:
    """Raises UserError where several processes were started for a command that is for one."""
    if size() > 1:
        raise UserError(f"{command} is one process, but {size()} were started by torchrun or accelerate; {instead}")


def gather(value: _T) -> list[_T]:
    """Every process's value, in the order of their ranks."""
    if size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * size()
    with _peers():
        dist.all_gather_object(values, value, group=_patient)
    return values


def on_main(work: Callable[[], _T]) -> _T:
    """What `work` gives in the main process, where alone it runs; its UserError is raised in every process."""
    if size() == 1:
        return work()
    import torch.distributed as dist

    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome = [work(), None]
        except UserError as error:
            outcome = [None, error]
    with _peers():
        dist.broadcast_object_list(outcome, src=0, group=_patient)
    if outcome[1] is not None:
        raise outcome[1]
    value: _T = outcome[0]
    return value


def main_first(work: Callable[[], _T]) -> _T:
    """What `work` gives, in every process; the others do it after the main one, and find what it has downloaded."""
    done: list[_T] = []
    on_main(lambda: done.append(work()))
    return done[0] if done else work()


def peer_failure(error: BaseException) -> UserError | None:
    """What to tell a user where `error` says that another process of the group is gone; None where it does not."""
    if size() == 1:
        return None
    import torch.distributed as dist

    if not isinstance(error, dist.DistError) and "gloo" not in str(error):
        return None
    return UserError(
        f"another of the {size()} processes has ended or does not answer; its message stands above. Rerun the same "
        "command to continue from the last checkpoint"
    )


def _join(device: str) -> str:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise UserError(
            f"{size()} processes were started, and together they need accelerate: pip install 'segbench[cluster]'"
        ) from error
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} is for one process; {size()} were started; say cuda or cpu, or drop it")
    there = torch.cuda.device_count()
    asked_cpu = device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    on_cpu = asked_cpu or (device == "auto" and not there)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size()))
    if not on_cpu and here > there:
        raise UserError(f"{here} processes were started for {there} GPUs; start as many as there are, or --device cpu")
    state = PartialState(cpu=on_cpu, backend="gloo" if on_cpu else "nccl", timeout=_ANSWERS)
    return str(state.device)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise peer_failure(error) or error from error
