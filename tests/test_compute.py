"""Where and how the arithmetic happens."""

from __future__ import annotations

import sys

import pytest
import torch

from segbench.core.errors import UserError
from segbench.runtime import compute


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_peak_memory_is_counted_from_where_it_was_forgotten() -> None:
    device = compute.choose("cpu")
    device.forget_peak()
    before = device.peak_memory_gb()
    torch.ones(100_000_000)  # 0.4 GB, given back at once
    assert device.peak_memory_gb() >= before + 0.39
    device.forget_peak()
    assert device.peak_memory_gb() < before + 0.2


def test_compile_is_refused_without_cuda() -> None:
    with pytest.raises(UserError, match="--compile is for CUDA"):
        compute.choose("cpu", compiled=True)


def test_unknown_device_names_the_others() -> None:
    with pytest.raises(UserError, match="try --device auto"):
        compute.choose("abacus")


def test_denormal_numbers_count_as_zero_on_a_cpu() -> None:
    compute.choose("cpu")
    assert (torch.full((1000,), 1e-40) * 0.5).count_nonzero() == 0
