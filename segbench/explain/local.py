"""Maps of what one region's prediction leans on, each with the test whether it says more than chance.

A map ranks the tiles outside of the region. The deletion test (Samek et al., IEEE TNNLS 2017, arXiv 1509.06321)
replaces the tiles it ranks highest, and compares the loss of evidence with that of random tiles. The random-weights
check (Adebayo et al., NeurIPS 2018, arXiv 1810.03292) compares the map with that of the untrained network: a map that
hardly changes does not show what was learnt.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.explain import regions
from segbench.explain.fills import fills
from segbench.explain.gradcam import Cam, grad_cam
from segbench.explain.probe import Probe, Scene
from segbench.explain.regions import Region, Tiles

_DELETED = 1 / 16  # of the tiles outside of the region
_RANDOM_ORDERS = 5
_DIGITS = 5


def maps(probe: Probe, scene: Scene, untrained: Segmenter) -> dict[str, Any]:
    """What the evidence for a region, the mean log-probability (nats) of its true category, leans on.

    {"category", "box": top, left, bottom, right in pixels, "shape": rows and columns of tiles,
     "outside": T times 0 or 1, "occlusion": T, the loss of evidence if a tile is replaced by another image's, 0 inside,
     "cam": T means or null, "layer": of the CAM, "why": it is null ("gradients" or "layer"), "random": rank correlation
     of the CAM with that of the untrained network, or null, "deletion": {map: {fill: nats lost beyond random tiles}}}
    or {"why": "region"} if no region qualifies.
    """
    asked = regions.region(scene)
    if asked is None:
        return {"why": "region"}
    tiles = regions.tiles(scene, asked)
    if not bool(tiles.outside.any()):
        return {"why": "region"}
    occlusion = _occlusion(probe, scene, asked, tiles)
    cam = grad_cam(probe.model, scene.image, asked)
    rankings = {"occlusion": occlusion}
    result: dict[str, Any] = {"category": asked.category, "box": asked.box, "shape": tiles.shape}
    result |= {"outside": tiles.outside.int().tolist(), "occlusion": _rounded(occlusion)}
    if isinstance(cam, Cam):
        rankings["cam"] = tiles.mean(cam.map)
        result |= {"cam": _rounded(rankings["cam"]), "layer": cam.layer, "why": None}
        result["random"] = _correlation(cam, grad_cam(untrained, scene.image, asked), tiles)
    else:
        result |= {"cam": None, "layer": None, "why": cam, "random": None}
    return {**result, "deletion": _deletion(probe, scene, asked, tiles, rankings)}


def _occlusion(probe: Probe, scene: Scene, asked: Region, tiles: Tiles) -> Tensor:
    """(T,) nats, on the CPU's or the device's: how much evidence each tile outside holds."""
    chosen = tiles.outside.nonzero().flatten()
    questions = [scene.image, *(torch.where(tiles.of == tile, scene.others[0], scene.image) for tile in chosen)]
    evidence = probe.evidence(questions, asked.mask, asked.category)
    lost = torch.zeros(len(tiles.outside), device=evidence.device)
    lost[chosen] = evidence[0] - evidence[1:]
    return lost


def _deletion(
    probe: Probe, scene: Scene, asked: Region, tiles: Tiles, rankings: dict[str, Tensor]
) -> dict[str, dict[str, float]]:
    """For each map and fill, the evidence lost with the highest tiles minus the mean over random tiles, nats. The other
    image is a third one, so that the occlusion map is not tested by the very pixels that made it."""
    chosen = tiles.outside.nonzero().flatten()
    number = max(round(len(chosen) * _DELETED), 1)
    generator = scene.draws("deletion")
    orders = [chosen[ranking[chosen].argsort(descending=True, stable=True)] for ranking in rankings.values()]
    orders += [chosen[torch.from_numpy(generator.permutation(len(chosen))).to(chosen.device)]
               for _ in range(_RANDOM_ORDERS)]  # fmt: skip
    holes = [torch.isin(tiles.of, order[:number]) for order in orders]
    lost: dict[str, dict[str, float]] = {name: {} for name in rankings}
    for fill, rest in {**fills(scene), "other": scene.others[1]}.items():
        questions = [scene.image, *(torch.where(hole, rest, scene.image) for hole in holes)]
        evidence = probe.evidence(questions, asked.mask, asked.category).double()
        losses = evidence[0] - evidence[1:]
        for index, name in enumerate(rankings):
            lost[name][fill] = round(float(losses[index] - losses[len(rankings) :].mean()), _DIGITS)
    return lost


def _correlation(trained: Cam, other: Cam | str, tiles: Tiles) -> float | None:
    """Spearman's rank correlation of two maps over all tiles, with their negative parts, since nothing may speak for a
    category in an untrained network; None if one is constant."""
    if not isinstance(other, Cam):
        return None
    first, second = (tiles.mean(cam.signed).cpu().numpy() for cam in (trained, other))
    if first.min() == first.max() or second.min() == second.max():
        return None
    rho = float(spearmanr(first, second).statistic)
    return round(rho, _DIGITS) if math.isfinite(rho) else None


def _rounded(values: Tensor) -> list[float]:
    return [round(value, _DIGITS) for value in values.double().tolist()]
