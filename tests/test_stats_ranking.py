"""Ranks and all pairs: what they compute, planted cases, and the error rate that Holm promises."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from segbench import stats
from segbench.core.labels import DEFAULT

ROAD, PIXELS = 7, 100  # a row of the default label set
MIOU = stats.miou(DEFAULT)
P_VALUES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=12)


def model(share: float, images: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """One training: road pixels, of which in each image a share scattered around `share` is right."""
    made = np.zeros((images, len(DEFAULT.rows), len(DEFAULT)), np.int64)
    right = generator.binomial(PIXELS, np.clip(generator.normal(share, 0.1, images), 0, 1))
    made[:, ROAD, 1], made[:, ROAD, 5] = right, PIXELS - right
    return made


def test_holm_by_hand() -> None:
    # 4 · 0.005; 3 · 0.01; 2 · 0.03; 1 · 0.04 is raised to the one before (Holm 1979, and Wikipedia's example)
    assert stats.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert stats.holm([0.02]).tolist() == [0.02]
    assert stats.holm([]).tolist() == []
    assert stats.holm([np.nan, 0.02, 0.03]).tolist() == pytest.approx([np.nan, 0.04, 0.04], nan_ok=True)


@given(P_VALUES)
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= np.minimum(len(p_values) * np.array(p_values), 1) + 1e-12).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@given(P_VALUES)
def test_holm_rejects_what_the_step_by_step_procedure_rejects(p_values: list[float]) -> None:
    rejected, level = np.zeros(len(p_values), bool), 0.05
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected[index] = True
    assert ((stats.holm(p_values) <= level) == rejected).all()


@pytest.mark.skipif(importlib.util.find_spec("statsmodels") is None, reason="statsmodels is not installed")
@given(P_VALUES)
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert stats.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 20)), elements=st.integers(0, 4)))
def test_ranks_are_shared_out_completely(scores: NDArray[np.float64]) -> None:
    """Few different scores, so that ties abound."""
    shares = stats.rank_probabilities(scores)
    assert shares.sum(0) == pytest.approx(1)
    assert shares.sum(1) == pytest.approx(1)
    assert (shares >= 0).all()


def test_planted_ranks() -> None:
    scores = np.array([[3.0, 3, 3, 1], [2, 2, 2, 2], [1, 1, 2, 3]])
    wanted = [
        [0.75, 0, 0.25],
        [0, 7 / 8, 1 / 8],
        [0.25, 1 / 8, 5 / 8],
    ]  # in the third resample, two share ranks 2 and 3
    assert stats.rank_probabilities(scores) == pytest.approx(np.array(wanted))
    assert stats.rank_probabilities(np.array([[1.0, np.nan], [0.0, 2.0]])).tolist() == [[1, 0], [0, 1]]
    assert np.isnan(stats.rank_probabilities(np.full((2, 3), np.nan))).all()


def test_rank_range_holds_all_but_the_tails() -> None:
    assert stats.rank_range(np.array([0.02, 0.9, 0.07, 0.01])) == (2, 3)
    assert stats.rank_range(np.array([0.025, 0.95, 0.025])) == (2, 2)
    assert stats.rank_range(np.array([0.0, 0.0, 1.0])) == (3, 3)
    assert stats.rank_range(np.full(3, np.nan)) == (0, 0)


def test_one_seed_is_the_bootstrap_over_images() -> None:
    generator = np.random.default_rng(0)
    runs = [model(share, 30, generator) for share in (0.6, 0.5, 0.7)]
    scores = stats.resampled_scores([[run] for run in runs], MIOU, resamples=200)
    times = stats.draws(30, 200)
    assert np.array_equal(scores[1], MIOU(stats.resample(runs[1], times)))


def test_seeds_add_the_variance_of_their_mean() -> None:
    """Images that do not differ, so that only the seeds are chance: the variance of a mean of S is s² / S."""
    images, seeds = 5, (0.4, 0.5, 0.6, 0.9)
    runs = [np.repeat(model(share, 1, np.random.default_rng(0)), images, axis=0) for share in seeds]
    values = [float(MIOU(run.sum(0))) for run in runs]
    (scores,) = stats.resampled_scores([runs], MIOU, resamples=20_000)
    assert scores.mean() == pytest.approx(np.mean(values), abs=0.005)
    assert scores.std() == pytest.approx(np.std(values, ddof=1) / len(seeds) ** 0.5, rel=0.05)


def test_p_is_the_level_at_which_the_interval_reaches_zero() -> None:
    deltas = np.concatenate([np.full(980, 1.0), np.full(20, -1.0)])
    interval, p = stats.paired(deltas, np.zeros(1000), 0.96)
    assert p == pytest.approx(2 * 21 / 1001)
    assert interval.excludes_zero  # 2 % on one side
    assert stats.paired(np.ones(999), np.zeros(999), 1.0)[1] == pytest.approx(2 / 1000)
    assert stats.paired(np.zeros(9), np.zeros(9), 0.0)[1] == 1.0
    assert np.isnan(stats.paired(np.full(3, np.nan), np.zeros(3), 0.0)[1])


def test_no_difference_is_found_where_there_is_none() -> None:
    """Four equal models on 60 images: in how many of 200 experiments is any of the six pairs told apart?"""
    generator, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        models = [[model(0.6, 60, generator)] for _ in range(4)]
        scores = stats.resampled_scores(models, MIOU, resamples=1000)
        p_values = [stats.paired(scores[a], scores[b], 0.0)[1] for a in range(4) for b in range(a)]
        wrong += bool((stats.holm(p_values) <= 0.05).any())
    assert wrong <= 20  # 5 % promised; at 60 images percentile intervals are a little too narrow
