"""Panoptic protocols maximise PQ: what an epoch records, which is the best, and what a killed training still knows."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segbench.architectures import create
from segbench.core import protocol, records
from segbench.core.errors import UserError
from segbench.core.protocol import Data
from segbench.core.records import EpochRecord, EpochSeconds, Hyperparameters, Quality
from segbench.core.study_record import TrialState
from segbench.data import layouts, packing, segments
from segbench.data.batches import Batches
from segbench.engine import evaluation, training
from segbench.engine.resume import TrainingSession
from segbench.experiment import objective
from segbench.ledger import export, models, reading, runs
from segbench.runtime import compute
from segbench.runtime.compute import Compute
from segbench.stats import panoptic
from tests.conftest import SIZE

LR = Hyperparameters(3e-3, 1e-4, "adamw")


@pytest.fixture(scope="module")
def packed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> packing.Dataset:
    return packing.prepare(
        drawn, SIZE, tmp_path_factory.mktemp("cache"), layout=layouts.of(Data(SIZE, task="panoptic"))
    )


@pytest.fixture
def cpu() -> Compute:
    return compute.choose("cpu", "fp32")


def images(packed: packing.Dataset, batch: int = 4) -> tuple[Batches, Batches]:
    cpu = torch.device("cpu")
    return Batches(packed.train, np.arange(8), batch, cpu), Batches(packed.val, np.arange(5), batch, cpu)


def quality(pq: float | None) -> Quality:
    return Quality(pq, 0.6, 0.5, 0.1, pq, None, (None, *[0.25] * 7))


def epoch(number: int, miou: float, found: Quality | None) -> EpochRecord:
    seconds = EpochSeconds(**dict.fromkeys(EpochSeconds.__dataclass_fields__, 1.0))
    return EpochRecord(number, 1.0, 1.0, 1.0, 0.5, miou, miou, (miou,) * 8, seconds, 1.0, 0.1, panoptic=found)


def test_the_value_of_an_epoch_is_its_pq_where_there_is_one() -> None:
    plain, found, undefined = epoch(1, 0.4, None), epoch(2, 0.4, quality(0.2)), epoch(3, 0.9, quality(None))
    assert (plain.value, plain.value_name) == (0.4, "mIoU")
    assert (found.value, found.value_name) == (0.2, "PQ")
    assert math.isnan(undefined.value)
    better = epoch(4, 0.1, quality(0.3))
    assert records.best_epoch([found, better, epoch(5, 0.8, quality(0.25))]) is better


def test_an_epoch_returns_from_json_the_ledger_and_mlflow_as_it_was() -> None:
    classes = tuple(f"class {index}" for index in range(8))
    for one in (epoch(1, 0.4, None), epoch(2, 0.4, quality(0.2)), epoch(3, 0.9, quality(None))):
        stored = records.to_json(one)
        assert records.from_json(EpochRecord, stored) == one
        assert reading._epoch(stored) == one
        flat = runs._flat(one, classes)
        assert set(flat) <= runs._keys(classes)
        assert all(isinstance(value, (int, float)) for value in flat.values())
        assert runs._epoch(one.epoch, flat, classes) == one
    old = {key: value for key, value in records.to_json(epoch(1, 0.4, None)).items() if key != "panoptic"}
    assert reading._epoch(old).value == 0.4


def test_exported_epochs_have_a_column_for_each_panoptic_score() -> None:
    trial = SimpleNamespace(study="s", index=0, attempt=0, epochs=(epoch(1, 0.4, quality(0.2)), epoch(2, 0.4, None)))
    first, second = export._epoch_rows(trial, [f"c{index}" for index in range(8)])
    assert (first["panoptic/pq"], first["panoptic/iiou"], first["pq/c0"], first["pq/c7"]) == (0.2, None, None, 0.25)
    assert "panoptic/pq" not in second
    assert "panoptic" not in first


def test_an_evaluation_counts_segments_in_the_order_of_the_images(packed: packing.Dataset, cpu: Compute) -> None:
    model = create("deeplab", 8, "random", {"size": "tiny"}, 0)[0].eval()
    _, val = images(packed)
    whole = evaluation.evaluate(model, val, cpu)
    assert whole.segments is not None
    assert whole.segments.segments.shape == (5, 8, 4)
    assert whole.value == panoptic.quality(whole.segments, val.label_set).value
    shares = [evaluation._pass(model, val.every(2, first), val.label_set, cpu) for first in (0, 1)]
    joined = evaluation._joined(shares, val)
    for mine, theirs in zip(joined.segments, whole.segments, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    alone = evaluation.evaluate(model, Batches(packed.val, np.array([3]), 1, torch.device("cpu")), cpu)
    np.testing.assert_array_equal(alone.segments.segments[0], whole.segments.segments[3])


def test_a_semantic_evaluation_counts_none(drawn: Path, tmp_path: Path, cpu: Compute) -> None:
    model = create("deeplab", 8, "random", {"size": "tiny"}, 0)[0]
    split = packing.prepare(drawn, SIZE, tmp_path).val
    result = evaluation.evaluate(model, Batches(split, np.arange(2), 2, torch.device("cpu")), cpu)
    assert (result.segments, result.quality, result.value) == (None, None, result.scores.miou)


def test_pixels_are_scored_as_in_a_semantic_protocol(drawn: Path, tmp_path: Path, packed: packing.Dataset) -> None:
    """A network that predicts classes alone trains to the same bits, whatever the task."""
    semantic = packing.prepare(drawn, SIZE, tmp_path)
    scores = []
    for data in (semantic, packed):
        model = create("deeplab", 8, "random", {"size": "tiny"}, 0)[0]
        state = training.begin(model, LR, compute.choose("cpu", "fp32"))
        (record,) = training.fit(state, *images(data), epochs=1, seed=0)
        scores.append(dataclasses.replace(record, panoptic=None).without_timings())
    assert scores[0] == scores[1]


def test_a_resumed_training_knows_the_best_epochs_segments(packed: packing.Dataset, tmp_path: Path) -> None:
    def begun() -> tuple[training.State, TrainingSession]:
        model = create("deeplab", 8, "random", {"size": "tiny"}, 0)[0]
        state = training.begin(model, LR, compute.choose("cpu", "fp32"))
        session = TrainingSession(tmp_path / "trial", "same")
        session.restore(state)
        return state, session

    state, session = begun()
    train, val = images(packed)
    for record in session.epochs(state, training.fit(state, train, val, epochs=2, seed=0)):
        assert record.panoptic is not None
        session.write(state)
    best = session.best
    assert best.record.value == max(record.value for record in session.records)
    _, again = begun()
    assert again.best.record == best.record
    for mine, theirs in zip(again.best.segments, best.segments, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    path = tmp_path / "confusions.npz"
    models.write_confusions(path, [str(index) for index in range(5)], best.confusions, best.segments, epoch=1)
    counts, _ = models.confusions(path, val.label_set)
    np.testing.assert_array_equal(counts, best.confusions)
    np.testing.assert_array_equal(models.segments(path).segments, best.segments.segments)
    models.write_confusions(path, [str(index) for index in range(5)], best.confusions, None)
    assert models.segments(path) is None


def test_the_best_epoch_is_the_one_of_the_highest_pq(
    packed: packing.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mIoU rises and PQ falls: the first epoch is kept, of a search's trial and of a promotion alike."""
    state = training.begin(create("deeplab", 8, "random", {"size": "tiny"}, 0)[0], LR, compute.choose("cpu", "fp32"))
    state.evaluation = evaluation.Evaluation(1.0, 1.0, np.zeros((1, 35, 8), np.int64), packed.val.label_set)
    session = TrainingSession(tmp_path / "trial", "same")
    epochs = [epoch(1, 0.1, quality(0.3)), epoch(2, 0.5, quality(0.2)), epoch(3, 0.9, quality(None))]
    assert list(session.epochs(state, iter(epochs))) == epochs
    assert session.best.record is epochs[0]


