"""Metrics against hand-worked numbers and against cityscapesScripts' own evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from segbench.core import labels, metrics
from segbench.core.labels import DEFAULT
from segbench.data import pictures
from segbench.engine.evaluation import count

ROAD, BUILDING, PARKING, UNLABELED = 7, 11, 9, 0
FLAT, CONSTRUCTION = 1, 2


def raw_confusion(
    raw: NDArray[np.uint8], predicted: NDArray[np.uint8], label_set: labels.LabelSet = DEFAULT
) -> NDArray[np.int64]:
    """By the device's counting, one image."""
    counted = count(torch.from_numpy(raw)[None], torch.from_numpy(predicted.astype(np.int64))[None], len(label_set))
    return metrics.rows(counted.numpy(), label_set)[0]


def test_hand_worked() -> None:
    # Six road pixels, four predicted flat, two construction; three building pixels, all found; one parking pixel
    # (flat, ignored officially) predicted construction.
    raw = np.array([[ROAD] * 6 + [BUILDING] * 3 + [PARKING]], np.uint8)
    predicted = np.array([[FLAT] * 4 + [CONSTRUCTION] * 2 + [CONSTRUCTION] * 3 + [CONSTRUCTION]], np.uint8)
    found = metrics.scores(raw_confusion(raw, predicted), DEFAULT)
    assert found.pixel_accuracy == pytest.approx(7 / 10)
    assert found.iou[FLAT] == pytest.approx(4 / 7)  # the parking pixel is a miss
    assert found.iou[CONSTRUCTION] == pytest.approx(3 / 6)
    assert found.miou == pytest.approx((4 / 7 + 3 / 6) / 2)
    assert found.iou_official[FLAT] == pytest.approx(4 / 6)  # and does not count officially
    assert found.iou_official[CONSTRUCTION] == pytest.approx(3 / 5)
    assert found.iou[labels.DEFAULT.names.index("sky")] is None


def test_predicting_void_is_a_miss_officially() -> None:
    raw = np.array([[ROAD, ROAD, UNLABELED]], np.uint8)
    found = metrics.scores(raw_confusion(raw, np.array([[FLAT, 0, 0]], np.uint8)), DEFAULT)
    assert found.iou_official[FLAT] == pytest.approx(1 / 2)
    assert found.iou_official[0] is None
    assert found.iou[0] == pytest.approx(1 / 2)  # void counts as a class in the note's miou


def test_majority_baseline() -> None:
    train, val = np.zeros(256, np.int64), np.zeros(256, np.int64)
    train[[ROAD, BUILDING]] = 10, 5
    val[[ROAD, BUILDING]] = 3, 7
    assert metrics.majority_miou(train, val, DEFAULT) == pytest.approx((3 / 10 + 0) / 2)


def test_empty_confusion_is_undefined_not_zero() -> None:
    found = metrics.scores(np.zeros((35, 8), np.int64), DEFAULT)
    assert np.isnan(found.miou)
    assert found.iou == (None,) * 8


maps = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=30)
@given(maps)
def test_confusion_is_additive_and_complete(generator: np.random.Generator) -> None:
    raw = generator.choice(np.array(labels.DEFAULT.raw_ids, np.uint8), (2, 9, 7))
    predicted = generator.integers(0, 8, (2, 9, 7)).astype(np.uint8)
    both = raw_confusion(raw.reshape(18, 7), predicted.reshape(18, 7))
    assert both.sum() == raw.size
    assert (both == raw_confusion(raw[0], predicted[0]) + raw_confusion(raw[1], predicted[1])).all()
    found = metrics.scores(both, DEFAULT)
    assert 0 <= found.miou <= 1
    assert 0 <= found.miou_official <= 1


@pytest.mark.parametrize("label_set", [DEFAULT, labels.shipped("cityscapes-19")], ids=lambda one: one.name)
def test_scores_equal_cityscapes_scripts(tmp_path: Path, label_set: labels.LabelSet) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813

    generator = np.random.default_rng(0)
    raws, predictions = [], []
    ids = np.array([raw for raw in label_set.raw_ids if raw != 255], np.uint8)  # the evaluator reads no 255
    pairs: tuple[list[str], list[str]] = ([], [])
    for index in range(3):
        raw = generator.choice(ids, (24, 32))
        truth = np.array(label_set.class_of_raw, np.uint8)[raw]
        guess = generator.integers(0, len(label_set), raw.shape)
        right = (generator.random(raw.shape) < 0.6) & (truth != labels.IGNORED)
        predicted = np.where(right, truth, guess).astype(np.uint8)
        raws.append(raw)
        predictions.append(predicted)
        for folder, name, picture in (
            (pairs[0], f"a_{index:06d}_000000_pred.png", pictures.label_ids(predicted, label_set.typical_ids)),
            (pairs[1], f"a_{index:06d}_000000_gtFine_labelIds.png", Image.fromarray(raw)),
        ):
            picture.save(tmp_path / name)
            folder.append(str(tmp_path / name))
    arguments = official.args
    arguments.evalInstLevelScore, arguments.JSONOutput, arguments.quiet = False, False, True
    result = official.evaluateImgLists(*pairs, arguments)
    total = sum(raw_confusion(r, p, label_set) for r, p in zip(raws, predictions, strict=True))
    ours = metrics.scores(total, label_set)
    categories = dict(zip(label_set.names, ours.iou_official, strict=True))
    if label_set.parents:
        for name, value, other in zip(label_set.names, ours.iou, ours.iou_official, strict=True):
            assert value == other == pytest.approx(result["classScores"][name], abs=1e-12), name
        assert ours.miou == pytest.approx(result["averageScoreClasses"], abs=1e-12)
        categories = dict(zip((parent.name for parent in label_set.parents), ours.iou_parents, strict=True))
    assert len(categories) - len(label_set.void) == 7
    for name, value in categories.items():
        if name != "void":
            assert value == pytest.approx(result["categoryScores"][name], abs=1e-12), name
    assert ours.miou_official == pytest.approx(result["averageScoreCategories"], abs=1e-12)


def test_a_pixel_without_a_class_counts_nowhere() -> None:
    nineteen = labels.shipped("cityscapes-19")
    raw = np.array([[ROAD, ROAD, PARKING, UNLABELED]], np.uint8)
    found = metrics.scores(raw_confusion(raw, np.array([[0, 1, 5, 0]], np.uint8), nineteen), nineteen)
    assert found.iou[0] == pytest.approx(1 / 2)
    assert found.iou[5] is None  # predicted on a pixel without a class alone
    assert found.pixel_accuracy == pytest.approx(1 / 2)
    assert found.iou_parents[0] == 1  # a sidewalk for a road is still flat
    assert metrics.per_class(np.bincount(raw.ravel(), minlength=256), nineteen).tolist() == [2, *[0] * 18]
