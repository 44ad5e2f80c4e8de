"""How much a decision needs what lies around it: context taken away from outside, and context shuffled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segbench.core import explained
from segbench.explain.fills import fills
from segbench.explain.probe import Probe, Scene, confusion

WINDOWS = 3  # of each image

Window = tuple[int, int]  # its top and left pixel


def kept(probe: Probe, scene: Scene) -> dict[str, Any]:
    """Correct pixels inside of windows, if the image is kept only within a distance of the window and a fill takes the
    place of the rest.

    {"counted": labelled pixels of all windows, "whole": correct ones if all is kept,
     "other": correct ones by distance (DISTANCES), "blur": likewise}
    """
    windows = _windows(scene)
    near = [explained.pixels(share, scene.size) for share in explained.DISTANCES]
    counted = sum(int(_inside(scene.labelled, window, scene).sum()) for window in windows)
    whole = probe.predicted([scene.image])
    result: dict[str, Any] = {"counted": counted, "whole": sum(_hits(whole[0], w, scene) for w in windows)}
    for name, rest in fills(scene).items():
        questions = [_within(scene, rest, window, distance) for distance in near for window in windows]
        answers = iter(probe.predicted(questions))
        result[name] = [sum(_hits(next(answers), window, scene) for window in windows) for _ in near]
    return result


def shuffled(probe: Probe, scene: Scene) -> list[list[list[int]]]:
    """The confusion, (C, C), for each tile size (TILES) if tiles are shuffled with their labels: what the inside of a
    tile tells. A border that is no whole tile stays."""
    generator = scene.draws("shuffle")
    images, truths = [], []
    for share in explained.TILES:
        side = explained.pixels(share, scene.size)
        rows, columns = scene.size[0] // side, scene.size[1] // side
        order = torch.from_numpy(generator.permutation(rows * columns)).to(scene.image.device)
        images.append(_permuted(scene.image, side, order))
        truths.append(_permuted(scene.truth[None], side, order)[0])
    answers = probe.predicted(images)
    return [confusion(truth, answer, probe.classes) for truth, answer in zip(truths, answers, strict=True)]


def intact(probe: Probe, scene: Scene) -> list[list[int]]:
    """The confusion, (C, C), of the image as it is."""
    return confusion(scene.truth, probe.predicted([scene.image])[0], probe.classes)


def _windows(scene: Scene) -> list[Window]:
    generator, side = scene.draws("windows"), explained.pixels(explained.WINDOW, scene.size)
    height, width = scene.size
    return [(int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1)))
            for _ in range(WINDOWS)]  # fmt: skip


def _inside(plane: Tensor, window: Window, scene: Scene, margin: int = 0) -> Tensor:
    """The part of (…, H, W) in the window and `margin` pixels around it, as a view."""
    top, left = window
    side = explained.pixels(explained.WINDOW, scene.size)
    rows = slice(max(top - margin, 0), top + side + margin)
    return plane[..., rows, max(left - margin, 0) : left + side + margin]


def _within(scene: Scene, rest: Tensor, window: Window, distance: int) -> Tensor:
    made = rest.clone()
    _inside(made, window, scene, distance).copy_(_inside(scene.image, window, scene, distance))
    return made


def _hits(predicted: Tensor, window: Window, scene: Scene) -> int:
    right = (predicted == scene.truth) & scene.labelled
    return int(_inside(right, window, scene).sum())


def _permuted(planes: Tensor, side: int, order: Tensor) -> Tensor:
    """(K, H, W) with its whole tiles of side × side pixels in another order."""
    rows, columns = planes.shape[-2] // side, planes.shape[-1] // side
    area = planes[:, : rows * side, : columns * side]
    tiles = area.reshape(-1, rows, side, columns, side).transpose(2, 3).reshape(-1, rows * columns, side, side)
    moved = tiles[:, order].reshape(-1, rows, columns, side, side).transpose(2, 3).reshape(area.shape)
    result = planes.clone()
    result[:, : rows * side, : columns * side] = moved
    return result
