"""Which pixels a network takes for one object: connected components, and the queries of Mask2Former."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.architectures.parts import segments
from segbench.core.labels import DEFAULT, shipped
from segbench.core.panoptic import SPAN, VOID

_SKY, _HUMAN, _VEHICLE = 5, 6, 7
Scene = tuple[NDArray[np.int64], dict[int, int]]  # a map of segments, and the class of each


def test_touching_pixels_of_a_thing_are_one_object() -> None:
    sky, human, vehicle = _SKY * SPAN, _HUMAN * SPAN, _VEHICLE * SPAN
    predicted = torch.tensor(
        [
            [[7, 5, 5, 5, 7], [5, 7, 5, 5, 7], [6, 6, 5, 5, 5], [0, 5, 5, 7, 7]],
            [[5, 5, 5, 5, 5], [5, 5, 5, 5, 5], [5, 5, 5, 5, 5], [5, 5, 5, 5, 5]],
            [[7, 5, 5, 5, 5], [5, 5, 5, 5, 5], [5, 5, 6, 5, 5], [6, 5, 5, 5, 6]],
        ]
    )
    a, b, c = vehicle + 1, vehicle + 2, vehicle + 3
    first = [
        [a, sky, sky, sky, b],
        [sky, a, sky, sky, b],
        [human + 1, human + 1, sky, sky, sky],
        [VOID, sky, sky, c, c],
    ]
    found = segments.components(predicted, DEFAULT)
    assert found.dtype == torch.int64
    assert found[0].tolist() == first
    assert found[1].eq(sky).all()
    assert found[2, 0, 0] == a
    assert sorted(found[2][found[2] // SPAN == _HUMAN].tolist()) == [human + 1, human + 2, human + 3]


def test_a_stray_patch_is_no_object() -> None:
    predicted = torch.full((2, 256, 256), _SKY)
    predicted[0, 10, 10:13] = _VEHICLE  # three pixels, of 65,536
    predicted[0, 20, 20:24] = _VEHICLE
    predicted[1, 0, :4] = _VEHICLE
    found = segments.components(predicted, DEFAULT)
    assert found[0, 10, 10:13].eq(VOID).all()
    assert found[0, 20, 20:24].eq(_VEHICLE * SPAN + 1).all()
    assert found[1, 0, :4].eq(_VEHICLE * SPAN + 1).all()


def test_classes_of_one_set_keep_their_objects_apart() -> None:
    official = shipped("cityscapes-19")
    person, rider = official.names.index("person"), official.names.index("rider")
    predicted = torch.tensor([[[person, rider, person]]])
    expected = [person * SPAN + 1, rider * SPAN + 1, person * SPAN + 2]
    assert segments.components(predicted, official).tolist() == [[expected]]


def _official(
    class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int]
) -> list[tuple[NDArray[np.int64], dict[int, int]]]:
    """The published loop, image by image and query by query: each image's map of segments, and their classes."""
    made = []
    for classes, masks in zip(class_logits, mask_logits, strict=True):
        scores, winners = classes.softmax(-1).max(-1)
        kept = (winners != classes.shape[-1] - 1) & (scores > 0.8)
        wide = torch.nn.functional.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].sigmoid()
        result, current = np.zeros(size, np.int64), 0
        described: dict[int, int] = {}
        stuff: dict[int, int] = {}
        own, labels = wide[kept], winners[kept].tolist()
        if labels:
            owners = (scores[kept][:, None, None] * own).argmax(0)
            for k, label in enumerate(labels):
                won, whole = int((owners == k).sum()), int((own[k] >= 0.5).sum())
                inside = ((owners == k) & (own[k] >= 0.5)).numpy()
                if not won or not whole or not inside.any() or won / whole < 0.8:
                    continue
                if not DEFAULT.classes[label].thing and label in stuff:
                    result[inside] = stuff[label]
                    continue
                current += 1
                result[inside], described[current] = current, label
                if not DEFAULT.classes[label].thing:
                    stuff[label] = current
        made.append((result, described))
    return made


def test_queries_make_the_segments_of_the_published_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    images, queries, size = 8, 40, (64, 96)
    class_logits = 5 * torch.randn(images, queries, 9, generator=generator)
    class_logits[-1] = 0  # nothing is sure
    rows, columns = torch.rand(2, images, queries, 1, 1, generator=generator)
    radius = 0.02 + 0.3 * torch.rand(images, queries, 1, 1, generator=generator) ** 2
    y, x = torch.linspace(0, 1, 16)[:, None], torch.linspace(0, 1, 24)
    mask_logits = 60 * (radius - ((y - rows) ** 2 + (x - columns) ** 2).sqrt())
    mask_logits = mask_logits + torch.randn(mask_logits.shape, generator=generator)
    found = segments.of_queries(class_logits, mask_logits, size, DEFAULT).numpy()
    number = 0
    for own, (result, described) in zip(found, _official(class_logits, mask_logits, size), strict=True):
        pairs = set(zip(own.reshape(-1).tolist(), result.reshape(-1).tolist(), strict=True))
        pairs = {(ours, theirs) for ours, theirs in pairs if described.get(theirs) != 0}  # the class void is no segment
        known = {ours: theirs for ours, theirs in pairs if theirs}
        assert VOID not in known
        assert {ours for ours, theirs in pairs if not theirs} <= {VOID}
        assert len(known) == len(set(known.values())) == len(pairs - {(VOID, 0)})
        assert all(ours // SPAN == described[theirs] for ours, theirs in known.items())
        assert all((ours % SPAN > 0) == DEFAULT.classes[ours // SPAN].thing for ours in known)
        number += len(known)
    assert number > 30, "else the images show too little"
    assert (found[-1] == VOID).all()
    score, label = class_logits.softmax(-1)[..., :-1].max(-1)  # as on a GPU: all images and queries at once
    together = segments._claimed(score * (score > 0.8), label, mask_logits, size, DEFAULT)
    assert (together.numpy() == found).all()


def test_areas_of_masks_of_more_rows_than_a_byte_counts() -> None:
    masks = torch.zeros(2, 3, 600, 5, dtype=torch.bool).to(memory_format=torch.channels_last)
    masks[0, 0], masks[1, 2, 250:, 1:] = True, True
    assert segments._areas(masks).tolist() == [[3000, 0, 0], [0, 0, 350 * 4]]
