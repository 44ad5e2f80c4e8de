"""What a search can be expected to find: against every subset, every order, and what is known in closed form."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segbench.stats import budget, crossover, expected_best, expected_best_by_cost, expected_best_curve

MIOU = st.floats(0, 1, allow_subnormal=False)


def in_every_order(values: list[float], costs: list[int], limit: int) -> float:
    """What the definition says, word for word; a failed trial (NaN) is worth nothing."""
    found = []
    for order in itertools.permutations(range(len(values))):
        spent, best = 0, 0.0
        for trial in order:
            spent += costs[trial]
            if spent > limit:
                break
            best = max(best, 0.0 if math.isnan(values[trial]) else values[trial])
        found.append(best)
    return float(np.mean(found))


def test_expected_best_by_hand() -> None:
    """Pairs of 1, 2, 4: maxima 2, 4, 4."""
    assert expected_best([4, 1, 2], 2) == pytest.approx(10 / 3)
    assert expected_best_curve([4, 1, 2]) == pytest.approx([7 / 3, 10 / 3, 4])


@settings(max_examples=50)
@given(st.lists(MIOU, min_size=1, max_size=8))
def test_expected_best_is_the_mean_over_all_subsets(values: list[float]) -> None:
    wanted = [np.mean([max(subset) for subset in itertools.combinations(values, k)]) for k in range(1, len(values) + 1)]
    assert expected_best_curve(values) == pytest.approx(wanted, abs=1e-12)
    assert expected_best(values, len(values)) == pytest.approx(max(values))


def test_expected_best_is_unbiased() -> None:
    """The expected maximum of k uniform numbers is k / (k+1), whatever the number of trials it is estimated from."""
    generator = np.random.default_rng(0)
    found = np.mean([expected_best_curve(generator.random(10)) for _ in range(3000)], axis=0)
    k = np.arange(1, 11)
    assert found == pytest.approx(k / (k + 1), abs=0.01)


def test_many_trials_keep_their_precision() -> None:
    n = 400
    k = np.arange(1, n + 1)
    assert expected_best_curve(np.arange(1, n + 1)) == pytest.approx(k * (n + 1) / (k + 1))  # of ranks, in closed form


def test_failed_trials_count() -> None:
    assert expected_best([0.5, 0.0], 1) == 0.25
    curve = expected_best_curve([np.nan, 0.4, np.nan, 0.6])
    assert np.isnan(curve[:2]).all()  # one or two trials may all have failed
    assert curve[2] == pytest.approx((0.4 + 0.6 + 0.6 + 0.6) / 4)


@pytest.mark.parametrize("k", [0, 4])
def test_no_more_trials_than_there_were(k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be 1\.\.3"):
        expected_best([1, 2, 3], k)


def test_within_a_budget_by_hand() -> None:
    """Costs 1 and 2, values 0.4 and 0.6: within 2 hours either order finishes its first trial only."""
    found = expected_best_by_cost([0.4, 0.6], [1, 2], [0.5, 1, 2, 2.9, 3, np.inf])
    assert found == pytest.approx([0, 0.2, 0.5, 0.5, 0.6, 0.6])


@settings(max_examples=50)
@given(st.lists(st.tuples(MIOU | st.just(math.nan), st.integers(0, 6)), min_size=1, max_size=6), st.integers(0, 30))
def test_within_a_budget_is_the_mean_over_all_orders(trials: list[tuple[float, int]], limit: int) -> None:
    values, costs = [value for value, _ in trials], [cost for _, cost in trials]
    found = expected_best_by_cost(values, costs, [limit])
    assert found == pytest.approx([in_every_order(values, costs, limit)], abs=1e-9)


@pytest.mark.parametrize(("n", "tolerance"), [(8, 1e-9), (24, 0.005)])
def test_equal_costs_make_a_number_of_trials(n: int, tolerance: float) -> None:
    """Counted exactly for 8 trials, drawn for 24."""
    values = np.random.default_rng(1).random(n)
    found = expected_best_by_cost(values, np.full(n, 0.1), np.arange(1, n + 1) * 0.1)
    assert found == pytest.approx(expected_best_curve(values), abs=tolerance)


def test_drawn_orders_agree_with_counted_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    values, costs, budgets = generator.random(10), generator.random(10), np.linspace(0, 5, 20)
    counted = expected_best_by_cost(values, costs, budgets)
    assert (np.diff(counted) >= 0).all()
    monkeypatch.setattr(budget, "_EXACT", 0)
    assert expected_best_by_cost(values, costs, budgets) == pytest.approx(counted, abs=0.01)


def test_what_nothing_is_worth() -> None:
    assert expected_best_by_cost([0.5], [1], [0, 1], nothing=0.1) == pytest.approx([0.1, 0.5])
    assert expected_best_by_cost([], [], [1]) == pytest.approx([0])
    with pytest.raises(ValueError, match="below 0"):
        expected_best_by_cost([-0.1], [1], [1])


def test_each_value_needs_a_cost_that_is_one() -> None:
    with pytest.raises(ValueError, match="needs a cost"):
        expected_best_by_cost([0.5, 0.6], [1], [1])
    for cost in (-1, np.nan):
        with pytest.raises(ValueError, match="at least 0"):
            expected_best_by_cost([0.5], [cost], [1])


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ([1, 2, 3, 4], [2, 3, 2, 3], 3),  # behind, behind, ahead, ahead
        ([2, 3, 2, 3], [1, 2, 3, 4], 3),  # and the other way round
        ([1, 3, 1, 3], [2, 2, 2, 2], 4),  # ahead, but not yet for good
        ([1, 2, 2, 3], [2, 2, 2, 2], 4),  # a draw is no lead
        ([2, 2, 3, 4], [1, 1, 2, 3], None),  # never behind
        ([2, 2, 3, 4], [2, 1, 2, 3], None),  # a draw is not behind either
        ([1, 3, 3, 2], [2, 2, 2, 2], None),  # a draw at the end
        ([1, math.nan, 3, math.nan], [2, 2, 2, 2], 3),
        ([math.nan] * 4, [2, 2, 2, 2], None),
    ],
)
def test_crossover(first: list[float], second: list[float], wanted: float | None) -> None:
    assert crossover([1, 2, 3, 4], first, second) == wanted
