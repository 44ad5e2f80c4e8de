"""Where the arithmetic happens and in which precision, chosen by one function that says what it chose."""

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

PRECISION_VARIABLE = "SEGBENCH_PRECISION"  # what --precision auto means, for a whole test suite or batch system

_KINDS = ("cpu", "cuda", "mps")
_PROCESSOR = Path("/proc/cpuinfo")
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Compute(NamedTuple):
    device: torch.device
    record: Device  # what is remembered of it

    @property
    def bf16(self) -> bool:
        """Whether forward passes run under bfloat16 autocast; losses, scores and weights stay float32."""
        return self.record.precision == "bf16"

    @property
    def description(self) -> str:
        """For people."""
        return self.record.description

    def of_one_process(self) -> Device:
        """What is remembered of a measurement that this process made without the others of its group."""
        return dataclasses.replace(self.record, processes=1)

    def autocast(self) -> torch.autocast:
        """What a forward pass runs under."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def forget_peak(self) -> None:
        """Starts `peak_memory_gb` anew, where the system lets it: Linux does; elsewhere it only ever rises."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif _CLEAR.exists():
            with contextlib.suppress(OSError, AttributeError):  # AttributeError: a C library without malloc_trim
                ctypes.CDLL(None).malloc_trim(0)  # what was freed counts as resident until it is given back
                _CLEAR.write_text("5")  # proc(5): sets the high-water mark back to what is resident now

    def peak_memory_gb(self) -> float:
        """The most memory since `forget_peak`, GB (1e9 bytes): tensors on the device for CUDA, the whole process for
        CPU, the interpreter and its libraries included."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        if _STATUS.exists():
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024 / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # macOS counts bytes


def choose(device: str = "auto", precision: str = "auto", compiled: bool = False) -> Compute:
    """The device that `--device` names ("auto": CUDA, else Apple's GPU, else the CPU), computing in `--precision`.

    "auto" is what SEGBENCH_PRECISION says, and where it says nothing bf16 on a device that computes in it natively,
    else fp32: emulated bfloat16 is slower than float32.
    On CUDA it also sets how the whole process computes: cuDNN tries its algorithms on the first batch of each shape,
    and what autocast leaves in float32 uses TF32 in matrix products and convolutions; on a CPU, denormal numbers count
    as zero. `compiled` is --compile.
    Raises UserError where the device is not there or cannot train, for an unknown precision, and for `compiled` without
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
        # Swin masks attention with -100, and exp(-100) is a denormal number: products with it ran 20 times slower.
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
            raise UserError(f"--device {device} cannot train or segment; try --device auto, cpu, cuda or cuda:0")
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no device '{device}' here ({reason}); try --device auto, cpu, cuda or cuda:0") from error
    return place


def _precision(given: str, place: torch.device) -> str:
    source, wanted = "--precision", given
    if given == "auto":
        source, wanted = PRECISION_VARIABLE, os.environ.get(PRECISION_VARIABLE) or "auto"
    if wanted not in PRECISIONS:
        raise UserError(f"{source} is '{wanted}'; it must be one of {', '.join(PRECISIONS)}")
    if wanted != "auto":
        return wanted
    if place.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = place.type == "cpu" and torch.cpu._is_avx512_bf16_supported()  # and so the units of AMX
    return "bf16" if native else "fp32"


def _processor() -> str:
    """The CPU's name, "" where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in _PROCESSOR.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
