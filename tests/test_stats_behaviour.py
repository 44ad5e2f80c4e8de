"""Kinds of errors: by hand, by what must always hold, and for planted models whose behaviour is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from segbench.core import metrics
from segbench.stats import behaviour as kinds
from segbench.stats import texture
from segbench.stats.ceiling import grid_ceiling
from segbench.stats.contours import boundary_f, contours
from segbench.stats.regions import crofton, regions
from segbench.stats.taxonomy import CODES, PARTS, boundary_width, error_map, error_parts

Map = NDArray[np.uint8]


LETTERS = {0: ".", CODES["hits"]: "h"}  # b, e, s: outline, extent, segment; capitals are false negatives
LETTERS |= {CODES[f"{kind}_fp"]: kind[0] for kind in ("boundary", "extent", "segment")}
LETTERS |= {CODES[f"{kind}_fn"]: kind[0].upper() for kind in ("boundary", "extent", "segment")}


def errors(truth: list[str], predicted: list[str]) -> list[str]:
    """The map of errors of outlines one pixel wide, as LETTERS."""
    flags = (np.array([[letter == "#" for letter in row] for row in rows]) for rows in (truth, predicted))
    return ["".join(LETTERS[code] for code in row) for row in error_map(*flags, 1).tolist()]


def test_parts_of_the_errors_by_hand() -> None:
    """An object drawn too far right by one pixel; one of which only an end is found; one that is not there."""
    assert errors([".......", ".###...", ".###..."], [".......", "..###..", "..###.."]) == [
        ".......", ".Bhhb..", ".Bhhb..",
    ]  # fmt: skip
    assert errors(["........", "######..", "........"], ["........", "##......", "......##"]) == [
        "........", "hhBEEE..", "......ss",
    ]  # fmt: skip


def test_a_missed_and_an_invented_region_are_segments() -> None:
    truth, predicted = np.zeros((12, 12), np.bool_), np.zeros((12, 12), np.bool_)
    truth[1:4, 1:4], predicted[7:11, 7:10] = True, True
    codes = error_map(truth, predicted, 1)
    assert (codes[truth] == CODES["segment_fn"]).all()
    assert (codes[predicted] == CODES["segment_fp"]).all()
    predicted[0, 4] = True  # touches the truth by no pixel: still no hit
    assert error_map(truth, predicted, 1)[0, 4] == CODES["segment_fp"]
    predicted[3, 3] = True  # one hit makes the rest of the region a matter of extent, but beside it of outline
    codes = error_map(truth, predicted, 1)
    assert codes[1, 1] == CODES["extent_fn"]
    assert codes[3, 2] == CODES["boundary_fn"]


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([None, 0]))
def test_iou_and_the_six_parts_make_the_union(seed: int, void: int | None) -> None:
    generator = np.random.default_rng(seed)
    truth, predicted = (
        np.repeat(np.repeat(generator.integers(0, 4, (5, 7)), 4, 0), 3, 1).astype(np.uint8) for _ in range(2)
    )
    predicted = np.where(generator.random(truth.shape) < 0.7, truth, predicted)
    parts = error_parts(truth, predicted, 4, void)
    labelled = np.ones(truth.shape, np.bool_) if void is None else truth != void
    confusion = np.bincount(truth[labelled].astype(int) * 4 + predicted[labelled], minlength=16).reshape(4, 4)
    wanted = metrics.jaccard(confusion)
    counts = kinds.behaviour(truth, predicted, 4, void)
    shares = kinds.part_shares(counts)
    for category in range(1 if void == 0 else 0, 4):
        hits = confusion[category, category]
        assert parts[category].sum() == confusion[category].sum() + confusion[:, category].sum() - hits
        if not math.isnan(wanted[category]):
            assert shares[category].sum() == pytest.approx(1)
            assert shares[category, 0] == pytest.approx(wanted[category])
    assert len(PARTS) + 1 == parts.shape[1]


def test_width_of_an_outline_is_a_hundredth_of_the_diagonal() -> None:
    assert [boundary_width(shape) for shape in ((256, 256), (128, 256), (64, 128), (8, 8))] == [4, 3, 1, 1]


def test_regions_found_by_size() -> None:
    truth, predicted = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[2:5, 2:5] = 1  # 9 pixels, missed
    truth[10:15, 10:15] = 1  # 25 pixels, 15 of them found
    predicted[10:13, 10:15] = 1
    predicted[30:32, 30:32] = 1  # invented
    truth[20:22, 2:4], truth[22:24, 4:6] = 1, 1  # two squares that touch by a corner are one region
    predicted[20:22, 2:4] = 1
    found = regions(truth, predicted, 2)
    assert found.found[1].tolist() == [[1, 2], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert found.supported[1].tolist() == [[2, 3], [0, 0], [0, 0], [0, 0], [0, 0]]
    hidden = np.where(predicted == 1, 0, 2).astype(np.uint8)  # nobody knows what is under the void
    assert regions(hidden, predicted, 3, void=0).supported[1].sum() == 0


def test_outline_of_a_disc_is_its_circumference() -> None:
    y, x = np.mgrid[:101, :101] - 50
    assert crofton(np.hypot(x, y) <= 40) == pytest.approx(2 * math.pi * 40, rel=0.02)
    assert crofton(np.ones((9, 9), np.bool_)) == 0  # the image's edge is no outline


def test_outlines_within_two_pixels_agree() -> None:
    truth = np.zeros((60, 60), np.uint8)
    truth[20:40, 20:40] = 1
    # Moved by 15, of 76 pixels 7 of the upper and the lower side agree, and 2 more at either end of the left one.
    for shift, wanted in ((0, 1.0), (2, 1.0), (15, 18 / 76)):
        outline = contours(truth, np.roll(truth, shift, axis=1), 2).outline[1]
        assert boundary_f(outline) == pytest.approx(wanted)
    band = contours(truth, np.roll(truth, 2, axis=1), 2).band[1]
    assert 0 < band[0] < band[1]
    nothing = contours(truth, truth * 0, 2).outline[1]
    assert boundary_f(nothing) == 0
    assert math.isnan(boundary_f(nothing * 0))


def test_looks_that_play_a_part_show_in_the_confusions() -> None:
    """Classes 1 and 2 are green, class 3 is red; errors are towards the like, the unlike, or by size."""
    histograms = np.zeros((4, len(texture.CUES), texture.BINS))
    histograms[[1, 2], :, 3], histograms[3, :, 9] = 1, 1
    alike = texture.similarity(histograms)
    assert alike[1, 2] == 1
    assert alike[1, 3] == 0
    assert np.isnan(alike[0, 1])
    confusions = np.diag([0.0, 100, 100, 100])
    likely, unlikely, even = confusions.copy(), confusions.copy(), confusions.copy()
    likely[1, 2], unlikely[1, 3], even[1, 2:] = 10, 10, 5
    assert texture.excess_similarity(likely, alike) == pytest.approx(0.5, abs=0.03)
    assert texture.excess_similarity(unlikely, alike) == pytest.approx(-0.5, abs=0.03)
    assert texture.excess_similarity(even, alike) == pytest.approx(0, abs=0.03)
    assert math.isnan(texture.excess_similarity(confusions, alike))


def test_appearance_counts_every_pixel_once_a_cue() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    truth = np.repeat(np.arange(3, dtype=np.uint8), 200).reshape(20, 30)
    histograms = texture.appearance(image, truth, 3)
    assert (histograms.sum(-1) == 200).all()
    flat = texture.appearance(np.full_like(image, 90), truth, 3)
    assert (flat.max(-1) == 200).all()


def test_confusions_near_a_border_are_outlines() -> None:
    truth = np.ones((20, 20), np.uint8)
    truth[:, 10:] = 2
    predicted = truth.copy()
    predicted[:, 8:10] = 2
    assert texture.interior_confusions(truth, predicted, 3)[1, 2] == 0
    predicted[:, :3] = 2
    assert texture.interior_confusions(truth, predicted, 3)[1, 2] == 60


def street(seed: int, size: int = 96) -> Map:
    """Smooth blobs of two classes, with small squares of a third on them."""
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.standard_normal((size, size)), 6)
    scene = np.where(field > 0, 1, 2).astype(np.uint8)
    for y, x in generator.integers(2, size - 8, (25, 2)):
        side = int(generator.integers(2, 6))
        scene[y : y + side, x : x + side] = 3
    return scene


def smoothed(scene: Map, kernel: int) -> Map:
    """The most frequent class around each pixel."""
    shares = [ndimage.uniform_filter((scene == category).astype(float), kernel) for category in range(4)]
    return np.argmax(shares, axis=0).astype(np.uint8)


def without_small(scene: Map, pixels: int) -> Map:
    """Every region below so many pixels is lost to what is around it."""
    made = scene.copy()
    for category in range(1, 4):
        labels, _ = ndimage.label(scene == category, np.ones((3, 3)))
        small = np.bincount(labels.ravel()) < pixels
        small[0] = False
        lost = small[labels]
        nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
        made[lost] = scene[tuple(nearest)][lost]
    return made


def measured(model: object) -> kinds.Behaviour:
    assert callable(model)
    scenes = [street(seed) for seed in range(6)]
    return kinds.stacked([kinds.behaviour(scene, model(scene), 4, 0) for scene in scenes]).total


def test_planted_models_are_seen_through() -> None:
    perfect, smooth = measured(lambda scene: scene), measured(lambda scene: smoothed(scene, 7))
    blind = measured(lambda scene: without_small(scene, 16))
    assert kinds.error_share(perfect, 0) == kinds.found_share(perfect) == kinds.perimeter_ratio(perfect) == 1
    assert kinds.outline_f(perfect) == kinds.boundary_iou(perfect) == kinds.fragments(perfect) == 1
    assert kinds.unsupported_share(perfect) == 0
    assert kinds.perimeter_ratio(smooth) < 0.97
    assert kinds.found_share(blind, 0, 0) == 0
    assert kinds.found_share(blind, 1) > 0.95
    assert kinds.perimeter_ratio(smooth) < kinds.perimeter_ratio(blind)
    assert kinds.part_shares(blind)[3, 1 + PARTS.index("segment_fn")] > 0.1
    assert kinds.fragments(blind) < 0.9


def test_a_finer_grid_has_a_higher_ceiling() -> None:
    scene = street(0)
    right = [(grid_ceiling(scene, (96 // stride,) * 2, 4) == scene).mean() for stride in (1, 2, 4, 8)]
    assert right[0] == 1
    assert right == sorted(right, reverse=True)
    assert right[2] > (without_small(scene, 16) == scene).mean()


def test_grid_draws_a_straight_border_between_its_cells() -> None:
    scene = np.ones((64, 64), np.uint8)
    scene[:, 27:] = 2  # between two cells of 8 pixels
    assert np.array_equal(grid_ceiling(scene, (8, 8), 3), scene)


def test_resampling_sums_what_was_drawn() -> None:
    scenes = [street(seed, 40) for seed in range(3)]
    counted = kinds.stacked([kinds.behaviour(scene, smoothed(scene, 5), 4, 0) for scene in scenes])
    over = counted.over(np.array([[1, 1, 1], [3, 0, 0]]))
    for part, whole, single in zip(over, counted.total, counted, strict=True):
        assert part[0] == pytest.approx(whole)
        assert part[1] == pytest.approx(3 * single[0])
