"""How sure a number is: calibration by construction; clusters, seeds and searches by simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest

from segbench import stats
from segbench.stats import calibration
from segbench.stats.bootstrap import Sampled, resample
from segbench.stats.clusters import FEWEST
from segbench.stats.scaling import gain_of_doubling


def bins_of(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    place = np.minimum((confidence * calibration.BINS).astype(int), calibration.BINS - 1)
    weights = (None, right.astype(float), confidence)
    return np.stack([np.bincount(place, weights, calibration.BINS) for weights in weights], axis=-1)


def test_ece_of_a_constructed_case() -> None:
    """90 pixels at confidence 0.9 of which 60 are right, 10 at 0.5 of which 5 are right: 0.9 · (0.9 - 2/3)."""
    confidence = np.repeat([0.9, 0.5], [90, 10])
    right = np.arange(100) < 60
    right[90:95] = True
    bins = bins_of(confidence, right)
    assert calibration.ece(bins) == pytest.approx(0.9 * (0.9 - 60 / 90))
    assert calibration.overconfidence(bins) == pytest.approx(0.86 - 0.65)
    shares = calibration.reliability(bins)
    assert shares[13] == pytest.approx([0.9, 60 / 90, 0.9])
    assert np.isnan(shares[0, 1])
    assert np.isnan(calibration.ece(bins * 0))


def test_auroc_is_the_chance_of_the_right_order() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 9, (12, 2))
    right, wrong = (np.repeat(np.arange(12), counts[:, i]) for i in range(2))
    wanted = np.mean((wrong[:, None] > right) + 0.5 * (wrong[:, None] == right))
    assert calibration.auroc(counts) == pytest.approx(wanted)
    assert calibration.auroc(np.array([[5, 0], [0, 5]])) == 1
    assert np.isnan(calibration.auroc(np.array([[5, 0], [3, 0]])))


def test_groups_are_read_from_the_names() -> None:
    names = [f"city{c}/city{c}_{s:06}_{f:06}" for c in range(FEWEST) for s in range(2) for f in range(3)]
    groups = stats.clusters(names)
    assert {level: int(numbers.max()) + 1 for level, numbers in groups.items()} == {
        "images": 48, "sequences": 16, "cities": 8,
    }  # fmt: skip
    assert list(stats.clusters(names[:12])) == ["images"]  # two cities, four sequences: too few
    assert list(stats.clusters([f"{n:03}" for n in range(20)])) == ["images"]
    times = stats.cluster_draws(groups["cities"])
    assert (times.reshape(len(times), FEWEST, 6) == times[:, ::6, None]).all()
    assert np.array_equal(stats.cluster_draws(np.arange(9)), stats.draws(9))


@pytest.mark.parametrize(("cities", "least"), [(FEWEST, 0.85), (20, 0.9)])
def test_cities_cover_where_images_do_not(cities: int, least: float) -> None:
    """Ten images a city that share most of their difficulty: the mean of all cities is 0."""
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(cities), 10)
    covered = {"images": 0, "cities": 0}
    for _ in range(300):
        scores = generator.standard_normal(cities)[groups] + 0.5 * generator.standard_normal(len(groups))
        for level, times in (("images", stats.draws(len(groups))), ("cities", stats.cluster_draws(groups))):
            values = times @ scores / times.sum(1)
            low, high = np.quantile(values, [0.025, 0.975])
            covered[level] += low <= 0 <= high
    assert covered["cities"] / 300 >= least
    assert covered["images"] / 300 < 0.65


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_interval_over_seeds_and_images_covers(seeds: int) -> None:
    """Two equal architectures: seeds spread by 1 each, and the images add a common 0.7 to their difference."""
    generator = np.random.default_rng(seeds)
    covered = naive = 0
    for _ in range(600):
        chance = 0.7 * generator.standard_normal()
        first, second = generator.standard_normal(seeds), generator.standard_normal(seeds)
        estimate = chance + first.mean() - second.mean()
        found = Sampled(estimate, estimate + 0.7 * generator.standard_normal(400))
        interval = stats.over_seeds(found, first.tolist(), second.tolist())
        assert interval is not None
        covered += not interval.excludes_zero
        naive += not found.interval().excludes_zero
    assert covered / 600 >= 0.925
    assert naive / 600 < 0.9


def test_p_over_seeds_is_the_level_at_which_the_interval_reaches_zero() -> None:
    images = Sampled(0.05, 0.05 + 0.01 * np.random.default_rng(0).standard_normal(500))
    seeds = ([0.50, 0.52, 0.55], [0.46, 0.49, 0.47])
    p = stats.p_over_seeds(images, *seeds)
    assert 0 < p < 0.05
    reached = stats.over_seeds(images, *seeds, level=1 - p)
    assert reached is not None
    assert reached.low == pytest.approx(0, abs=1e-9)
    assert stats.p_over_seeds(images._replace(estimate=0.0), *seeds) == 1
    assert np.isnan(stats.p_over_seeds(images, [0.5], [0.4]))


def test_seeds_to_settle_makes_the_interval_exclude_zero() -> None:
    values = 0.03 + 0.005 * np.random.default_rng(0).standard_normal(500)
    found = Sampled(0.03, values)
    first, second = [0.50, 0.54], [0.49, 0.45]
    needed = stats.seeds_to_settle(found, first, second)
    assert needed is not None
    spread = np.std(first, ddof=1)
    for seeds, excludes in ((needed, True), (needed - 1, False)):
        tiled = [0.5 + spread * np.sqrt((seeds - 1) / seeds) * (-1) ** np.arange(seeds) for _ in range(2)]
        scaled = [row - row.mean() for row in tiled]
        scaled = [row * spread / np.std(row, ddof=1) for row in scaled]
        interval = stats.over_seeds(found, scaled[0].tolist(), scaled[1].tolist())
        assert interval is not None
        assert interval.excludes_zero is excludes
    assert stats.seeds_to_settle(Sampled(0.001, values - 0.029), first, second) is None  # more images are needed
    assert stats.seeds_to_settle(found, [0.5], [0.4]) is None
    assert stats.over_seeds(found, [0.5], second) is None


def test_another_search_rarely_beats_what_it_saw() -> None:
    found = stats.another_search([0.1, 0.2, float("nan"), 0.4])
    assert found.estimate == 0.4
    assert found.values.max() == 0.4
    assert (found.values == 0.4).mean() == pytest.approx(1 - 0.75**4, abs=0.03)
    assert found.interval().low == pytest.approx(0.1)
    failed = stats.another_search([float("nan")] * 3)
    assert failed.interval() == (0, 0, 0)


def test_sampled_differences_and_ratios_are_paired() -> None:
    counts = np.random.default_rng(2).integers(1, 9, (30, 2)).astype(float)
    sums = resample(counts, stats.draws(30)).astype(float)
    one, two = (Sampled(float(counts[:, i].sum()), sums[:, i]) for i in range(2))
    assert one.minus(one).interval() == (0, 0, 0)
    assert one.over(one).interval() == (1, 1, 1)
    assert one.over(two).estimate == counts[:, 0].sum() / counts[:, 1].sum()
    assert np.isnan(one.over(Sampled(0.0, np.zeros(2000))).interval().low)


def test_the_gain_of_more_images_covers() -> None:
    """Scores of 60 images after trainings on 30, 100 and 300, whose errors truly follow a power law."""
    images, generator = np.array([30, 100, 300]), np.random.default_rng(4)
    errors = 0.9 * images**-0.2
    gain, covered = 0.9 * (300**-0.2 - 600**-0.2), 0
    times = stats.draws(60)
    for _ in range(300):
        hard = 0.1 * generator.standard_normal(60)  # an image that is hard for one is hard for all
        scores = [1 - error + hard + 0.05 * generator.standard_normal(60) for error in errors]
        found = gain_of_doubling(images, [stats.per_image.ratio(score, np.ones(60), times) for score in scores])
        covered += found.interval().low <= gain <= found.interval().high
    assert 0.91 <= covered / 300 <= 0.98


def test_the_interval_of_a_ratio_covers() -> None:
    """As of context and removed categories: shares of pixels, images of very different size."""
    generator, covered = np.random.default_rng(5), 0
    for _ in range(300):
        wholes = generator.integers(1, 400, 50)
        parts = generator.binomial(wholes, generator.beta(2, 3, 50))
        interval = stats.per_image.ratio(parts, wholes).interval()
        covered += interval.low <= 0.4 <= interval.high
    assert 0.9 <= covered / 300 <= 0.98
