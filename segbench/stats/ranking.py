"""Three or more models on the same images: the probability of each rank, and all pairs, corrected for their number.

Two sources of chance are resampled together. Images: as in `bootstrap`, drawn with replacement, or as whole `clusters`;
the same draw for all models, because they are scored on the same images. Seeds: where a model was trained with S > 1 of
them, S - 1 are drawn with replacement, independently for each model, and their scores averaged. Drawing S would make
the variance of a mean too small by (S - 1) / S, which with two seeds is half of it; drawing S - 1 makes it unbiased
(P. J. McCarthy, C. B. Snowden, The bootstrap and finite population sampling, Vital and Health Statistics 2/95, 1985).
With one seed, its chance is not covered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segbench.stats.bootstrap import LEVEL, SEED, Counts, Interval, Statistic, Values, resample
from segbench.stats.clusters import cluster_draws

RESAMPLES = 10_000  # the smallest p is 2 / 10,001; times the 66 pairs of 12 models that still is below 0.05


def resampled_scores(
    models: Sequence[Sequence[Counts]],
    statistic: Statistic,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    groups: NDArray[np.int64] | None = None,
) -> Values:
    """(M, R): the score of each of M models in each of R resamples of images and seeds.

    models: per model one (N, L, C) array of raw confusions per seed, all of the same N images in the same order.
    statistic: one number per (L, C) confusion, such as `miou`. NaN where a resample has no score. groups: (N,) group
    numbers of `clusters`; default: every image by itself.
    """
    times = cluster_draws(np.arange(len(models[0][0])) if groups is None else groups, resamples, seed)
    generator = np.random.default_rng([seed, len(models)])
    return np.stack([_scores(runs, statistic, times, generator) for runs in models])


def rank_probabilities(scores: Values) -> Values:
    """(M, R) scores of `resampled_scores` to (M, M): in which share of the resamples, 0..1, each model (row) has each
    rank (column, the best first). Rows and columns sum to 1.

    Models that tie share the ranks they occupy. Resamples in which a score is undefined are left out; all NaN if none
    remains. A share says how far another draw of such images (and seeds) could change the rank; like
    `probability_best`, that of the model observed to be best is biased upwards.
    """
    known = scores[:, np.isfinite(scores).all(0)]
    models = len(scores)
    if not known.shape[1]:
        return np.full((models, models), np.nan)
    places = np.arange(models)[:, None]
    shares = np.empty((models, models))
    for model, own in enumerate(known):
        above, equal = (known > own).sum(0), (known == own).sum(0)  # `equal` counts the model itself
        shares[model] = (((places >= above) & (places < above + equal)) / equal).mean(1)
    return shares


def rank_range(probabilities: Values, level: float = LEVEL) -> tuple[int, int]:
    """One row of `rank_probabilities` to the ranks, 1 … M, between its (1 - level) / 2 quantiles; (0, 0) for NaN."""
    if not np.isfinite(probabilities).all():
        return 0, 0
    tail = (1 - level) / 2 * (1 + 1e-9)  # shares that are the tail but for rounding are no more than it
    low = int(np.argmax(np.cumsum(probabilities) > tail))
    high = len(probabilities) - 1 - int(np.argmax(np.cumsum(probabilities[::-1]) > tail))
    return low + 1, high + 1


def paired(first: Values, second: Values, estimate: float, level: float = LEVEL) -> tuple[Interval, float]:
    """The difference of two rows of `resampled_scores`: its percentile interval around `estimate`, and p.

    p is the two-sided achieved significance level, 2 · min(#{d ≤ 0}, #{d ≥ 0}) / R with one added to both counts, so
    that it is never 0 (A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application, 1997, 4.2 and 5.4): the
    largest level at which the percentile interval includes 0. NaN if no resample has both scores.
    """
    deltas = first - second
    deltas = deltas[np.isfinite(deltas)]
    if not len(deltas):
        return Interval(estimate, np.nan, np.nan), float("nan")
    low, high = np.quantile(deltas, [(1 - level) / 2, (1 + level) / 2])
    fewer = min(int((deltas <= 0).sum()), int((deltas >= 0).sum()))
    p = min(2 * (1 + fewer) / (1 + len(deltas)), 1.0)
    return Interval(estimate, float(low), float(high)), p


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """(K,) p-values of K tests to (K,) adjusted ones, in the same order: those of at most `level` may be called
    significant, and the chance that any of them is so wrongly is at most `level`, however the tests depend.

    With p(1) ≤ … ≤ p(K): p̃(k) = max over j ≤ k of min(1, (K - j + 1) · p(j)) (S. Holm, A simple sequentially rejective
    multiple test procedure, Scandinavian Journal of Statistics 6, 1979). NaN is no test: it stays NaN and is not
    counted.
    """
    given = np.asarray(p_values, np.float64)
    adjusted = np.full(given.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(factors * given[order], 1.0)) if len(order) else given[order]
    return adjusted


def _scores(
    runs: Sequence[Counts], statistic: Statistic, times: NDArray[np.int64], generator: np.random.Generator
) -> Values:
    of_seeds = np.stack([statistic(resample(run, times)) for run in runs])  # (S, R)
    seeds = len(runs)
    if seeds == 1:
        return np.asarray(of_seeds[0])
    drawn = generator.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=len(times)).T  # (S, R)
    return np.asarray(np.where(drawn > 0, drawn * of_seeds, 0.0).sum(0) / (seeds - 1))
