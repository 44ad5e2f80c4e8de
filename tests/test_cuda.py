"""On a GPU: what the CPU computes, from any memory, and every command from search to explanation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from segbench import architectures
from segbench.core import panoptic
from segbench.core.augment import Augment
from segbench.core.crops import Passes, Size
from segbench.core.labels import DEFAULT
from segbench.core.protocol import Data
from segbench.core.recipe import Recipe
from segbench.core.records import Hyperparameters
from segbench.data import layouts, packing, reader
from segbench.data.batches import Batch, Batches
from segbench.engine import evaluation, speed, training
from segbench.engine import inference as inferring
from segbench.engine import panoptic as counting
from segbench.engine.resume import TrainingSession
from segbench.runtime import compute
from segbench.runtime.compute import Compute
from tests import official_panoptic as official
from tests.conftest import SIZE
from tests.test_augmentation import EVERYTHING

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

CHOSEN = Hyperparameters(3e-3, 1e-4, "adamw", {})
VIEWS = {"plain": (None, None), "augmented": (EVERYTHING, None), "crops": (EVERYTHING, (24, 40))}
LEARNERS = ("mask2former", "eomt", "panoptic_deeplab")  # of segments


@pytest.fixture(scope="module")
def data(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    layout = layouts.of(Data(SIZE, task="panoptic"))
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"), layout=layout)


@pytest.fixture
def gpu(exact: None) -> Compute:
    chosen = compute.choose("cuda", "fp32")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return chosen


@pytest.fixture
def cpu() -> Compute:
    return compute.choose("cpu", "fp32")


@pytest.fixture
def exact() -> Iterator[None]:
    """Afterwards, products may use TF32 as before. Without it, a GPU differs from a CPU by the order of its sums."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def tiny(name: str, **options: object) -> architectures.Segmenter:
    return architectures.create(name, 8, "random", {"size": "tiny", **options}, 0)[0]


def images(data: packing.Dataset, device: Compute, batch: int = 4) -> tuple[Batches, Batches]:
    return tuple(Batches(split, np.arange(8), batch, device.device) for split in (data.train, data.val))  # type: ignore[return-value]


def semantic(data: packing.Dataset) -> packing.Dataset:
    plain = [dataclasses.replace(split, instances=None, digests=None) for split in (data.train, data.val)]
    return dataclasses.replace(data, train=plain[0], val=plain[1])


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_trains(name: str, precision: str, data: packing.Dataset) -> None:
    state = training.begin(tiny(name), CHOSEN, compute.choose("cuda", precision))
    found = list(training.fit(state, *images(semantic(data), state.compute, 8), epochs=2, seed=0))
    assert found[1].train_loss < found[0].train_loss
    assert found[1].peak_memory_gb > 0
    assert all(0 <= part <= found[1].seconds.total for part in dataclasses.asdict(found[1].seconds).values())


@pytest.mark.parametrize("name", architectures.names())
def test_its_evaluation_is_the_cpus(name: str, data: packing.Dataset, cpu: Compute, gpu: Compute) -> None:
    ours, theirs = (
        evaluation.evaluate(inferring.ready(tiny(name), device), images(semantic(data), device)[1], device)
        for device in (cpu, gpu)
    )
    assert theirs.nll == pytest.approx(ours.nll, rel=1e-4)
    moved = np.abs(ours.confusions - theirs.confusions).sum() / 2
    assert moved < 0.002 * ours.confusions.sum()  # networks with random weights have near ties


def test_windows_mirrors_and_scales_are_the_cpus(data: packing.Dataset, cpu: Compute, gpu: Compute) -> None:
    found = {}
    for device in (cpu, gpu):
        model = inferring.ready(tiny("lraspp"), device)
        model.passes = Passes((24, 40), (12, 20), True, (0.75, 1.0))
        found[device] = evaluation.evaluate(model, images(semantic(data), device)[1], device).confusions
    assert np.abs(found[cpu] - found[gpu]).sum() / 2 < 0.002 * found[cpu].sum()


