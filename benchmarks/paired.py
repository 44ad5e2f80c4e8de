"""Two ways to do the same work, alternately in one process: the median of their paired ratios, with its range."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.page import Row
from segbench.runtime.compute import Compute

_OPERATIONS = 6  # listed for a row that misses its target


class Case(NamedTuple):
    """One row: two ways to do the same work."""

    name: str
    peer: str
    units: float  # images in one call, or 1
    unit: str
    target: float  # the target ratio on a 2-core CPU with AVX512-BF16; 0 without a target
    ours: Callable[[], object]
    theirs: Callable[[], object]
    warm_up: bool = True  # False if the start is part of the work


def measure(case: Case, pairs: int, device: Compute) -> Row:
    # Memory is measured only in the first calls: returning freed memory to the system makes the next call slower.
    our_peak, peer_peak, first = _peak(case.ours, device), _peak(case.theirs, device), None
    if not case.warm_up:
        first = (our_peak[1], peer_peak[1])
        pairs -= 2  # the first pair is measured already, and pairs that take minutes need one less
    runs = [(seconds(case.ours, device), seconds(case.theirs, device)) for _ in range(pairs)]
    runs += [first] if first else []
    ratios = [theirs / ours for ours, theirs in runs]
    missed = statistics.median(ratios) < case.target
    ours, theirs = (case.units / statistics.median(side) for side in zip(*runs, strict=True))
    return Row(
        name=case.name,
        peer=case.peer,
        unit=case.unit,
        ours=ours,
        theirs=theirs,
        ratio=statistics.median(ratios),
        least=min(ratios),
        most=max(ratios),
        target=case.target,
        pairs=len(runs),
        our_peak_gb=our_peak[0],
        peer_peak_gb=peer_peak[0],
        limit=profile(case.ours, device) if missed else "",
    )


def profile(call: Callable[[], object], device: Compute) -> str:
    """The operations that take most of a call's own time."""
    with torch.profiler.profile() as seen:
        call()
    cuda = device.device.type == "cuda"
    times = {one.key: one.self_device_time_total if cuda else one.self_cpu_time_total for one in seen.key_averages()}
    most = sorted(times, key=times.__getitem__, reverse=True)[:_OPERATIONS]
    return ", ".join(f"{100 * times[key] / sum(times.values()):.0f} % {key.removeprefix('aten::')}" for key in most)


def _peak(call: Callable[[], object], device: Compute) -> tuple[float, float]:
    """The peak memory that one call adds, in GB, and its seconds."""
    gc.collect()
    device.forget_peak()
    before = device.peak_memory_gb()
    took = seconds(call, device)
    return device.peak_memory_gb() - before, took


def seconds(call: Callable[[], object], device: Compute) -> float:
    wait(device)
    started = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - started


def wait(device: Compute) -> None:
    """Until the device has done what it was given."""
    if device.device.type == "cuda":
        torch.cuda.synchronize(device.device)
