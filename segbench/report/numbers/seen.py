"""What the networks saw of an image, in training and in scoring; and what the packed size costs, if it was measured."""

from __future__ import annotations

from typing import NamedTuple

from segbench import stats
from segbench.core import artefacts
from segbench.core.crops import WHOLE, Passes, Size
from segbench.ledger import models
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.text.i18n import listed, scalar, text
from segbench.stats import Interval


class Squeeze(NamedTuple):
    """The mIoU of one architecture at two sizes, over the same images and seeds."""

    candidate: Candidate
    images: int
    packed: Interval
    original: Interval  # at the photographs' own size
    difference: Interval  # original minus packed, paired


def squeezes(comparison: Comparison) -> list[Squeeze]:
    """Of each promoted architecture that was scored at both sizes."""
    return [made for candidate in comparison.promoted if (made := _squeeze(candidate))]


def said(crop: Size | None, passes: Passes) -> str:
    """In words; "" for whole images, seen once."""
    if crop is None and passes == WHOLE:
        return ""
    parts = [text("seen.crop", height=crop[0], width=crop[1])] if crop else []
    if passes.window and passes.stride:
        (height, width), (down, across) = passes.window, passes.stride
        parts.append(text("seen.windows", height=height, width=width, down=down, across=across))
    else:
        parts.append(text("seen.whole"))
    if passes.flip:
        parts.append(text("seen.mirrored"))
    if passes.scales != WHOLE.scales:
        parts.append(text("seen.scales", list=listed([scalar(scale) for scale in passes.scales])))
    return ", ".join(parts)


def _squeeze(candidate: Candidate) -> Squeeze | None:
    packed, original = [], []
    for model in candidate.scored:
        counts, names = models.confusions(model.folder / artefacts.ORIGINAL, candidate.labels)
        if counts is not None and names == model.names and model.confusions is not None:
            packed.append(model.confusions)
            original.append(counts)
    if not packed:
        return None
    miou = stats.miou(candidate.labels)
    [at_packed], [at_original] = stats.interval(packed, miou), stats.interval(original, miou)
    [difference] = stats.difference(original, packed, miou)
    return Squeeze(candidate, len(packed[0]), at_packed, at_original, difference)