@pytest.mark.parametrize("view", VIEWS)
def test_its_batches_are_the_cpus(view: str, data: packing.Dataset, cpu: Compute, gpu: Compute) -> None:
    for ours, theirs in zip(*(epoch(data, device, *VIEWS[view]) for device in (cpu, gpu)), strict=True):
        # Where a point lies on the edge between two pixels, rounding decides.
        for plane in ("labels", "raw", "instances"):
            assert (getattr(ours, plane) == getattr(theirs, plane).cpu()).float().mean() > 0.995
        near = torch.isclose(ours.images, theirs.images.cpu(), atol=2e-2, rtol=0)
        assert near.float().mean() > 0.99


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_read_ahead_is_what_is_resident(
    view: str, data: packing.Dataset, gpu: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinned memory is given out again only when the device has copied it."""
    resident = [epoch(data, gpu, *VIEWS[view], number=number) for number in range(5)]
    monkeypatch.setattr(reader, "_free", lambda device: 0)
    for number, known in enumerate(resident):
        for ours, theirs in zip(known, epoch(data, gpu, *VIEWS[view], number=number), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, torch.Tensor))


def epoch(
    data: packing.Dataset, device: Compute, asked: Augment | None, crop: Size | None, number: int = 0
) -> list[Batch]:
    return list(Batches(data.train, np.arange(24), 5, device.device, asked, crop).shuffled(3, number))


def test_a_whole_recipe_trains_and_goes_on_where_it_stopped(
    data: packing.Dataset, gpu: Compute, tmp_path: Path
) -> None:
    recipe = Recipe("poly", warmup=0.3, backbone_lr=0.5, no_decay=True, clip_norm=0.5, ema=0.9,
                    label_smoothing=0.1, class_weights="effective", ohem=0.7, batchnorm="frozen")  # fmt: skip
    chosen, batches = dataclasses.replace(CHOSEN, recipe=recipe), images(semantic(data), gpu)
    whole = list(training.fit(training.begin(tiny("deeplab"), chosen, gpu), *batches, epochs=4, seed=0))
    state = training.begin(tiny("deeplab"), chosen, gpu)
    session = TrainingSession(tmp_path / "attempt", "same")
    for record in session.epochs(state, training.fit(state, *batches, epochs=4, seed=0)):
        if record.epoch == 2:
            session.write(state)
            break
    again, other = TrainingSession(tmp_path / "attempt", "same"), training.begin(tiny("deeplab"), chosen, gpu)
    again.restore(other)
    assert other.epoch == 2
    rest = list(again.epochs(other, training.fit(other, *batches, epochs=4, seed=0)))
    assert [record.epoch for record in rest] == [1, 2, 3, 4]
    for ours, theirs in zip(rest, whole, strict=True):  # some of cuDNN's sums are in no fixed order
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-2)
        assert ours.lr == theirs.lr


@pytest.mark.parametrize("name", LEARNERS)
def test_segments_are_learned_and_counted(name: str, data: packing.Dataset) -> None:
    options = {} if name == "panoptic_deeplab" else {"queries": 40}
    state = training.begin(tiny(name, **options), CHOSEN, compute.choose("cuda"))
    found = list(training.fit(state, *images(data, state.compute), epochs=2, seed=0))
    assert found[1].train_loss < found[0].train_loss
    assert found[1].panoptic is not None
    assert found[1].panoptic.pq is not None


def test_counts_of_segments_are_the_cpus() -> None:
    generator = np.random.default_rng(0)
    truths = np.stack([panoptic.truth(*official.scene(generator, DEFAULT), DEFAULT) for _ in range(4)])
    found = np.stack([official.prediction(generator, truth, DEFAULT) for truth in truths])
    predicted = np.maximum(found // panoptic.SPAN, 0)
    given = [torch.from_numpy(each) for each in (truths, found, predicted)]
    ours, theirs = (
        counting.count(*(each.to(device) for each in given), DEFAULT)  # type: ignore[call-arg]
        for device in ("cpu", "cuda")
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_compiled_network_trains(data: packing.Dataset) -> None:
    state = training.begin(tiny("lraspp"), CHOSEN, compute.choose("cuda", compiled=True))
    found = list(training.fit(state, *images(semantic(data), state.compute), epochs=2, seed=0))
    assert found[1].train_loss < found[0].train_loss
    assert not any("_orig_mod" in name for name in state.tensors())


def test_speed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_SECONDS_PER_PART", 0.05)
    gpu = compute.choose("cuda")
    card = speed.measure(inferring.ready(tiny("segformer"), gpu), SIZE, 8, gpu)
    assert card.inference_images_per_second > 0
    assert card.latency_ms > 0
    assert card.device.kind == "cuda"


def test_every_command(
    drawn: Path, protocol: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    pytest.importorskip("mlflow")
    from segbench import export, predict, promote, search
    from segbench.explain import __main__ as explain
    from segbench.report import __main__ as report
    from tests.test_commands import call

    request.getfixturevalue("storage")
    where = ["--protocol", protocol, "--data", drawn]
    assert call(search, *where, "--device", "cuda", "--keep-weights") == 0
    assert torch.cuda.get_device_name() in capsys.readouterr().out
    assert call(promote, *where, "--device", "cuda") == 0
    photograph = next(drawn.glob("leftImg8bit/val/*/*.png"))
    model = f"{protocol.name}-mask2former"
    for device in ("cuda", "cpu"):
        assert call(predict, photograph, "--model", model, "--device", device, "--out", tmp_path / device) == 0
    assert {path.name for path in (tmp_path / "cuda").rglob("*")} == {p.name for p in (tmp_path / "cpu").rglob("*")}
    assert call(explain, "--protocol", protocol, "--device", "cuda", "--images", "2", "--exact", "--corruptions") == 0
    assert call(report, "--protocol", protocol) == 0
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert call(export, f"{protocol.name}-deeplab", "--to", tmp_path / "deeplab.onnx") == 0


def test_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    from segbench.serve.service import Settings
    from tests.serving import Live, photograph, promote

    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    for name in ("deeplab", "mask2former"):
        promote(name)
    live = Live(Settings(devices=("cuda",), queue=64, megapixels=4, upload_bytes=1_000_000))
    try:
        replies = live.many([("/v1/segment", photograph(seed=seed)) for seed in range(16)])
        assert [reply.status for reply in replies] == [200] * 16
        assert all(len(reply.json()["models"]) == 2 for reply in replies)
    finally:
        live.stop()
