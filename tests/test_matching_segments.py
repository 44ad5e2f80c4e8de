"""The loss of mask classification on segments: who is a target, who is matched, and what stays as on classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.architectures.parts import matching, present
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT, shipped
from segbench.core.panoptic import SPAN, VOID
from segbench.data import segments
from segbench.data.batches import NO_CLASS
from tests import frozen

SKY, HUMAN, VEHICLE = 5, 6, 7
CAR, PERSON, CARAVAN = 26, 24, 29


def scene() -> Tensor:
    """(1, 8, 16) segments on 2×4 cells of 4×4 pixels: sky, two cars, a person of 15 pixels, a group (VOID)."""
    ids = torch.full((1, 8, 16), SKY * SPAN)
    ids[0, 4:, :4] = VEHICLE * SPAN + 1
    ids[0, 4:, 4:8] = VEHICLE * SPAN + 2
    ids[0, 4:, 8:12] = HUMAN * SPAN + 9
    ids[0, 4, 8] = SKY * SPAN
    ids[0, 4:, 12:] = VOID
    return ids


def classes_of(ids: Tensor, group: int = HUMAN) -> Tensor:
    return torch.where(ids >= 0, ids // SPAN, group)


def outputs(images: int, queries: int, size: tuple[int, int], classes: int = 8, layers: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(layers, images, queries, classes + 1, generator=generator)
    masks = 3 * torch.randn(layers, images, queries, *size, generator=generator)
    return logits.requires_grad_(), masks.requires_grad_()


def test_a_table_holds_each_images_segments_and_no_small_instance() -> None:
    both = torch.cat([scene(), torch.full((1, 8, 16), VOID)])
    both[1, 0, 0] = SKY * SPAN  # stuff counts, however small
    of_first = [SKY * SPAN, HUMAN * SPAN + 9, VEHICLE * SPAN + 1, VEHICLE * SPAN + 2]
    assert present.table(both).tolist() == [of_first, [SKY * SPAN, *3 * [present.NONE]]]
    assert present.table(both, 15).tolist()[0] == of_first
    assert present.table(both, 16).tolist()[0] == [SKY * SPAN, VEHICLE * SPAN + 1, VEHICLE * SPAN + 2]
    assert present.table(torch.full((2, 8, 16), VOID)).tolist() == [[present.NONE], [present.NONE]]


def test_targets_are_the_segments_at_least_as_large_as_a_cell() -> None:
    labels = classes_of(scene())
    labels[0, 0, :4] = NO_CLASS
    ids = torch.where(labels == NO_CLASS, VOID, scene())
    found = matching.targets_of(labels, 8, (2, 4), ids)
    assert found.classes.tolist() == [[SKY, VEHICLE, VEHICLE]]
    assert found.counted[0, 0].tolist() == [0.75, 1, 1, 1]
    sky, one, other = found.shares[0]
    assert sky.tolist() == [[1, 1, 1, 1], [0, 0, pytest.approx(1 / 16), 0]]  # of the labelled pixels of a cell
    assert (one.tolist(), other.tolist()) == ([[0] * 4, [1, 0, 0, 0]], [[0] * 4, [0, 1, 0, 0]])


def test_each_segment_gets_the_query_that_shows_it() -> None:
    """Two queries of one class show a car each; the group and the small person are negatives of all masks."""
    targets = matching.targets_of(classes_of(scene()), 8, (2, 4), scene())
    order = [2, 0, 1]  # which target query 1, 3 and 4 shows
    masks = torch.full((1, 1, 6, 2, 4), -9.0)
    logits = torch.zeros(1, 1, 6, 9)
    for query, target in zip((1, 3, 4), order, strict=True):
        masks[0, 0, query] = 18 * targets.shares[0, target] - 9
        logits[0, 0, query, targets.classes[0, target]] = 9
    found = matching.match(logits, masks, targets)
    assert dict(zip(found.rows.tolist(), found.targets.tolist(), strict=True)) == {1: 2, 3: 0, 4: 1}
    assert found.number == 3
    before = matching.loss(logits, masks, classes_of(scene()), segments=scene())
    masks[0, 0, 1, 1, 3] = 9  # a car that also claims the group
    after = matching.loss(logits, masks, classes_of(scene()), segments=scene())
    assert after.masks > before.masks + 0.5
    assert after.dice > before.dice
    assert after.classes == before.classes


def test_a_segment_of_every_class_is_the_loss_of_classes() -> None:
    """The general loss with one segment a class, and the classes' own: equal but for the order of summation."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 6, (3, 4, 6), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels = labels.roll((1, 3), (1, 2))
    labels[0, :9] = NO_CLASS
    ids = torch.where(labels < 0, VOID, labels * SPAN)
    logits, masks = outputs(3, 10, (8, 12))
    both = [matching.loss(logits, masks, labels, segments=given) for given in (None, ids)]
    torch.testing.assert_close(both[1], both[0])
    gradients = [torch.autograd.grad(sum(terms), (logits, masks)) for terms in both]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_loss_of_classes_is_the_same_bits_as_before() -> None:
    for seed, size in enumerate([(32, 64), (36, 50), (33, 41)]):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 8, (2, *size), generator=generator)
        logits, masks = outputs(2, 12, (-(-size[0] // 4), -(-size[1] // 4)))
        old = frozen.matching(logits, masks, labels)
        new = matching.losses(matching.Outputs(logits, masks), labels, None, False)
        assert {name: term.item() for name, term in new.items()} == {name: term.item() for name, term in old.items()}
        gradients = [torch.autograd.grad(sum(terms.values()), (logits, masks)) for terms in (new, old)]  # type: ignore[arg-type]
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*gradients, strict=True))


def test_an_image_without_any_segment_teaches_no_object() -> None:
    ids = torch.cat([torch.full((1, 8, 16), VOID), scene()])
    for given in (ids, ids[:1]):
        logits, masks = outputs(len(given), 5, (2, 4))
        terms = matching.loss(logits, masks, classes_of(given), segments=given)
        gradients = torch.autograd.grad(sum(terms), (logits, masks))
        assert all(bool(g.isfinite().all()) for g in (*terms, *gradients))
        assert not gradients[1][:, 0].any()
        assert gradients[0][:, 0].any()


def test_fewer_queries_than_segments_match_as_many_as_there_are() -> None:
    logits, masks = outputs(1, 2, (2, 4))
    found = matching.match(logits, masks, matching.targets_of(classes_of(scene()), 8, (2, 4), scene()))
    assert (len(found.rows), found.number) == (2 * 2, 3)
    assert bool(torch.stack(matching.loss(logits, masks, classes_of(scene()), segments=scene())).isfinite().all())


def test_what_is_taught_of_a_scene() -> None:
    """Stuff and void as in semantic training, things by instance: no group, and no caravan, which scores ignore."""
    raw = torch.tensor([[[0, 10, 23, CAR, CAR, CARAVAN, PERSON]]], dtype=torch.uint8)
    plane = torch.tensor([[[0, 0, 0, 3, 0, 1, 1]]], dtype=torch.uint8)
    classes = torch.tensor(DEFAULT.class_of_raw)[raw.int()]
    found = segments.taught(segments.truth(raw, plane, DEFAULT), classes, DEFAULT)
    car, person = VEHICLE * SPAN + CAR * 256 + 3, HUMAN * SPAN + PERSON * 256 + 1
    assert found.tolist() == [[[0, SPAN, SKY * SPAN, car, VOID, VOID, person]]]
    fine = shipped("cityscapes-19")
    classes = torch.tensor([NO_CLASS if index == 255 else index for index in fine.class_of_raw])[raw.int()]
    found = segments.taught(segments.truth(raw, plane, fine), classes, fine)
    names = [fine.names[index] if index >= 0 else None for index in (found.flatten() // SPAN).tolist()]
    assert names == [None, None, "sky", "car", None, None, "person"]


@pytest.mark.parametrize("name", ["mask2former", "eomt"])
def test_a_network_with_queries_learns_segments(name: str) -> None:
    model = made(name, queries=7)
    assert (model.learns_segments, model.query_count) == (True, 7)
    assert not made(name, segments=False).learns_segments
    ids = scene().repeat_interleave(8, 1).repeat_interleave(8, 2)
    images, labels = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0)), classes_of(ids)
    optimizer = torch.optim.AdamW(model.train().parameters(), 1e-3)
    course = []
    for _ in range(5):
        loss = torch.stack(list(model.segment_losses(model(images), labels, ids).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
        optimizer.step()
        course.append(loss.item())
    assert course[-1] < course[0]


def test_queries_are_a_number() -> None:
    with pytest.raises(UserError, match="queries must be at least 1, not 0"):
        made("mask2former", queries=0)


def test_weights_with_fewer_queries_than_wanted_are_refused(tmp_path: Path) -> None:
    torch.save(made("mask2former", queries=5).state_dict(), tmp_path / "five.pth")
    with pytest.raises(UserError, match="the weights have 5 queries, fewer than the 6 wanted: lower queries under"):
        made("mask2former", str(tmp_path / "five.pth"), queries=6)
    assert made("mask2former", str(tmp_path / "five.pth"), queries=4).query_count == 4


def made(name: str, weights: str = "random", **options: Any) -> Segmenter:
    return architectures.create(name, 8, weights, {"size": "tiny", **options}, 0)[0]
