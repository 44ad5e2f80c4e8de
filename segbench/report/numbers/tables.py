"""Every number of the comparison, from its records. Nothing here draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from segbench import stats
from segbench.core import metrics
from segbench.core import panoptic as facts
from segbench.core.labels import LabelSet
from segbench.core.records import EpochRecord, EpochSeconds
from segbench.report.numbers import evidence
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.stats import Interval, panoptic

PARTS = ("data", "forward", "loss", "backward", "optimizer", "evaluation", "bookkeeping", "rest")  # of an epoch
GROUPS = ("pq_things", "pq_stuff")  # the kinds of classes of panoptic protocols
NAN = float("nan")
SEED_NOISE = 0.02  # FIELD-NOTES: 1 to 3 points between seeds; a single-run gap under about 2 is no evidence


@dataclass(frozen=True)
class Summary:
    """One promoted architecture in numbers: means over its seeds where there are several."""

    candidate: Candidate
    seeds: tuple[int, ...]
    value: Interval  # of the best epoch's weights, from the per-image counts: PQ of panoptic protocols, else mIoU
    miou: Interval  # likewise
    miou_official: Interval
    pixel_accuracy: Interval
    val_nll: float  # of the best epoch, nats
    last_value: float  # of the last epoch
    value_of_seed: tuple[float, ...]
    majority_miou: float
    inference_images_per_second: float
    latency_ms: float
    milliseconds_per_image: tuple[float, float, float]  # preprocess, forward, postprocess, at the training batch size
    seconds_per_epoch: float  # mean over epochs
    parts_of_epoch: tuple[float, ...]  # seconds, in the order of PARTS; their sum is seconds_per_epoch
    training_images_per_second: float
    parameters: int
    gmac: float  # of one image
    training_memory_gb: float  # peak
    inference_memory_gb: float  # peak
    seconds: float  # wall-clock of the promotion, all seeds together
    search_seconds: float  # wall-clock of the search, all trials together
    on_gpu: bool
    groups: Mapping[str, Interval]  # of panoptic protocols the PQ of things and of stuff, by GROUPS; else empty


@dataclass(frozen=True)
class PairwiseComparison:
    """Two promoted architectures on the same validation images: `first` has the higher value."""

    first: Summary
    second: Summary
    images: int
    value: Interval  # first minus second: the widest of the intervals of `evidence`
    miou: Interval
    miou_official: Interval
    pixel_accuracy: Interval
    iou: tuple[Interval, ...]  # per category

    ahead: float  # in which share of the resamples `first` has the higher value, 0..1
    groups: Mapping[str, Interval] = field(default_factory=dict)  # the differences of `Summary.groups`
    over: str = "images"  # what was drawn again for `value`, see `evidence.Evidence`
    seeds_needed: int | None = None  # how many of each would decide; None where that is unknown, or none would

    @property
    def seeds(self) -> int:
        """How many trainings stand behind the candidate that has fewer."""
        return min(len(self.first.seeds), len(self.second.seeds))


@dataclass(frozen=True)
class ClassRow:
    """One category of one architecture."""

    category: str
    iou: Interval
    iou_official: float
    share: float  # of the validation pixels that truly are of it, 0..1


def summaries(comparison: Comparison) -> list[Summary]:
    """One per promoted candidate, in the protocol's order."""
    return [_summary(candidate) for candidate in comparison.promoted]


def ranked(rows: Iterable[Summary]) -> list[Summary]:
    """Highest value first; undefined ones last."""
    return sorted(rows, key=lambda row: (math.isnan(row.value.estimate), -row.value.estimate, row.candidate.name))


def pairs(rows: list[Summary]) -> list[PairwiseComparison]:
    """The best against each other one; none where the per-image confusions are not of the same images."""
    order = ranked(row for row in rows if row.candidate.value_runs)
    return [pair for other in order[1:] if (pair := _pair(order[0], other))]


def classes(candidate: Candidate) -> list[ClassRow]:
    """One row per class; none where no confusion is there."""
    if not candidate.runs:
        return []
    labels = candidate.labels
    intervals = stats.interval(candidate.runs, stats.iou(labels))
    official = np.mean([metrics.official_iou(run.sum(0), labels) for run in candidate.runs], axis=0)
    truth = metrics.class_confusion(candidate.runs[0].sum(0), labels).sum(1)
    shares = truth / max(truth.sum(), 1)
    return [ClassRow(name, intervals[i], float(official[i]), float(shares[i])) for i, name in enumerate(labels.names)]


