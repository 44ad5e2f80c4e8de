"""The group of processes that train one model together, as torchrun or `accelerate launch` starts them.

    torchrun --nproc-per-node 4 -m segbench.promote deeplab

A process that is started normally is a group of one: then nothing communicates, and accelerate is not imported. Process
0 is the main one: it alone writes files and databases, and prints.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from segbench.core.errors import UserError

_ANSWERS = datetime.timedelta(minutes=5)  # timeout of a training step: then a process hangs
_WORKS = datetime.timedelta(hours=12)  # timeout while the main process packs a dataset or examines a trained model
_T = TypeVar("_T")
_patient: Any = None  # a second group, on the CPU: for Python objects, and for waiting for the main process


def size() -> int:
    """The number of processes."""
    return int(os.environ["WORLD_SIZE"]) if {"WORLD_SIZE", "RANK", "LOCAL_RANK"} <= os.environ.keys() else 1


def rank() -> int:
    """The number of this process, 0..size-1."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[str]:
    """Inside, the processes form a group. Yields the device of this process: for "auto" and "cuda" one GPU each.

    Raises UserError if accelerate is missing, and for a device that several processes cannot use.
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
        gather(None)  # no process ends while another still works
        dist.destroy_process_group()
    finally:
        _patient = None


def refuse(command: str, instead: str) -> None:
    """Raises UserError if torchrun or accelerate started several processes of a command that runs in one."""
    if size() > 1:
        raise UserError(f"{command} runs in one process, but torchrun or accelerate started {size()}; {instead}")


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
    """Runs `work` in the main process only, and returns its result, or raises its UserError, in every process."""
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
    """Runs `work` in every process, in the main one first, so that the others find what it downloaded. Returns its
    result."""
    done: list[_T] = []
    on_main(lambda: done.append(work()))
    return done[0] if done else work()


def peer_failure(error: BaseException) -> UserError | None:
    """A UserError if `error` means that another process of the group has ended; else None."""
    if size() == 1:
        return None
    import torch.distributed as dist

    if not isinstance(error, dist.DistError) and "gloo" not in str(error):
        return None
    return UserError(
        f"another of the {size()} processes has ended or does not answer; see its message above. Rerun the same "
        "command to resume from the last checkpoint"
    )


def _join(device: str) -> str:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise UserError(
            f"{size()} processes that train together need accelerate: pip install 'segbench[cluster]'"
        ) from error
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} is for one process; {size()} were started; give cuda or cpu")
    gpus = torch.cuda.device_count()
    forced_cpu = device == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    on_cpu = forced_cpu or (device == "auto" and not gpus)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", size()))
    if not on_cpu and local > gpus:
        raise UserError(f"{local} processes were started for {gpus} GPUs; start one per GPU, or add --device cpu")
    state = PartialState(cpu=on_cpu, backend="gloo" if on_cpu else "nccl", timeout=_ANSWERS)
    return str(state.device)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise peer_failure(error) or error from error
