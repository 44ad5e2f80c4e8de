"""The bootstrap: what it computes, that its intervals cover, that pairing cancels what is common."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from segbench import stats
from segbench.core import metrics
from segbench.core.labels import DEFAULT

ROAD, SKY = 7, 23  # rows of DEFAULT.rows: categories 1 and 5
Counts = NDArray[np.int64]


def random_confusions(images: int, seed: int) -> Counts:
    return np.random.default_rng(seed).integers(0, 40, (images, len(DEFAULT.rows), len(DEFAULT.names)))


def right_pixels(right: NDArray[np.int64], of: int | NDArray[np.int64]) -> Counts:
    """One image per entry: road pixels, so many right, the others taken for sky."""
    made = np.zeros((len(right), len(DEFAULT.rows), len(DEFAULT.names)), np.int64)
    made[:, ROAD, 1], made[:, ROAD, 5] = right, of - right
    return made


def test_statistics_are_the_metrics() -> None:
    total = random_confusions(5, 0).sum(0)
    wanted = metrics.scores(total, DEFAULT)
    assert stats.miou(DEFAULT)(total) == pytest.approx(wanted.miou)
    assert stats.miou_official(DEFAULT)(total) == pytest.approx(wanted.miou_official)
    assert stats.pixel_accuracy(DEFAULT)(total) == pytest.approx(wanted.pixel_accuracy)
    assert stats.iou(DEFAULT)(total).tolist() == pytest.approx(list(wanted.iou))


def test_a_batch_of_confusions_is_scored_one_by_one() -> None:
    batch = random_confusions(4, 1)
    batch[2] = 0  # an image without any pixel has no score
    assert np.isnan(stats.miou(DEFAULT)(batch)[2])
    assert stats.miou(DEFAULT)(batch)[[0, 1, 3]].tolist() == [
        metrics.scores(one, DEFAULT).miou for one in batch[[0, 1, 3]]
    ]


def test_resampling_is_drawing_images_with_replacement() -> None:
    confusions = random_confusions(6, 2)
    times = stats.draws(6, resamples=50, seed=3)
    assert (times.sum(1) == 6).all()
    wanted = [np.repeat(confusions, row, axis=0).sum(0) for row in times]
    assert np.array_equal(stats.resample(confusions, times), wanted)


def test_same_draws_each_time() -> None:
    runs = [random_confusions(20, 4)]
    assert stats.interval(runs, stats.miou(DEFAULT)) == stats.interval(runs, stats.miou(DEFAULT))
    assert not np.array_equal(stats.draws(20, seed=0), stats.draws(20, seed=1))


def test_identical_models_do_not_differ() -> None:
    runs = [random_confusions(30, 5)]
    assert stats.difference(runs, runs, stats.miou(DEFAULT)) == [stats.Interval(0, 0, 0)]
    assert not stats.Interval(0, 0, 0).excludes_zero


def test_standard_error_is_the_closed_form() -> None:
    """Of equally large images, pixel accuracy is the mean of the images' accuracies, whose interval is known."""
    right = np.random.default_rng(6).integers(300, 1000, 400)
    found = stats.interval([right_pixels(right, 1000)], stats.pixel_accuracy(DEFAULT))[0]
    share = right / 1000
    error = share.std() / np.sqrt(len(share))
    assert found.estimate == pytest.approx(share.mean())
    assert (found.low, found.high) == pytest.approx(
        (share.mean() - 1.96 * error, share.mean() + 1.96 * error), abs=0.003
    )


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(100):
        right = generator.binomial(100, generator.beta(8, 2, size=80))
        found = stats.interval([right_pixels(right, 100)], stats.pixel_accuracy(DEFAULT))[0]
        hits += found.low <= 0.8 <= found.high
    assert 0.89 <= hits / 100 <= 0.99  # 95 %, within what 100 repetitions can tell


