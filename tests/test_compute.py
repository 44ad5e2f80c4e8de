"""Where and how the arithmetic happens."""

from __future__ import annotations

import sys

import pytest
import torch

from segbench.core.errors import UserError
from segbench.core.records import Device, from_json, to_json
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
    with pytest.raises(UserError, match="give --device auto"):
        compute.choose("abacus")


@pytest.mark.parametrize("name", ["meta", "hpu", "xpu"])
def test_a_device_that_cannot_train_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--device {name} is not supported; give --device auto"):
        compute.choose(name)


def test_precision_is_the_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compute.PRECISION_VARIABLE, raising=False)
    native = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    assert compute.choose("cpu").record.precision == native
    for wanted in ("bf16", "fp32"):
        chosen = compute.choose("cpu", wanted)
        assert chosen.record.precision == wanted
        with chosen.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[wanted]
        monkeypatch.setenv(compute.PRECISION_VARIABLE, wanted)
        assert compute.choose("cpu").record.precision == wanted
    assert compute.choose("cpu", "bf16").record.precision == "bf16"  # said on the command line, it wins over fp32
    with pytest.raises(UserError, match="--precision is 'fp16'; it must be one of auto, bf16, fp32"):
        compute.choose("cpu", "fp16")
    monkeypatch.setenv(compute.PRECISION_VARIABLE, "half")
    with pytest.raises(UserError, match="SEGBENCH_PRECISION is 'half'; it must be one of"):
        compute.choose("cpu")


def test_a_device_is_described_from_its_fields() -> None:
    both = Device("cpu", "AMD EPYC", 4, 2, "bf16", False)
    assert both.description == "2 × cpu (AMD EPYC, 4 threads), bf16"
    assert Device("cpu", "", 1, 1, "fp32", False).description == "cpu (1 thread), fp32"
    gpu = Device("cuda", "NVIDIA H100", 0, 1, "bf16", True)
    assert gpu.description == "NVIDIA H100, bf16, compiled"
    assert [d.is_gpu for d in (both, gpu, Device("mps", "", 0, 1, "fp32", False))] == [False, True, False]
    assert from_json(Device, to_json(gpu)) == gpu
    assert compute.choose("cpu").record.threads == torch.get_num_threads()


def test_denormal_numbers_count_as_zero_on_a_cpu() -> None:
    compute.choose("cpu")
    assert (torch.full((1000,), 1e-40) * 0.5).count_nonzero() == 0
