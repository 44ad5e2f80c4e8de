"""Training on segments, through the real batches: what is passed to the losses, and that parts of a batch make it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import SPAN
from segbench.core.records import Hyperparameters
from segbench.data import pictures, streets
from segbench.data.batches import Batches
from segbench.data.packing import Split
from segbench.data.segments import taught, truth
from segbench.engine import losses, training
from segbench.experiment import objective
from segbench.runtime import compute, global_batch

CPU = compute.choose("cpu")
SIZE = (64, 128)
VEHICLE = DEFAULT.names.index("vehicle")
LEARNERS = ("mask2former", "eomt", "panoptic_deeplab")
OPTIONS = {"mask2former": {"queries": 40}, "eomt": {"queries": 40}}


def drawn(count: int = 4, instances: bool = True) -> Split:
    """Scenes drawn at twice the size, as a packed split."""
    scenes = [streets.draw_instances(3, city, 2 * SIZE[0], 2 * SIZE[1]) for city in range(count)]
    images = np.stack([image[::2, ::2] for image, _ in scenes])
    ids = np.stack([each[::2, ::2] for _, each in scenes])
    raw = streets.label_of(ids).astype(np.uint8)
    plane = np.where(ids >= 1000, ids % 1000 + 1, 0).astype(np.uint8)
    names = tuple(map(str, range(count)))
    histogram = np.bincount(raw.ravel(), minlength=256)
    aspects = np.full(count, 2.0)
    return Split(images, raw, names, names, histogram, (), aspects, "drawn", DEFAULT, plane if instances else None)


def batches(instances: bool = True) -> Batches:
    return Batches(drawn(instances=instances), np.arange(4), 4, CPU.device)


def made(name: str, **options: Any) -> Segmenter:
    return architectures.create(name, 8, "random", {"size": "tiny", **OPTIONS.get(name, {}), **options}, 0)[0]


@pytest.mark.parametrize("name", LEARNERS)
def test_it_trains_on_drawn_segments(name: str) -> None:
    """And evaluates by the same loss; the same network on classes alone has another."""
    chosen = Hyperparameters(1e-3, 1e-4, "adamw", {})
    first: dict[bool, list[float]] = {}
    for segments in (True, False):
        state = training.begin(made(name, segments=segments), chosen, CPU)
        records = list(training.fit(state, batches(), batches(), epochs=3, seed=0))
        assert records[-1].train_loss < records[0].train_loss
        first[segments] = [records[0].train_loss, records[0].val_loss]
    assert first[True][0] != first[False][0]
    assert first[True][1] != first[False][1]


def test_only_a_learner_of_segments_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(self: Segmenter, outputs: Any, labels: Tensor, *segments: Tensor) -> dict[str, Tensor]:
        seen.append(segments)
        return {"main": torch.zeros(())}

    model = made("panoptic_deeplab")
    monkeypatch.setattr(type(model), "losses", record)
    monkeypatch.setattr(type(model), "segment_losses", record)
    batch, plain = next(iter(batches())), next(iter(batches(instances=False)))
    for learns, one in ((False, batch), (True, plain), (True, batch)):
        model.learns_segments = learns
        losses.of_batch(model, None, one, DEFAULT)
    assert [len(one) for one in seen] == [0, 0, 1]
    assert batch.instances is not None
    wanted = taught(truth(batch.raw, batch.instances, DEFAULT), batch.labels, DEFAULT)
    assert torch.equal(seen[2][0], wanted)
    assert len(wanted.unique()) > 10


@pytest.mark.parametrize("name", LEARNERS)
def test_the_losses_of_a_batchs_parts_sum_to_the_batchs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, as two threads that sum what processes would: parts of 3 images and of 1."""
    batch = next(iter(batches()))
    model = made(name).eval()
    with torch.inference_mode():
        outputs = model(batch.images)
    whole = losses.of_batch(model, outputs, batch, DEFAULT)
    both = threading.Barrier(2)
    shared: list[Tensor] = []

    def total(tensor: Tensor) -> Tensor:
        shared.append(tensor)
        both.wait(60)
        found = torch.stack(shared[-2:]).sum(0)
        both.wait(60)
        return found

    monkeypatch.setattr(global_batch, "total", total)
    model.is_sharded = True
    parts: dict[int, dict[str, Tensor]] = {}

    def one(start: int, stop: int) -> None:
        part = batch._replace(**{k: getattr(batch, k)[start:stop] for k in ("images", "labels", "raw", "instances")})
        parts[start] = losses.of_batch(model, cut(outputs, start, stop), part, DEFAULT)

    threads = [threading.Thread(target=one, args=bounds) for bounds in ((0, 3), (3, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for term, value in whole.items():
        torch.testing.assert_close(0.75 * parts[0][term] + 0.25 * parts[3][term], value, rtol=1e-4, atol=1e-6)


def cut(outputs: Any, start: int, stop: int) -> Any:
    """Some images' outputs; those of queries have their decoder layers first."""
    layers = "masks" in outputs._fields
    kept = (part if part is None else part[:, start:stop] if layers else part[start:stop] for part in outputs)
    return type(outputs)(*kept)


def test_the_dashboard_shows_each_object_in_a_shade() -> None:
    """Of truth and prediction; of a semantic protocol it shows classes."""
    shown = batches().some(3)
    assert shown.segments is not None
    run: Any = SimpleNamespace(
        task=SimpleNamespace(images=SimpleNamespace(val=batches())), state=SimpleNamespace(compute=CPU)
    )
    truths, predictions = objective._pictures(made("panoptic_deeplab").eval(), shown, run)
    assert [one.size for one in (*truths, *predictions)] == [(SIZE[1], SIZE[0])] * 6
    sheet = pictures.sheet(shown.images.numpy(), truths, predictions)
    assert sheet.height > 3 * 256
    vehicles = {tuple(c) for c in np.asarray(truths[0])[(shown.segments[0] // SPAN == VEHICLE).numpy()]}
    assert len(vehicles) > 3
    truths, predictions = objective._pictures(made("panoptic_deeplab").eval(), shown._replace(segments=None), run)
    assert np.array_equal(np.asarray(truths[0]), shown.classes[0].numpy())
    assert len(predictions) == 3
