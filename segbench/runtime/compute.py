"""Where the arithmetic happens and in which precision, chosen by one function that says what it chose."""

from __future__ import annotations

import contextlib
import ctypes
import resource
from pathlib import Path
from typing import NamedTuple

import torch

from segbench.core.errors import UserError

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Compute(NamedTuple):
    device: torch.device
    bf16: bool  # forward passes run under bfloat16 autocast; losses, scores and weights stay float32
    description: str  # for people: "cpu (2 threads), bf16"
    compiled: bool = False  # training's forward passes go through torch.compile

    @property
    def precision(self) -> str:
        return "bf16" if self.bf16 else "fp32"

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


def choose(device: str = "auto", compiled: bool = False) -> Compute:
    """The device that `--device` names ("auto": CUDA, else Apple's GPU, else the CPU), and bf16 where it really has it.

    On CUDA it also sets how the whole process computes: cuDNN tries its algorithms on the first batch of each shape,
    and what autocast leaves in float32 uses TF32 in matrix products and convolutions; on a CPU, denormal numbers count
    as zero. `compiled` is --compile.
    Raises UserError where the device is not there, and for `compiled` without CUDA.
    """
    name = device
    if device == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no device '{device}' here ({reason}); try --device auto, cpu, cuda or cuda:0") from error
    if place.type not in ("cuda", "mps", "cpu"):
        raise UserError(f"--device {device} cannot train or segment; try --device auto, cpu, cuda or cuda:0")
    if compiled and place.type != "cuda":
        raise UserError(f"--compile is for CUDA; on {place.type} compiling takes longer than it saves, so drop it")
    if place.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = True
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        description = torch.cuda.get_device_name(place)
    elif place.type == "cpu":
        # Emulated bfloat16 is slower than float32; AVX512-BF16 and AMX are the units that make it faster.
        bf16 = torch.cpu._is_avx512_bf16_supported()
        # Swin masks attention with -100, and exp(-100) is a denormal number: products with it ran 20 times slower.
        torch.set_flush_denormal(True)
        description = f"cpu ({torch.get_num_threads()} threads)"
    else:
        bf16, description = False, place.type
    description = f"{description}, {'bf16' if bf16 else 'fp32'}{', compiled' if compiled else ''}"
    return Compute(place, bf16, description, compiled)
