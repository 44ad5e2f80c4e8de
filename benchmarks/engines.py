"""Compares inference engines with eager PyTorch: are they clearly faster, and do they give the same masks?

    python -m benchmarks.engines                    needs `pip install openvino`; a C++ compiler for torch.compile

Each row runs eager inference, as in `segbench.predict`, and an engine alternately, on full-size networks after a few
training steps, and compares their masks pixel by pixel.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.ours import BATCH, SIZE, inputs, photographs, train_step
from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.data.batches import normalise
from segbench.engine.inference import predict, ready, resize
from segbench.runtime import compute, terminal
from segbench.runtime.compute import Compute

PAIRS = 5
STEPS = 6  # of training: the classes of an untrained network nearly tie
Engine = Callable[[Tensor], Tensor]  # (B, H, W, 3) uint8 to (B, H, W) categories


def main() -> int:
    device = compute.choose("cpu")
    images = photographs()
    rows = []
    for name in ("deeplab", "mask2former"):
        model = _trained(name, device)
        for engine, make in (("OpenVINO", _openvino), ("torch.compile", _compiled)):
            rows.append([name, engine, *_compared(model, make, images, device)])
            print(*rows[-1], flush=True)
    columns = ["network", "engine", "times as fast as eager", "equal pixels", "seconds to start"]
    terminal.table(f"{device.description}, batch {BATCH}, {SIZE[0]}×{SIZE[1]}", columns, rows, right={2, 3, 4})
    return 0


def _compared(
    model: Segmenter, make: Callable[[Segmenter, Tensor, Compute], Engine], images: Tensor, device: Compute
) -> list[str]:
    eager = ready(copy.deepcopy(model), device)
    started = time.perf_counter()
    engine = make(copy.deepcopy(model).for_inference(), images, device)
    found = engine(images)
    start = time.perf_counter() - started
    same = (predict(eager, images, device) == found).float().mean().item()
    pairs = [(_seconds(lambda: predict(eager, images, device)), _seconds(lambda: engine(images))) for _ in range(PAIRS)]
    ratios = [before / after for before, after in pairs]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return [ratio, f"{100 * same:.2f} %", f"{start:.0f}"]


def _trained(name: str, device: Compute) -> Segmenter:
    model, _ = architectures.create(name, peers.CLASSES, "random", {}, 0)
    step = train_step(model, *inputs(), device)
    for _ in range(STEPS):
        step()
    return model


class _Scores(nn.Module):
    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.scores(self.model(images))


def _openvino(model: Segmenter, images: Tensor, device: Compute) -> Engine:
    import openvino

    example = normalise(images, model.normalisation).contiguous()
    with torch.no_grad():
        converted = openvino.convert_model(_Scores(model).eval(), example_input=example)
    options = {"INFERENCE_PRECISION_HINT": "bf16" if device.bf16 else "f32", "PERFORMANCE_HINT": "LATENCY"}
    options["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
    network = openvino.Core().compile_model(converted, "CPU", options)

    def call(images: Tensor) -> Tensor:
        scores = torch.from_numpy(network([normalise(images, model.normalisation).contiguous().numpy()])[0])
        return resize(scores, images.shape[1:3]).argmax(1)

    return call


def _compiled(model: Segmenter, images: Tensor, device: Compute) -> Engine:
    from torch._inductor import config

    config.freezing = True  # folds and repacks the weights once
    model = ready(model, device)
    model.compile()
    return lambda images: predict(model, images, device)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
