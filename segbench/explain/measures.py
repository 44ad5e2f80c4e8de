"""Which measures there are, and on how many scenes each is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from segbench.architectures.segmenter import Segmenter
from segbench.explain import context, corruptions, local, queries, removal
from segbench.explain.probe import Probe, Scene

_MAPPED = 16  # scenes with maps: each takes a forward pass per tile
_PICTURED = 4  # of these, scenes with query masks

Measure = Callable[[Probe, Scene], Any]  # returns what JSON can hold


@dataclass(frozen=True)
class Extras:
    """What is not measured of every model."""

    exact: bool = False  # all coalitions of categories
    corruptions: bool = False
    maps: bool = True  # and query masks: pictures, of one seed


def planned(names: Sequence[str], extras: Extras) -> dict[str, list[str]]:
    """The measures of each scene, by its name, in order."""
    mapped = set(spread(names, _MAPPED) if extras.maps else ())
    pictured = set(spread(spread(names, _MAPPED), _PICTURED) if extras.maps else ())
    always = ["intact", "context", "tiles", "removal"]
    always += ["coalitions"] * extras.exact + ["corruptions"] * extras.corruptions
    return {name: [*always, *["maps"] * (name in mapped), *["queries"] * (name in pictured)] for name in names}


def by_name(untrained: Segmenter) -> dict[str, Measure]:
    """All measures. `untrained`: the same network with random weights."""
    return {
        "intact": context.intact,
        "context": context.kept,
        "tiles": context.shuffled,
        "removal": removal.removed,
        "coalitions": removal.coalitions,
        "corruptions": corruptions.corrupted,
        "maps": lambda probe, scene: local.maps(probe, scene, untrained),
        "queries": queries.strongest,
    }


def spread(names: Sequence[str], number: int) -> list[str]:
    """Up to `number` of the names, evenly spread, in order."""
    if number >= len(names):
        return list(names)
    return [names[(2 * k + 1) * len(names) // (2 * number)] for k in range(number)]