def test_the_most_segments_of_an_image_are_those_that_are_taught(packed: packing.Dataset) -> None:
    train, _ = images(packed)
    expected = []
    for index in range(8):
        raw, plane = (
            torch.from_numpy(part[index].copy())[None] for part in (packed.train.labels, packed.train.instances)
        )
        classes = torch.tensor(train.label_set.class_of_raw)[raw.int()]
        found = segments.taught(segments.truth(raw, plane, train.label_set), classes, train.label_set)
        sizes = {one: int((found == one).sum()) for one in found.unique().tolist() if one >= 0}
        expected.append(sum(pixels >= 4 or one % 65536 == 0 for one, pixels in sizes.items()))
    assert train.most_segments(4) == max(expected) > 8
    assert train.most_segments(4) < train.most_segments(1)


def test_fewer_queries_than_segments_are_refused_in_one_line(packed: packing.Dataset) -> None:
    train, _ = images(packed)
    most = train.most_segments(16)
    enough, few = (SimpleNamespace(query_count=most - short, learns_segments=True) for short in (0, 1))
    objective._require_queries(enough, train)
    with pytest.raises(
        UserError, match=rf"^an image of the search has {most} segments, and the network {most - 1} queries"
    ):
        objective._require_queries(few, train)
    few.learns_segments = False  # taught by classes
    objective._require_queries(few, train)


def test_a_trials_value_is_named_in_its_tables() -> None:
    assert (Data(SIZE).value_name, Data(SIZE, task="panoptic").value_name) == ("mIoU", "PQ")
    assert TrialState.COMPLETE.ended
    loaded = protocol.load(Path("studies/demo-panoptic"))
    assert loaded.data.value_name == "PQ"
