"""Chooses the device and the precision of computations, and records the choice."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import platform
import resource
from pathlib import Path
from typing import NamedTuple

import torch

from segbench.core.errors import UserError
from segbench.core.records import PRECISIONS, Device
from segbench.runtime import process_group

PRECISION_VARIABLE = "SEGBENCH_PRECISION"  # the meaning of --precision auto, for a test suite or batch system

_KINDS = ("cpu", "cuda", "mps")
_PROCESSOR = Path("/proc/cpuinfo")
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Compute(NamedTuple):
    device: torch.device
    record: Device  # its description in trials and cards

    @property
    def bf16(self) -> bool:
        """Whether forward passes run under bfloat16 autocast; losses, scores and weights stay float32."""
        return self.record.precision == "bf16"

    @property
    def description(self) -> str:
        """A line for people."""
        return self.record.description

    def of_one_process(self) -> Device:
        """The record for a measurement by this process alone, without the others of its group."""
        return dataclasses.replace(self.record, processes=1)

    def autocast(self) -> torch.autocast:
        """The context manager for forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def forget_peak(self) -> None:
        """Resets `peak_memory_gb`, on CUDA and Linux; elsewhere the peak cannot be reset."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif _CLEAR.exists():
            with contextlib.suppress(OSError, AttributeError):  # AttributeError: a C library without malloc_trim
                ctypes.CDLL(None).malloc_trim(0)  # freed memory counts as resident until it is returned to the system
                _CLEAR.write_text("5")  # proc(5): resets the high-water mark to what is resident now

    def peak_memory_gb(self) -> float:
        """The peak memory since `forget_peak`, in GB (1e9 bytes): on CUDA of tensors on the device, elsewhere of the
        whole process, including the interpreter and its libraries."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        if _STATUS.exists():
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024 / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # macOS counts bytes


def choose(device: str = "auto", precision: str = "auto", compiled: bool = False) -> Compute:
    """Chooses the device of `--device` ("auto": CUDA, else Apple's GPU, else the CPU) and the precision of
    `--precision`. `compiled` is --compile.

    The precision "auto" is the value of SEGBENCH_PRECISION, else bf16 on a device with native support, else fp32:
    emulated bfloat16 is slower than float32.

    Also changes settings of the whole process. On CUDA, cuDNN benchmarks its algorithms on the first batch of each
    shape, and float32 matrix products and convolutions use TF32. On a CPU, denormal numbers count as zero.

    Raises UserError if the device is missing or cannot train, for an unknown precision, and for `compiled` without
    CUDA.
    """
    place = _place(device)
    if compiled and place.type != "cuda":
        raise UserError(f"--compile is for CUDA; on {place.type} compiling takes longer than it saves, so drop it")
    if place.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = True
        name, threads = torch.cuda.get_device_name(place), 0
    elif place.type == "cpu":
        # Swin masks attention with -100, and exp(-100) is a denormal number, with which products are 20 times slower.
        torch.set_flush_denormal(True)
        name, threads = _processor(), torch.get_num_threads()
    else:
        name, threads = "", 0
    record = Device(place.type, name, threads, process_group.size(), _precision(precision, place), compiled)
    return Compute(place, record)


def _place(device: str) -> torch.device:
    name = device
    if device == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(name)
        if place.type not in _KINDS:
            raise UserError(f"--device {device} is not supported; give --device auto, cpu, cuda or cuda:0")
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no device '{device}' here ({reason}); give --device auto, cpu, cuda or cuda:0") from error
    return place


def _precision(given: str, place: torch.device) -> str:
    source, precision = "--precision", given
    if given == "auto":
        source, precision = PRECISION_VARIABLE, os.environ.get(PRECISION_VARIABLE) or "auto"
    if precision not in PRECISIONS:
        raise UserError(f"{source} is '{precision}'; it must be one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if place.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = place.type == "cpu" and torch.cpu._is_avx512_bf16_supported()  # and so the units of AMX
    return "bf16" if native else "fp32"


def _processor() -> str:
    """The CPU's name, "" if unknown."""
    with contextlib.suppress(OSError):
        for line in _PROCESSOR.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
