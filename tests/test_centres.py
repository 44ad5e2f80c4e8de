"""Objects by their centres: the targets, the loss, and whole batches of planted centres turned into segments."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.architectures.panoptic_deeplab import Outputs, PanopticDeepLab
from segbench.architectures.parts import centres
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import SPAN, VOID

FLAT, SKY, HUMAN, VEHICLE = 1, 5, 6, 7
H, W = 64, 128


def scenes() -> Tensor:
    """(3, H, W) segments: two cars that touch and a person; one car; nothing but sky and void."""
    ids = torch.full((3, H, W), SKY * SPAN)
    ids[0, 20:40, 10:40] = VEHICLE * SPAN + 5
    ids[0, 20:40, 40:70] = VEHICLE * SPAN + 9
    ids[0, 10:50, 100:108] = HUMAN * SPAN + 2
    ids[1, 40:60, 60:90] = VEHICLE * SPAN + 5
    ids[2, :32] = VOID
    return ids


def made(**options: bool) -> PanopticDeepLab:
    model, _ = architectures.create("panoptic_deeplab", 8, "random", {"size": "tiny", **options}, 0)
    assert isinstance(model, PanopticDeepLab)
    return model


def perfect(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heat, offsets and classes of a network that makes no mistake."""
    wanted = centres.targets(ids)
    return wanted.heat, wanted.offsets, torch.where(ids < 0, 0, ids // SPAN)


def partition(ids: Tensor) -> list[list[int]]:
    """For each image the pixel counts and classes of its segments, in order of their first pixels."""
    found = []
    for image in ids:
        firsts = {int(one): int((image.flatten() == one).nonzero()[0]) for one in image.unique()}
        found.append([[k // SPAN, int((image == k).sum())] for k in sorted(firsts, key=lambda k: firsts[k])])
    return found


def test_targets_are_centres_and_ways_to_them() -> None:
    wanted = centres.targets(scenes())
    assert wanted.heat.shape == (3, H, W)
    assert wanted.offsets[0, :, 20, 10].tolist() == [9.5, 14.5]
    assert wanted.offsets[0, :, 39, 69].tolist() == [-9.5, -14.5]
    assert not wanted.offsets.movedim(1, -1)[scenes() % SPAN == 0].any()
    assert torch.equal(wanted.inside, (scenes() >= 0) & (scenes() % SPAN > 0))
    sigmas = 8 * H / 1025, 8 * W / 2049
    expected = math.exp(-0.5 * ((2.5 / sigmas[0]) ** 2 + (0.5 / sigmas[1]) ** 2))
    assert wanted.heat[0, 27, 25].item() == pytest.approx(expected, rel=1e-4)  # of (29.5, 24.5)
    assert not wanted.heat[2].any()


def test_planted_centres_give_their_segments_in_whole_batches() -> None:
    ids = scenes()
    found = centres.segments(*perfect(ids), DEFAULT)
    assert partition(found) == partition(ids)
    for image in range(3):  # an image's segments do not depend on its batch
        one = slice(image, image + 1)
        assert torch.equal(centres.segments(*(part[one] for part in perfect(ids)), DEFAULT), found[one])


def test_an_object_is_of_the_class_that_most_of_its_pixels_have() -> None:
    heat, offsets, classes = perfect(scenes())
    classes[0, 20:26, 10:40] = HUMAN  # a third of a car
    found = centres.segments(heat, offsets, classes, DEFAULT)
    assert partition(found) == partition(scenes())


def test_void_stays_void_and_little_stuff_and_things_without_a_centre_become_so() -> None:
    heat, offsets, classes = perfect(scenes())
    classes[1, :2, :3] = FLAT  # 6 pixels of 8192; the smallest area is 8
    classes[2, 40:44, 40:44] = HUMAN
    found = centres.segments(heat, offsets, classes, DEFAULT)
    assert bool((found[1, :2, :3] == VOID).all())
    assert bool((found[2, 40:44, 40:44] == VOID).all())
    assert bool((found[2, :32] == VOID).all())
    classes[1, :2, :4] = FLAT
    assert bool((centres.segments(heat, offsets, classes, DEFAULT)[1, :2, :4] == FLAT * SPAN).all())


def test_of_equal_neighbours_one_is_a_centre_and_no_more_than_200_are() -> None:
    heat, classes = torch.zeros(1, H, W), torch.full((1, H, W), VEHICLE)
    heat[0, 20:22, 30:33] = 0.5
    heat[0, 50, 100] = 0.09  # below the threshold
    found = centres.segments(heat, torch.zeros(1, 2, H, W), classes, DEFAULT)
    assert found.unique().tolist() == [VEHICLE * SPAN + 1]
    many = torch.zeros(1, 128, 256)
    many[:, ::8, ::8] = torch.rand(16, 32, generator=torch.Generator().manual_seed(0)) / 2 + 0.4
    every = torch.full((1, 128, 256), VEHICLE)
    assert len(centres.segments(many, torch.zeros(1, 2, 128, 256), every, DEFAULT).unique()) == 200


def test_a_network_of_all_stuff_has_no_object() -> None:
    found = centres.segments(*(part[2:] for part in perfect(scenes())), DEFAULT)
    assert found.unique().tolist() == [VOID, SKY * SPAN]


def test_the_loss_is_zero_where_all_is_known_and_counts_what_it_says() -> None:
    """At a stride of 1 the outputs are the image's own pixels."""
    ids = scenes()
    heat, offsets, classes = perfect(ids)
    logits = 40 * torch.nn.functional.one_hot(classes, 8).movedim(-1, 1).float()
    model = made()
    right = model.segment_losses(Outputs(logits, None, heat[:, None], offsets), classes, ids)
    assert {name: term.item() for name, term in right.items()} == {"main": 0, "centres": 0, "offsets": 0}
    wrong = heat.clone()
    wrong[2, 0, 0] += 1  # void: neither counts …
    wrong[0, 0, 0] += 1  # … nor is it counted
    off = offsets + 2 * ((ids % SPAN == 0) | (ids < 0))[:, None]  # outside of objects offsets are free
    off[1, 0, 45, 65] += 3
    terms = model.segment_losses(Outputs(logits, None, wrong[:, None], off), classes, ids)
    assert terms["centres"].item() == pytest.approx(200 / int((ids >= 0).sum()))
    assert terms["offsets"].item() == pytest.approx(0.01 * 3 / int(((ids >= 0) & (ids % SPAN > 0)).sum()))


def test_it_learns_to_find_the_objects_of_one_batch() -> None:
    ids = scenes()[:2]
    _, _, classes = perfect(ids)
    images = torch.stack([(ids % 7).float() / 7, classes / 8, (ids % 3).float() / 3], 1)
    model = made().train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    course = []
    for _ in range(6):
        terms = model.segment_losses(model(images), classes, ids)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimizer.step()
        course.append({name: term.item() for name, term in terms.items()})
    assert course[-1]["centres"] < course[0]["centres"]


def test_without_the_second_decoder_it_is_deeplabv3plus() -> None:
    """Its own weights fit, and its objects are connected components."""
    model = made(segments=False)
    assert not model.learns_segments
    plus, _ = architectures.create("deeplabv3plus", 8, "random", {"size": "tiny"}, 1)
    model.load_state_dict(plus.state_dict())
    images = torch.randn(2, 3, H, W)
    with torch.inference_mode():
        outputs = model.eval()(images)
        assert torch.equal(model.scores(outputs), plus.eval().scores(plus(images)))
    ids = scenes()[:2]
    assert [len(one) for one in partition(model.segments(outputs, ids // SPAN, DEFAULT))] == [3, 2]  # the cars touch