def test_pairing_cancels_hard_images() -> None:
    generator = np.random.default_rng(8)
    hardness = generator.integers(200, 900, 100)
    better, worse = right_pixels(hardness + 20, 1000), right_pixels(hardness, 1000)
    paired = stats.difference([better], [worse], stats.pixel_accuracy(DEFAULT))[0]
    alone = stats.interval([better], stats.pixel_accuracy(DEFAULT))[0]
    assert paired.estimate == pytest.approx(0.02)
    assert paired.excludes_zero
    assert paired.high - paired.low < 1e-9 < alone.high - alone.low


def test_seeds_are_averaged() -> None:
    one, two = right_pixels(np.full(10, 600), 1000), right_pixels(np.full(10, 800), 1000)
    found = stats.interval([one, two], stats.pixel_accuracy(DEFAULT))[0]
    assert found.estimate == pytest.approx(0.7)


def test_one_interval_per_category_and_none_where_it_is_absent() -> None:
    confusions = right_pixels(np.arange(100, 200), 1000)
    confusions[0, SKY, 5] = 50
    found = stats.interval([confusions], stats.iou(DEFAULT))
    assert len(found) == len(DEFAULT.names)
    assert found[1].low < found[1].estimate < found[1].high
    assert np.isnan(found[2]).all()


def test_superiority_counts_paired_resamples() -> None:
    """Of two images the draws are both (1/2) or one of them twice (1/4 each): ahead by 30 and behind by 10."""
    first, second = right_pixels(np.array([630, 590]), 1000), right_pixels(np.array([600, 600]), 1000)
    assert stats.superiority([first], [second], stats.pixel_accuracy(DEFAULT)) == pytest.approx([0.75], abs=0.03)
    assert stats.superiority([second], [first], stats.pixel_accuracy(DEFAULT)) == pytest.approx([0.25], abs=0.03)
    assert stats.superiority([first], [first], stats.pixel_accuracy(DEFAULT)) == [0.5]


def test_superiority_is_the_normal_approximation_of_many_images() -> None:
    generator = np.random.default_rng(10)
    right = generator.integers(300, 900, 400)
    ahead = generator.normal(3, 50, 400).astype(np.int64)
    (found,) = stats.superiority(
        [right_pixels(right + ahead, 1000)], [right_pixels(right, 1000)], stats.pixel_accuracy(DEFAULT)
    )
    assert found == pytest.approx(special.ndtr(ahead.mean() / (ahead.std() / 20)), abs=0.03)


def test_superiority_per_category_is_undefined_where_a_category_is_absent() -> None:
    better, worse = right_pixels(np.full(10, 700), 1000), right_pixels(np.full(10, 600), 1000)
    found = stats.superiority([better], [worse], stats.iou(DEFAULT))
    assert len(found) == len(DEFAULT.names)
    assert found[1] == 1
    assert found[5] == 0.5  # sky: nothing of it is right in either
    assert np.isnan(found[2])


def test_intervals_of_miou_differences_cover_the_truth_as_often_as_they_say() -> None:
    """Images differ in size and hardness, which both models share; the truth is the mIoU of the expected confusion."""
    generator = np.random.default_rng(11)
    bonuses, skies, repetitions = (0.05, 0.0), 200, 100

    def images(bonus: float, pixels: NDArray[np.int64], hardness: NDArray[np.float64]) -> Counts:
        made = right_pixels(generator.binomial(pixels, hardness + bonus), pixels)
        made[:, SKY, 5] = skies
        return made

    expected = [right_pixels(np.array([100_000 * (0.6 + bonus)]).astype(np.int64), 100_000) for bonus in bonuses]
    for one in expected:
        one[:, SKY, 5] = skies * 1000
    truth = float(stats.miou(DEFAULT)(expected[0][0]) - stats.miou(DEFAULT)(expected[1][0]))
    hits = 0
    for _ in range(repetitions):
        pixels = generator.integers(50, 151, 50)
        hardness = generator.uniform(0.3, 0.9, 50)
        first, second = (images(bonus, pixels, hardness) for bonus in bonuses)
        (found,) = stats.difference([first], [second], stats.miou(DEFAULT))
        hits += found.low <= truth <= found.high
    assert 0.89 <= hits / repetitions <= 0.99  # 95 %, within what 100 repetitions can tell
