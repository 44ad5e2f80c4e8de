"""What one category does for the recognition of the others: it is removed, and their recall is measured.

The players of a game are the categories of an image; a coalition's worth is how many pixels of each category are
recognised while only the coalition's pixels are there. With so few players Shapley values (Shapley 1953; Lundberg and
Lee, arXiv 1705.07874, for networks) need no sampling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from segbench import stats
from segbench.explain.fills import inpainted
from segbench.explain.probe import Probe, Scene


def removed(probe: Probe, scene: Scene) -> dict[str, Any]:
    """Correct pixels by true category (C numbers), while one category's pixels are replaced by what is around them, or
    by another image's.

    {"truth": pixels by category, "intact": correct ones, "inpainted": by removed category, C numbers each, or None
     where the image lacks it, "other": likewise}
    """
    players = _players(scene)
    holes = [scene.truth == category for category in players]
    questions = [scene.image]
    questions += [inpainted(scene.image, hole) for hole in holes]
    questions += [torch.where(hole, scene.others[0], scene.image) for hole in holes]
    hits = _hits(probe, scene, questions)
    truth = _per_category(scene, scene.labelled, probe.classes)
    result: dict[str, Any] = {"truth": truth, "intact": hits[0]}
    for name, first in (("inpainted", 1), ("other", 1 + len(players))):
        of_player = dict(zip(players, hits[first : first + len(players)], strict=True))
        result[name] = [of_player.get(category) for category in range(probe.classes)]
    return result


def coalitions(probe: Probe, scene: Scene) -> dict[str, Any]:
    """All 2ⁿ coalitions of the image's n categories, the others inpainted.

    {"all": correct pixels by category with all categories there, "none": with none, "shapley": (C, C), what the row's
     category adds to the correct pixels of the column's; each column sums to "all" minus "none"}
    """
    players = _players(scene)
    number = 1 << len(players)
    questions = [_only(scene, players, coalition) for coalition in range(number)]
    worth = np.array(_hits(probe, scene, questions), np.float64)
    values = np.zeros((probe.classes, probe.classes))
    values[players] = stats.shapley(worth)
    return {"all": worth[-1].tolist(), "none": worth[0].tolist(), "shapley": values.round(6).tolist()}


def _players(scene: Scene) -> list[int]:
    """The categories of the image, without void."""
    return torch.bincount(scene.truth[scene.labelled]).nonzero().flatten().tolist()


def _only(scene: Scene, players: list[int], coalition: int) -> Tensor:
    """The image without the players whose bit is not set."""
    hole = torch.zeros_like(scene.truth, dtype=torch.bool)
    for bit, category in enumerate(players):
        if not coalition >> bit & 1:
            hole |= scene.truth == category
    return inpainted(scene.image, hole) if bool(hole.any()) else scene.image


def _hits(probe: Probe, scene: Scene, questions: list[Tensor]) -> list[list[int]]:
    """Correct pixels by true category, for each image."""
    answers = probe.predicted(questions)
    return [_per_category(scene, (answer == scene.truth) & scene.labelled, probe.classes) for answer in answers]


def _per_category(scene: Scene, counted: Tensor, classes: int) -> list[int]:
    counts: list[int] = torch.bincount(scene.truth[counted], minlength=classes).tolist()
    return counts
