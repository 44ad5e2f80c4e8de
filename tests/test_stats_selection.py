"""Whether the choice holds: the best of several trials, the agreement of two rankings, the mean of several seeds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from segbench.core import metrics
from segbench.core.labels import DEFAULT
from segbench.stats import miou, probability_best, rank_agreement, seed_summary
from tests.test_stats import random_confusions, right_pixels

SCORES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12)


def test_best_of_two_images_by_hand() -> None:
    """The first trial is far ahead on one image and behind on the other: it wins unless only the other is drawn."""
    first, second = right_pixels(np.array([900, 590]), 1000), right_pixels(np.array([600, 600]), 1000)
    assert probability_best([first, second], miou(DEFAULT)) == pytest.approx([0.75, 0.25], abs=0.03)


def test_equal_trials_share() -> None:
    trials = [random_confusions(20, 0)] * 4
    assert probability_best(trials, miou(DEFAULT)) == pytest.approx([0.25] * 4)


def test_best_of_two_is_the_normal_approximation_of_many_images() -> None:
    generator = np.random.default_rng(1)
    right = generator.integers(300, 900, 400)
    ahead = generator.normal(3, 50, 400).astype(np.int64)
    # With road taken for sky only, the mean IoU is half the accuracy: the same order.
    found = probability_best([right_pixels(right + ahead, 1000), right_pixels(right, 1000)], miou(DEFAULT))
    assert found[0] == pytest.approx(special.ndtr(ahead.mean() / (ahead.std() / 20)), abs=0.03)


def test_best_of_ten_is_mostly_the_one_that_is() -> None:
    generator = np.random.default_rng(2)
    hardness = generator.integers(200, 700, 50)
    trials = [right_pixels(hardness + generator.integers(0, 60, 50) + bonus, 1000) for bonus in [0] * 9 + [30]]
    found = probability_best(trials, miou(DEFAULT))
    assert found.sum() == pytest.approx(1)
    assert found[9] > 0.95
    assert np.argmax(found) == np.argmax([metrics.scores(trial.sum(0), DEFAULT).miou for trial in trials])


def test_chosen_one_of_ten_equal_trials_is_flattered() -> None:
    """Its share is 0.43 on average, not 0.1: the docstring's warning."""
    generator = np.random.default_rng(6)
    shares = []
    for _ in range(16):
        hardness = generator.uniform(0.3, 0.8, 30)
        trials = [right_pixels(generator.binomial(50, hardness), 50) for _ in range(10)]
        found = probability_best(trials, miou(DEFAULT))
        shares.append(found[np.argmax([metrics.scores(trial.sum(0), DEFAULT).miou for trial in trials])])
    assert np.mean(shares) == pytest.approx(0.43, abs=0.1)


def test_trials_without_pixels_win_nothing() -> None:
    some, none = random_confusions(5, 3), np.zeros_like(random_confusions(5, 3))
    assert probability_best([none, some], miou(DEFAULT)).tolist() == [0, 1]
    assert np.isnan(probability_best([none, none], miou(DEFAULT))).all()
    assert len(probability_best([], miou(DEFAULT))) == 0


@settings(max_examples=50)
@given(SCORES)
def test_agreement_is_scipys_tau_b(scores: list[tuple[int, int]]) -> None:
    a, b = ([float(pair[i]) for pair in scores] for i in (0, 1))
    found = rank_agreement(a, b)
    assert found.tau == pytest.approx(stats.kendalltau(a, b).statistic, nan_ok=True)
    assert found.n == len(scores)


def test_agreement_by_hand() -> None:
    """Five of six pairs in the same order; four are too few for an interval."""
    found = rank_agreement([1, 2, 3, 4], [1, 2, 4, 3])
    assert found.tau == pytest.approx(4 / 6)
    assert np.isnan([found.low, found.high]).all()


def test_too_few_or_all_the_same_say_nothing() -> None:
    two = rank_agreement([0.1, None, 0.3, math.nan], [0.1, 0.2, 0.4, 0.3])
    assert two.n == 2
    assert np.isnan(two[:3]).all()
    same = rank_agreement([0.5] * 8, range(8))
    assert same.n == 8
    assert np.isnan(same[:3]).all()
    assert rank_agreement([], []).n == 0


def test_perfect_agreement_of_few_is_not_certain() -> None:
    """The ends by hand: tanh(atanh(1 - 2/20) - 1.96 · √(0.437 / 1)) for five."""
    up, down = rank_agreement(range(5), range(5)), rank_agreement(range(5), range(5, 0, -1))
    low = math.tanh(math.atanh(0.9) - 1.959964 * math.sqrt(0.437))
    assert up == pytest.approx((1, low, 1, 5))
    assert down == pytest.approx((-1, -1, -low, 5))
    assert rank_agreement(range(20), range(20)).low > low


@pytest.mark.parametrize(("n", "correlation"), [(6, 0.5), (10, 0.9)])
def test_agreement_covers_the_truth(n: int, correlation: float) -> None:
    """Of normal pairs tau is 2/π · asin(correlation)."""
    generator = np.random.default_rng(4)
    truth, hits = 2 / math.pi * math.asin(correlation), 0
    for _ in range(200):
        a, noise = generator.standard_normal((2, n))
        found = rank_agreement(a, correlation * a + math.sqrt(1 - correlation**2) * noise)
        hits += found.low <= truth <= found.high
    assert 0.90 <= hits / 200 < 1


def test_seeds_by_hand() -> None:
    """t(2; 0.975) = 4.302653, from any table."""
    found = seed_summary([0.5, 0.6, 0.7])
    reach = 4.302653 * 0.1 / math.sqrt(3)
    assert found == pytest.approx((0.6, 0.1, 0.6 - reach, 0.6 + reach, 3))
    assert seed_summary([0.5, math.nan, 0.7, 0.6]).n == 3
    lower = seed_summary([0.5, 0.6, 0.7], level=0.5)
    assert found.low < lower.low < lower.mean


def test_one_seed_has_no_spread() -> None:
    one = seed_summary([0.5])
    assert (one.mean, one.n) == (0.5, 1)
    assert np.isnan([one.spread, one.low, one.high]).all()
    assert np.isnan(seed_summary([])[:4]).all()


def test_seed_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    found = [seed_summary(generator.normal(0.7, 0.02, 3)) for _ in range(2000)]
    assert np.mean([one.low <= 0.7 <= one.high for one in found]) == pytest.approx(0.95, abs=0.015)