def confusion(candidate: Candidate) -> NDArray[np.float64] | None:
    """(C, C): of the pixels of each true category (row), which share was predicted as what; NaN where there is none."""
    if not candidate.runs:
        return None
    counts = metrics.class_confusion(np.sum([run.sum(0) for run in candidate.runs], axis=0), candidate.labels)
    totals = counts.sum(1, keepdims=True)
    return np.asarray(np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0))


def majority_accuracy(candidate: Candidate) -> float | None:
    """The pixel accuracy of the majority baseline. The card keeps only its mIoU, which tells which category it was."""
    if not candidate.runs:
        return None
    truth = metrics.class_confusion(candidate.runs[0].sum(0), candidate.labels).sum(1)
    for index in range(len(truth)):
        guess = np.zeros((len(truth), len(truth)), np.int64)
        guess[:, index] = truth
        if math.isclose(metrics.mean(metrics.jaccard(guess)), candidate.models[0].card.majority_miou, abs_tol=1e-9):
            return float(truth[index] / truth.sum())
    return None


def majorities(rows: Sequence[Summary]) -> list[float]:
    """The value of the majority baseline beside each; none of panoptic protocols, which have no such baseline."""
    return [] if any(row.candidate.is_panoptic for row in rows) else [row.majority_miou for row in rows]


def device_hours(row: Summary) -> float:
    """Wall-clock hours of the search and of the full training of one seed."""
    return (row.search_seconds + row.seconds / max(len(row.seeds), 1)) / 3600


def costs(row: Summary) -> dict[str, float]:
    """What quality is weighed against; lower is better, NaN is unknown."""
    return {
        "latency": row.latency_ms,
        "hours": device_hours(row),
        "parameters": row.parameters / 1e6,
        "gmac": row.gmac,
        "memory": row.inference_memory_gb,
    }


def front(rows: list[Summary], cost: str) -> list[Summary]:
    """The rows that no other one beats: nothing is at least as good and as cheap, and better in one of the two. Rows of
    unknown cost are neither beaten nor on it."""

    def beaten(row: Summary) -> bool:
        mine = (row.value.estimate, -costs(row)[cost])
        others = [(other.value.estimate, -costs(other)[cost]) for other in rows if other is not row]
        return any(o[0] >= mine[0] and o[1] >= mine[1] and o != mine for o in others)

    return [row for row in rows if not beaten(row) and not math.isnan(costs(row)[cost])]


def image_values(candidate: Candidate) -> dict[str, float]:
    """Scene to the value of that image alone, mean over seeds."""
    if not candidate.value_runs or any(model.names != candidate.scored[0].names for model in candidate.scored):
        return {}
    values = np.mean([candidate.value(run) for run in candidate.value_runs], axis=0)
    return dict(zip(candidate.scored[0].names, values.tolist(), strict=True))


def _summary(candidate: Candidate) -> Summary:
    cards = [model.card for model in candidate.models]
    epochs = [epoch for model in candidate.models for epoch in model.epochs]
    speeds = [card.speed for card in cards]
    parts = parts_of_epoch(epochs)
    return Summary(
        candidate=candidate,
        seeds=tuple(card.seed for card in cards),
        value=_value(candidate),
        miou=_score(candidate, stats.miou, [card.best.miou for card in cards]),
        miou_official=_score(candidate, stats.miou_official, [card.best.miou_official for card in cards]),
        pixel_accuracy=_score(candidate, stats.pixel_accuracy, [card.best.pixel_accuracy for card in cards]),
        val_nll=_mean(card.best.val_nll for card in cards),
        last_value=_mean(card.last.value for card in cards),
        value_of_seed=tuple(card.best.value for card in cards),
        majority_miou=_mean(card.majority_miou for card in cards),
        inference_images_per_second=_mean(speed.inference_images_per_second for speed in speeds),
        latency_ms=_mean(speed.latency_ms for speed in speeds),
        milliseconds_per_image=(
            _mean(_per_image(speed.preprocess_images_per_second) for speed in speeds),
            _mean(_per_image(speed.forward_images_per_second) for speed in speeds),
            _mean(_per_image(speed.postprocess_images_per_second) for speed in speeds),
        ),
        seconds_per_epoch=sum(parts),
        parts_of_epoch=parts,
        training_images_per_second=_mean(epoch.images_per_second for epoch in epochs),
        parameters=speeds[0].parameters,
        gmac=NAN if speeds[0].gmac is None else speeds[0].gmac,
        training_memory_gb=max(epoch.peak_memory_gb for epoch in epochs),
        inference_memory_gb=max(speed.peak_memory_gb for speed in speeds),
        seconds=sum(card.seconds for card in cards),
        search_seconds=sum(trial.seconds for trial in candidate.study.trials) if candidate.study else 0.0,
        on_gpu=all(card.device.is_gpu for card in cards),
        groups={name: stats.interval(_segments(candidate), pq)[0] for name, pq in _groups(candidate).items()},
    )


