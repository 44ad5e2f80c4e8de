"""What a smaller size costs, and where the errors lie: by hand, against PIL, against brute force."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench.core import metrics
from segbench.core.labels import DEFAULT
from segbench.data import packing, scenes
from segbench.stats import boundary_errors, label_ceiling, trimap_errors
from segbench.stats.ceiling import nearest

SIDE = st.integers(1, 700)
ROAD, SKY, PLATE = 7, 23, 34  # rows of a raw confusion


def test_ceiling_by_hand() -> None:
    """Of 2×4 pixels the lower row's second and last are kept, and each comes back as a block of 2×2."""
    raw = np.array([[7, 23, 7, 23], [7, 7, 23, 23]], np.uint8)
    found = label_ceiling(raw, (1, 2), DEFAULT)
    wanted = np.zeros((35, 8), np.int64)
    wanted[ROAD, [1, 5]] = 3, 1
    wanted[SKY, [1, 5]] = 1, 3
    assert np.array_equal(found, wanted)


def test_ceiling_is_perfect_where_nothing_is_lost() -> None:
    raw = np.random.default_rng(0).choice(np.array([*range(34), 255], np.uint8), (24, 48))
    for labels, size in ((raw, (24, 48)), (raw, (48, 96)), (np.repeat(np.repeat(raw, 4, 0), 4, 1), (24, 48))):
        found = label_ceiling(labels, size, DEFAULT)
        assert metrics.scores(found, DEFAULT).miou == 1
        assert found.sum() == labels.size
        assert found[PLATE].sum() == (labels == 255).sum()


def test_ceiling_refuses_ids_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"\[77\]"):
        label_ceiling(np.full((4, 4), 77, np.uint8), (2, 2), DEFAULT)


@settings(max_examples=150)
@given(SIDE, SIDE)
def test_nearest_is_pils(source: int, target: int) -> None:
    line = (np.arange(source) % 251).astype(np.uint8)  # neighbours differ, and so do pixels a rounding apart
    resized = np.asarray(Image.fromarray(line[None]).resize((target, 1), Image.Resampling.NEAREST))[0]
    upright = np.asarray(Image.fromarray(line[:, None]).resize((1, target), Image.Resampling.NEAREST))[:, 0]
    assert np.array_equal(line[nearest(source, target)], resized)
    assert np.array_equal(line[nearest(source, target)], upright)


def test_ceiling_is_of_the_labels_as_packed(drawn: Path, tmp_path: Path) -> None:
    size = (20, 24)
    split = packing.prepare(drawn, size, tmp_path).val
    category = np.array(DEFAULT.class_of_raw)
    for scene, labels in zip(scenes.find(drawn, "val")[0], split.labels, strict=True):
        raw = np.asarray(Image.open(scene.labels))
        back = np.asarray(Image.fromarray(labels).resize(raw.shape[::-1], Image.Resampling.NEAREST))
        found = metrics.class_confusion(label_ceiling(raw, size, DEFAULT), DEFAULT)
        wanted = np.bincount(category[raw].ravel() * 8 + category[back].ravel(), minlength=64).reshape(8, 8)
        assert np.array_equal(found, wanted)
        assert np.trace(found) < found.sum()  # something is lost


def test_boundary_errors_by_hand() -> None:
    """Distances 2 1 0 | 0 1 2; wrong are one border pixel, one at distance 1, both at distance 2."""
    truth = np.array([[1, 1, 1, 2, 2, 2]])
    predicted = np.array([[2, 1, 2, 2, 0, 7]])
    assert boundary_errors(truth, predicted, (0,), (1, 2)).tolist() == [[1, 2], [1, 2], [2, 2]]
    assert boundary_errors(truth, predicted, (0,), (1.5,)).tolist() == [[2, 4], [2, 2]]
    assert trimap_errors(boundary_errors(truth, predicted, (0,), (1, 2))) == pytest.approx([1 / 2, 2 / 4, 4 / 6])


def test_void_is_not_counted_but_its_edge_is_a_border() -> None:
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    predicted = np.array([[1, 1, 0, 1, 1, 1]])
    assert boundary_errors(truth, predicted, (0,), (1, 2)).tolist() == [[1, 1], [0, 1], [0, 1]]


def test_without_a_border_all_is_far() -> None:
    road = np.full((3, 4), 1)
    found = boundary_errors(road, road, (0,), (1, 5))
    assert found.tolist() == [[0, 0], [0, 0], [0, 12]]
    assert trimap_errors(found)[2] == 0
    assert np.isnan(trimap_errors(found)[:2]).all()
    assert boundary_errors(road * 0, road, (0,), (1, 5)).sum() == 0


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_boundary_errors_are_by_euclidean_distance(seed: int) -> None:
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 8, (3, 4))
    truth = np.repeat(np.repeat(blocks, 5, 0), 4, 1)
    predicted = generator.integers(0, 8, truth.shape)
    places = np.argwhere(np.ones_like(truth))
    steps = np.abs(places[:, None] - places[None])
    beside = (steps.sum(-1) == 1) & (truth.ravel()[:, None] != truth.ravel()[None])
    border = places[beside.any(1)]
    edges = (1, 2, 3, 5)
    wanted = np.zeros((5, 2), np.int64)
    for place in places:
        if true := truth[tuple(place)]:
            distance = np.sqrt(((border - place) ** 2).sum(-1).min()) if len(border) else np.inf
            wanted[sum(distance >= edge for edge in edges)] += predicted[tuple(place)] != true, 1
    assert np.array_equal(boundary_errors(truth, predicted, (0,), edges), wanted)
