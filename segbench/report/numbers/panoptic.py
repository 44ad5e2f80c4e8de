"""Objects: panoptic quality by class, its ceilings, which objects are found, and what learning them costs in mIoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench import stats
from segbench.core import panoptic as facts
from segbench.core.labels import LabelSet
from segbench.data import masks, packing, pictures
from segbench.report.numbers import pixels
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.stats import Interval, panoptic, per_image
from segbench.stats.bootstrap import mean_of_defined
from segbench.stats.panoptic import Counts

GROUPS = ("all", "things", "stuff")

Classes = tuple[int, ...]


class Quality(NamedTuple):
    """Of some classes of one architecture: the mean over its seeds."""

    pq: Interval
    sq: float
    rq: float


class Ceilings(NamedTuple):
    """What no network, or no connected components, can exceed: counts of images."""

    size: Counts | None  # labels at the packed size against the photographs' own; None where these are not at hand
    components: Counts  # connected components of the true classes, at the packed size
    packed: tuple[int, int]  # (height, width)

    def of(self, which: Counts, classes: Classes) -> float:
        """PQ."""
        return float(panoptic.pq(classes)(which.segments.sum(0)))


class Price(NamedTuple):
    """Two trainings of one network, on segments and on classes alone."""

    segments: Candidate
    classes: Candidate
    miou: Interval  # first minus second
    pq: Interval


def groups(labels: LabelSet) -> list[tuple[str, Classes]]:
    """All, things and stuff, then each class; a name of GROUPS, or the class's."""
    things, stuff = facts.things(labels), facts.stuff(labels)
    each = [(labels.names[index], (index,)) for index in (*things, *stuff)]
    return [*zip(GROUPS, ((*things, *stuff), things, stuff), strict=True), *each]


def quality(candidate: Candidate, classes: Classes) -> Quality:
    """Of these classes; the candidate is one of `shared`."""
    runs = [counts.segments for counts in candidate.counted]
    means = [mean_of_defined(panoptic.per_class(run.sum(0))[list(classes)].T) for run in runs]
    _, sq, rq = np.mean(means, axis=0).tolist()
    return Quality(stats.interval(runs, panoptic.pq(classes))[0], sq, rq)


def difference(first: Candidate, second: Candidate, classes: Classes) -> Interval:
    """Of PQ, first minus second, paired. Both have counts of the same images."""
    ours, theirs = ([counts.segments for counts in each.counted] for each in (first, second))
    return stats.difference(ours, theirs, panoptic.pq(classes))[0]


def iiou(candidate: Candidate) -> Interval:
    """Of things; the candidate is one of `shared`."""
    runs = [counts.weighted for counts in candidate.counted]
    return stats.interval(runs, panoptic.iiou(facts.things(candidate.labels)))[0]


def found(candidate: Candidate) -> list[Interval]:
    """The share of true objects that were found, for each of the five sizes; the mean over seeds."""
    runs = np.mean([counts.instances.sum(1) for counts in candidate.counted], axis=0)  # (N, 5, 2)
    return [per_image.ratio(runs[:, size, 0], runs[:, size, 1]).interval() for size in range(runs.shape[1])]


def objects(candidate: Candidate) -> NDArray[np.int64]:
    """(5,) true objects of each size."""
    return np.asarray(candidate.counted[0].instances.sum((0, 1))[:, 1])


def prices(comparison: Comparison) -> list[Price]:
    """Of each network that was also trained on classes alone, and on the same images."""
    able = [c for c in comparison.promoted if c.counted]
    alone = [c for c in able if c.models[0].card.model.get("segments") is False]
    pairs = [(one, other) for other in alone for one in able if one not in alone and _same(one, other)]
    return [
        Price(
            one,
            other,
            stats.difference(one.runs, other.runs, stats.miou(one.labels))[0],
            stats.difference(one.value_runs, other.value_runs, one.value)[0],
        )
        for one, other in pairs
    ]


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether they differ in what they were taught, and are comparable."""
    ways = [{**c.models[0].card.model, "segments": None} for c in (one, other)]
    bases = {c.name.partition("@")[0] for c in (one, other)}
    scored = {model.names for c in (one, other) for model in c.scored}
    return len(bases) == 1 and ways[0] == ways[1] and len(scored) == 1 and one.labels == other.labels


def ceilings(comparison: Comparison, val: packing.Split | None) -> Ceilings | None:
    """None where the packed images are gone, or have no instances."""
    if val is None or val.instances is None:
        return None
    labels = val.label_set
    of_raw = np.array(labels.class_of_raw)
    counts = []
    for index in range(len(val)):
        raw = np.asarray(val.labels[index])
        truth = facts.truth(raw, np.asarray(val.instances[index]), labels)
        counts.append(panoptic.component_ceiling(truth, of_raw[raw], labels))
    return Ceilings(_of_size(comparison, val), Counts.joined(counts), (val.labels.shape[1], val.labels.shape[2]))


def _of_size(comparison: Comparison, val: packing.Split) -> Counts | None:
    size = (val.labels.shape[1], val.labels.shape[2])
    counts = []
    try:
        for scene in pixels.sources(comparison, val):
            if scene.instances is None:
                return None
            raw = masks.read(scene.labels, val.label_set)
            truth = facts.truth(raw, masks.instances(scene.instances, raw), val.label_set)
            counts.append(panoptic.label_ceiling(truth, size, val.label_set))
    except (pictures.Unreadable, masks.Unknown):
        return None
    return Counts.joined(counts) if counts else None


def shared(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those whose segments were counted on the same images as the first's."""
    able = [candidate for candidate in candidates if candidate.counted]
    return [c for c in able if c.scored[0].names == able[0].scored[0].names]