def parts_of_epoch(epochs: list[EpochRecord]) -> tuple[float, ...]:
    """Mean seconds per part, in the order of PARTS. `rest` is what the total holds beyond the named parts."""
    named = [field.name for field in fields(EpochSeconds) if field.name != "total"]
    means = [_mean(getattr(epoch.seconds, name) for epoch in epochs) for name in named]
    total = _mean(epoch.seconds.total for epoch in epochs)
    return (*means, max(total - sum(means), 0.0))


def _groups(candidate: Candidate) -> dict[str, stats.Statistic]:
    """The statistic of each of GROUPS; none where the counts of segments are gone."""
    kinds = (facts.things(candidate.labels), facts.stuff(candidate.labels))
    return (
        {name: panoptic.pq(classes) for name, classes in zip(GROUPS, kinds, strict=True)} if candidate.counted else {}
    )


def _segments(candidate: Candidate) -> list[NDArray[np.float64]]:
    return [counts.segments for counts in candidate.counted]


def _value(candidate: Candidate) -> Interval:
    """As `_score`, of the value."""
    if len(candidate.value_runs) == len(candidate.models):
        return stats.interval(candidate.value_runs, candidate.value)[0]
    return Interval(_mean(model.card.best.value for model in candidate.models), NAN, NAN)


def _score(candidate: Candidate, statistic: Callable[[LabelSet], stats.Statistic], recorded: list[float]) -> Interval:
    """From the confusions where every seed has them, else what training recorded, without an interval."""
    if len(candidate.runs) == len(candidate.models):
        return stats.interval(candidate.runs, statistic(candidate.labels))[0]
    return Interval(_mean(recorded), NAN, NAN)


def _pair(first: Summary, second: Summary) -> PairwiseComparison | None:
    names = {model.names for row in (first, second) for model in row.candidate.scored}
    if len(names) != 1 or first.candidate.labels != second.candidate.labels:
        return None
    a, b, labels = first.candidate.runs, second.candidate.runs, first.candidate.labels
    times, of_seeds = evidence.draws(scenes := names.pop()), (first.value_of_seed, second.value_of_seed)
    runs, statistic = (first.candidate.value_runs, second.candidate.value_runs), first.candidate.value
    value = evidence.widest(times, lambda drawn: stats.sampled_difference(*runs, statistic, drawn), of_seeds)
    return PairwiseComparison(
        first,
        second,
        len(scenes),
        value.interval,
        stats.difference(a, b, stats.miou(labels))[0],
        stats.difference(a, b, stats.miou_official(labels))[0],
        stats.difference(a, b, stats.pixel_accuracy(labels))[0],
        tuple(stats.difference(a, b, stats.iou(labels))),
        stats.superiority(*runs, statistic)[0],
        {
            name: stats.difference(_segments(first.candidate), _segments(second.candidate), pq)[0]
            for name, pq in _groups(first.candidate).items()
        },
        value.over,
        stats.seeds_to_settle(stats.sampled_difference(*runs, statistic, times["images"]), *of_seeds),
    )


def _per_image(images_per_second: float) -> float:
    """Milliseconds; NaN where the card holds no speed."""
    return 1000 / images_per_second if images_per_second > 0 else NAN


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else NAN
