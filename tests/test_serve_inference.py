"""Class maps a strip at a time: the same as of the whole, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segbench.engine import inference
from segbench.serve.networks import Lane
from tests.serving import promote


@pytest.mark.parametrize(
    ("own", "size"),
    [
        ((8, 16), (64, 128)),
        ((8, 16), (1, 1)),
        ((1, 1), (5, 7)),
        ((64, 64), (50, 70)),
        ((3, 5), (7, 5000)),
        ((9, 7), (777, 501)),
    ],
)
@pytest.mark.parametrize("strip", [1, 20_000, 1 << 20])
def test_strips_are_the_whole_but_for_ties(
    own: tuple[int, int], size: tuple[int, int], strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_STRIP", strip)
    scores = torch.randn(8, *own, generator=torch.Generator().manual_seed(0))
    for given in (scores, scores[None].to(memory_format=torch.channels_last)[0]):
        whole = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
        made = inference.class_map(given, size)
        assert (made.dtype, made.shape) == (torch.uint8, size)
        lost = whole.max(0).values - whole.gather(0, made[None].long())[0]
        assert float(lost.max()) < 1e-5  # what it names is the best, or as good


def test_the_first_of_equal_classes_counts() -> None:
    assert inference.class_map(torch.zeros(8, 4, 4), (9, 9)).max() == 0


def test_a_class_that_is_never_predicted_leaves_the_others_alone() -> None:
    scores = torch.randn(8, 6, 9, generator=torch.Generator().manual_seed(0))
    scores[3] = -float("inf")
    low = torch.where(scores.isinf(), -1e6, scores)
    assert torch.equal(inference.class_map(scores, (50, 60)), inference.class_map(low, (50, 60)))


@pytest.mark.parametrize(
    ("fixed", "each", "limit", "largest", "measured", "others"),
    [
        (0.05, 0.01, 8, 8, [1, 2, 4, 8], [3, 5, 6, 7]),
        (0.05, 0.01, 6, 6, [1, 2, 4, 6], [3, 5]),
        (0.024, 0.158, 8, 4, [1, 2, 4], [3]),  # eight would be 2 % quicker an image: not worth its wait, nor a try
        (0.0, 0.1, 8, 1, [1, 2], []),
    ],
)
def test_warming_up_stops_where_a_larger_batch_gains_nothing(
    fixed: float,
    each: float,
    limit: int,
    largest: int,
    measured: list[int],
    others: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, computed = [], []

    def seconds(self: Lane, model: object, card: object, batch: int) -> float:
        tried.append(batch)
        return fixed + each * batch

    monkeypatch.setattr(Lane, "_seconds", seconds)
    monkeypatch.setattr(Lane, "_forward", lambda self, model, card, images: computed.append(len(images)))
    lane, card = Lane(0, "cpu"), SimpleNamespace(size=(2, 2))
    try:
        assert lane.warm_up(None, card, limit) == largest  # type: ignore[arg-type]
    finally:
        lane.close()
    assert (tried, computed) == (measured, others)


@pytest.mark.slow
def test_a_64_megapixel_photograph_costs_little_more_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    promote("deeplab")
    colours = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((8000, 8000), Image.Resampling.NEAREST).save(
        tmp_path / "large.png", compress_level=1
    )
    script = (
        "import sys; from pathlib import Path; from segbench import predict\n"
        "from segbench.data import pictures\n"
        "from segbench.engine import inference\n"
        "from segbench.runtime import compute, terminal\n"
        "cpu, image = compute.choose('cpu'), Path(sys.argv[1])\n"
        "read = pictures.read\n"
        "def measured(path):\n"
        "    pixels = read(path); cpu.forget_peak(); measured.at = cpu.peak_memory_gb(); return pixels\n"
        "pictures.read = measured\n"
        "code = predict.main([str(image), '--out', sys.argv[2], '--quiet', '--device', 'cpu'])\n"
        "print(code, cpu.peak_memory_gb() - measured.at)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "large.png"), str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "0"
    assert float(said[1]) < 0.4
