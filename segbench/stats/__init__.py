"""The report's statistics, with NumPy and SciPy: arrays in, numbers out; nothing is read, written or drawn.

bootstrap   the uncertainty of a score, and of the difference of two, on a few hundred images
ranking     the probability of each rank, and all pairs of three or more models
selection   whether the promoted trial is really the best, and whether selection ranks like the full validation
budget      the expected result of a search of k trials, or of a number of GPU-hours
longer      whether a learning curve still rose, and what more epochs would add
seeds       the mean of several trainings
ceiling     the score lost to the size of the labels alone
boundary    how errors depend on the distance from a class border
"""

from segbench.stats.bootstrap import (
    Interval,
    Statistic,
    difference,
    draws,
    interval,
    iou,
    miou,
    miou_official,
    pixel_accuracy,
    resample,
    superiority,
)
from segbench.stats.boundary import boundary_errors, trimap_errors
from segbench.stats.budget import crossover, expected_best, expected_best_by_cost, expected_best_curve
from segbench.stats.ceiling import label_ceiling
from segbench.stats.longer import Longer, Rise, continued, last_rise
from segbench.stats.ranking import holm, paired, rank_probabilities, rank_range, resampled_scores
from segbench.stats.seeds import SeedSummary, seed_summary
from segbench.stats.selection import Agreement, probability_best, rank_agreement

__all__ = [
    "Agreement",
    "Interval",
    "Longer",
    "Rise",
    "SeedSummary",
    "Statistic",
    "boundary_errors",
    "continued",
    "crossover",
    "difference",
    "draws",
    "expected_best",
    "expected_best_by_cost",
    "expected_best_curve",
    "holm",
    "interval",
    "iou",
    "label_ceiling",
    "last_rise",
    "miou",
    "miou_official",
    "paired",
    "pixel_accuracy",
    "probability_best",
    "rank_agreement",
    "rank_probabilities",
    "rank_range",
    "resample",
    "resampled_scores",
    "seed_summary",
    "superiority",
    "trimap_errors",
]
