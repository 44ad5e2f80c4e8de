"""The report's statistics, with NumPy and SciPy: arrays in, numbers out; nothing is read, written or drawn.

bootstrap   the uncertainty of a score, and of the difference of two, on a few hundred images
ranking     the probability of each rank, and all pairs of three or more models
selection   whether the promoted trial is really the best, and whether selection ranks like the full validation
budget      the expected result of a search of k trials, or of a number of GPU-hours
longer      whether a learning curve still rose, and what more epochs would add
seeds       the mean of several trainings, and a difference over seeds and images
clusters    frames of one recording, or of one city, drawn together
ceiling     the score lost to the size of the labels alone, or to the network's own output grid
boundary    how errors depend on the distance from a class border
behaviour   the kinds of errors, counted per image, from the four below
taxonomy    wrong outline, wrong extent, or a region missed or invented
regions     which regions are found, by size
contours    how well outlines agree
texture     whether categories that look alike are confused
calibration whether a network knows how sure it may be
per_image   ratios and scores of images, which keep their resamples
shapley     what each player of a game adds, exactly
panoptic    panoptic quality, and what else tells objects apart
components  the objects of a map of classes
scaling     how errors fall with the number of images
"""

from segbench.stats.bootstrap import (
    Interval,
    Sampled,
    Statistic,
    difference,
    draws,
    interval,
    iou,
    miou,
    miou_official,
    pixel_accuracy,
    resample,
    sampled,
    sampled_difference,
    superiority,
)
from segbench.stats.boundary import boundary_errors, trimap_errors
from segbench.stats.budget import another_search, crossover, expected_best, expected_best_by_cost, expected_best_curve
from segbench.stats.ceiling import grid_ceiling, label_ceiling
from segbench.stats.clusters import cluster_draws, clusters
from segbench.stats.components import components
from segbench.stats.longer import Longer, Rise, continued, last_rise
from segbench.stats.ranking import holm, paired, rank_probabilities, rank_range, resampled_scores
from segbench.stats.seeds import SeedSummary, over_seeds, p_over_seeds, seed_summary, seeds_to_settle
from segbench.stats.selection import Agreement, probability_best, rank_agreement
from segbench.stats.shapley import shapley

__all__ = [
    "Agreement",
    "Interval",
    "Longer",
    "Rise",
    "Sampled",
    "SeedSummary",
    "Statistic",
    "another_search",
    "boundary_errors",
    "cluster_draws",
    "clusters",
    "components",
    "continued",
    "crossover",
    "difference",
    "draws",
    "expected_best",
    "expected_best_by_cost",
    "expected_best_curve",
    "grid_ceiling",
    "holm",
    "interval",
    "iou",
    "label_ceiling",
    "last_rise",
    "miou",
    "miou_official",
    "over_seeds",
    "p_over_seeds",
    "paired",
    "pixel_accuracy",
    "probability_best",
    "rank_agreement",
    "rank_probabilities",
    "rank_range",
    "resample",
    "resampled_scores",
    "sampled",
    "sampled_difference",
    "seed_summary",
    "seeds_to_settle",
    "shapley",
    "superiority",
    "trimap_errors",
]
