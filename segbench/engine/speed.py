"""Measures the speed of a trained network without data loading."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from segbench.architectures.segmenter import Segmenter
from segbench.core.crops import WHOLE
from segbench.core.records import SpeedCard
from segbench.data.batches import normalise
from segbench.engine.inference import predict, resize, scores
from segbench.runtime.compute import Compute

_SECONDS_PER_PART = 1.0
_LEAST_REPEATS = 5


def measure(model: Segmenter, size: tuple[int, int], batch_size: int, compute: Compute) -> SpeedCard:
    """Times every part of inference on random images of `size` (height, width); medians of repeated calls.

    `model`: prepared by `inference.ready`. Random pixels take as long as real ones: no part depends on the content. A
    model with several passes takes its images one by one, whatever `batch_size` is.
    """
    device = compute.device
    batch_size = batch_size if model.passes == WHOLE else 1
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (batch_size, *size, 3), dtype=torch.uint8, generator=generator).to(device)
    compute.forget_peak()
    with torch.inference_mode():
        images = normalise(raw, model.normalisation)
        coarse = scores(model, images, compute)
        parts: dict[str, Callable[[], object]] = {
            "forward": lambda: scores(model, images, compute),
            "preprocess": lambda: normalise(raw, model.normalisation),
            "postprocess": lambda: resize(coarse, size).argmax(1).to(torch.uint8),
            "inference": lambda: predict(model, raw, compute),
        }
        rates = {f"{name}_images_per_second": batch_size / _median(call, device) for name, call in parts.items()}
        latency = _median(lambda: predict(model, raw[:1], compute), device)
    return SpeedCard(
        device=compute.of_one_process(),
        batch_size=batch_size,
        size=size,
        latency_ms=latency * 1000,
        parameters=sum(p.numel() for p in model.parameters()),
        peak_memory_gb=compute.peak_memory_gb(),
        gmac=gmac(model, size, compute),
        **rates,
    )


def gmac(model: Segmenter, size: tuple[int, int], compute: Compute) -> float:
    """Billions of multiply-accumulates in the passes of one image of `size` (height, width), up to the scores.

    `model`: prepared by `inference.ready`. Counted while it runs: convolutions and matrix products, those of attention
    included; torch counts each multiply-accumulate as two operations. Resampling, normalisation and activations are not
    counted. Attention runs as plain products meanwhile: not every device's own kernel is counted.
    """
    image = torch.zeros(1, 3, *size, device=compute.device)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        scores(model, image, compute)
    return float(counter.get_total_flops()) / 2e9


def _median(call: Callable[[], object], device: torch.device) -> float:
    """Seconds per call: the median of as many calls as fit into a second, after a warm-up."""
    call()
    seconds: list[float] = []
    while len(seconds) < _LEAST_REPEATS or sum(seconds) < _SECONDS_PER_PART:
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
