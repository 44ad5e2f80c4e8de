"""Where the arithmetic happens and in which precision, chosen by one function that says what it chose."""

from __future__ import annotations

import resource
import sys
from typing import NamedTuple

import torch

from segbench.errors import UserError


class Compute(NamedTuple):
    device: torch.device
    bf16: bool  # forward passes run under bfloat16 autocast; losses, scores and weights stay float32
    words: str  # for people: "cpu (2 threads), bf16"

    @property
    def precision(self) -> str:
        return "bf16" if self.bf16 else "fp32"

    def autocast(self) -> torch.autocast:
        """What a forward pass runs under."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def peak_memory_gb(self) -> float:
        """The most memory so far, GB (1e9 bytes): tensors on the device for CUDA, the whole process for CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9  # macOS counts bytes, Linux KiB


def choose(device: str = "auto") -> Compute:
    """The device that `--device` names ("auto": CUDA, else Apple's GPU, else the CPU), and bf16 where it really has it.

    Raises UserError where the device is not there.
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
    if place.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        words = torch.cuda.get_device_name(place)
    elif place.type == "cpu":
        # Emulated bfloat16 is slower than float32; AVX512-BF16 and AMX are the units that make it faster.
        bf16 = torch.cpu._is_avx512_bf16_supported()
        words = f"cpu ({torch.get_num_threads()} threads)"
    else:
        bf16, words = False, place.type
    return Compute(place, bf16, f"{words}, {'bf16' if bf16 else 'fp32'}")
