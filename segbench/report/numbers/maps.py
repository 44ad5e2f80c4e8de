"""Maps of single scenes as `explain` stored them, and how much they say beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segbench.core import explained
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.evidence import FEWEST
from segbench.report.numbers.explained import Measured
from segbench.stats import Interval, per_image

SHOWN = 3  # scenes


class MapTest(NamedTuple):
    """The deletion test of one kind of map of one architecture, over scenes."""

    candidate: Candidate
    kind: str  # of explained.MAPS
    lost: Mapping[str, Interval]  # by fill: evidence lost beyond random tiles, nats
    random: Interval | None  # rank correlation with the untrained network's map; None if not measured
    layer: str  # of a CAM
    images: int
    missing: str  # "" or why there is no map: "gradients" or "layer"

    @property
    def explains(self) -> bool:
        """Whether the map says more than chance under every fill."""
        return self.images >= FEWEST and all(interval.low > 0 for interval in self.lost.values())


class Pictured(NamedTuple):
    """One scene's maps, by architecture's name."""

    name: str
    maps: Mapping[str, Mapping[str, Any]]  # as explain/local.py documents them
    queries: Mapping[str, Sequence[Mapping[str, Any]]]  # as explain/queries.py does; none of networks without


def tests(measured: Sequence[Measured]) -> list[MapTest]:
    """One for each architecture and kind of map; none where there is no scene."""
    made = []
    for each in measured:
        values = [scene["maps"] for _, scene in sorted(each.first.items()) if "maps" in scene]
        regions = [value for value in values if value.get("why") != "region"]
        for kind in explained.MAPS if regions else ():
            made.append(_test(each.candidate, kind, regions))
    return made


def _test(candidate: Candidate, kind: str, values: Sequence[Mapping[str, Any]]) -> MapTest:
    tested = [value for value in values if kind in value["deletion"]]
    if not tested:
        return MapTest(candidate, kind, {}, None, "", 0, str(values[0]["why"]))
    lost = {f: per_image.mean([value["deletion"][kind][f] for value in tested]).interval() for f in explained.FILLS}
    known = [value["random"] for value in tested if value["random"] is not None] if kind == "cam" else []
    random = per_image.mean(known).interval() if known else None
    layers = sorted({str(value["layer"]) for value in tested}) if kind == "cam" else []
    return MapTest(candidate, kind, lost, random, ", ".join(layers), len(tested), "")


def pictured(measured: Sequence[Measured]) -> list[Pictured]:
    """The first SHOWN scenes, by name, of which all have a map of a region, those with query masks first."""
    mapped = [{name for name, known in each.first.items() if "maps" in known} for each in measured]
    names = [
        name
        for name in sorted(set.intersection(*mapped) if mapped else ())
        if all(each.first[name]["maps"].get("why") != "region" for each in measured)
    ]
    names.sort(key=lambda name: not all("queries" in each.first[name] for each in measured))
    return [
        Pictured(
            name,
            {each.candidate.name: each.first[name]["maps"] for each in measured},
            {each.candidate.name: q for each in measured if (q := each.first[name].get("queries"))},
        )
        for name in names[:SHOWN]
    ]
