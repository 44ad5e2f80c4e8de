"""Measures on planted networks: what is known about a network must come out of them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segbench import stats
from segbench.core import explained as shared
from segbench.core.labels import DEFAULT
from segbench.engine.inference import resize
from segbench.explain import context, fills, local, regions, removal
from segbench.explain.gradcam import Cam, grad_cam
from segbench.explain.measures import spread
from segbench.report.numbers import context as contexts
from segbench.report.numbers import explained
from segbench.report.numbers.claims import FAILS, FEW, HOLDS, MISSING, UNDECIDED, UNMEASURED
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.explained import Measured
from segbench.report.sections import explained as sections
from tests import planted
from tests.planted import CLASSES, SIZE

IMAGES = 24


def measured(measure: str, values: list[Any], name: str = "a") -> Measured:
    model: Any = SimpleNamespace(card=SimpleNamespace(size=SIZE))
    scenes = {f"s{index:02}": {measure: value} for index, value in enumerate(values)}
    return Measured(Candidate(name, name, 0, None, (model,), DEFAULT, {}), (scenes,))


def kept(network: planted.Planted, scenes: list[Any]) -> list[Any]:
    return [context.kept(planted.probe(network), scene) for scene in scenes]


def verdicts(found: contexts.Contexts) -> list[str]:
    images = len(found.names)
    return [contexts.verdict(list(found.gains(row).values()), images) for row in found.rows]


def test_a_network_that_sees_only_a_pixel_uses_no_context() -> None:
    values = kept(planted.Pixel(), [planted.patches(index, noise=0.5) for index in range(IMAGES)])
    found = contexts.contexts([measured("context", values)])
    assert verdicts(found) == ["none"]
    accuracies = {each.estimate for fill in shared.FILLS for each in found.rows[0].accuracy(fill)}
    assert len(accuracies) == 1  # whatever is around
    assert 0 < accuracies.pop() < 1


def test_a_network_that_sees_all_uses_context() -> None:
    scenes = [planted.textures(index) for index in range(IMAGES)]
    far, near = kept(planted.Texture(), scenes), kept(planted.Pixel(), scenes)
    sides = [measured("context", near, "deeplab"), measured("context", far, "mask2former")]
    found = contexts.contexts(sides)
    assert verdicts(found) == ["none", "uses"]
    assert found.rows[1].accuracy("other")[-1].estimate == 1.0
    differences = [each.interval for each in found.differences(*found.rows).values()]
    assert contexts.more(differences, IMAGES) == "second"
    assert [(row.claim.key, row.verdict) for row in contexts.rows(sides)] == [("global", HOLDS), ("local", HOLDS)]
    swapped = [measured("context", far, "deeplab"), measured("context", near, "mask2former")]
    assert [row.verdict for row in contexts.rows(swapped)] == [FAILS, FAILS]
    assert [row.verdict for row in contexts.rows([sides[0]])] == [MISSING, MISSING]
    assert verdicts(contexts.contexts([measured("context", far[:3], "far")])) == ["few"]
    few = [measured("context", values[:3], name) for name, values in (("deeplab", near), ("mask2former", far))]
    assert [(row.verdict, len(row.values)) for row in contexts.rows(few)] == [(FEW, 2), (FEW, 2)]
    assert [row.verdict for row in contexts.rows([])] == [UNMEASURED, UNMEASURED]


def test_the_reach_of_a_mean_filter_is_found() -> None:
    scenes = []
    for index in range(IMAGES):
        image = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(index))
        truth = planted.Box()(image[None])[0].argmax(0)
        scenes.append(planted.scene(index, image, truth))
    found = contexts.contexts([measured("context", kept(planted.Box(), scenes))])
    assert verdicts(found) == ["uses"]
    for fill in shared.FILLS:
        for distance, accuracy in zip(found.distances, found.rows[0].accuracy(fill), strict=False):
            assert (accuracy.estimate == 1.0) == (distance >= planted.Box.RADIUS)


def test_two_fills_that_contradict_each_other_decide_nothing() -> None:
    up, down = stats.Interval(0.05, 0.02, 0.08), stats.Interval(-0.05, -0.08, -0.02)
    wide = stats.Interval(0.01, -0.02, 0.04)
    assert contexts.verdict([up, down], 50) == contexts.more([up, down], 50) == "disagree"
    assert contexts.verdict([up, wide], 50) == contexts.more([up, wide], 50) == "undecided"
    assert (contexts.verdict([up, up], 50), contexts.more([up, up], 50)) == ("uses", "first")
    both = [contradictory(name, sign) for name, sign in (("deeplab", 1), ("mask2former", -1))]
    assert [(row.verdict, row.contrary) for row in contexts.rows(both)] == [
        (UNDECIDED, (FAILS, HOLDS)),
        (UNDECIDED, (FAILS, HOLDS)),
    ]


def contradictory(name: str, sign: int) -> Measured:
    """Gains more than the one of the other sign if the rest comes from another image, and less if it is blurred."""
    far = {"counted": 100, "whole": 90, "other": [70 - 10 * sign] * 6, "blur": [70 + 10 * sign] * 6}
    return measured("context", [far] * IMAGES, name)


def test_shuffled_tiles_keep_every_pixel_with_its_label() -> None:
    scene = planted.patches(1, noise=0.5)
    counts = context.shuffled(planted.probe(planted.Pixel()), scene)
    assert counts == [context.intact(planted.probe(planted.Pixel()), scene)] * len(shared.TILES)
    tiles = measured("tiles", [counts] * 12)
    for name in tiles.first:
        tiles.first[name]["intact"] = counts[0]
    (row,) = explained.shuffled([tiles])
    assert [sampled.estimate for sampled in row.kept] == [1.0] * len(shared.TILES)
    far = context.shuffled(planted.probe(planted.Box()), scene)
    assert far != [context.intact(planted.probe(planted.Box()), scene)] * len(shared.TILES)


def test_removing_a_category_shows_what_it_does_for_another() -> None:
    values = [removal.removed(planted.probe(planted.Companion()), planted.patches(index)) for index in range(IMAGES)]
    (row,) = explained.removals([measured("removal", values)])
    expected = np.zeros((CLASSES, CLASSES))
    expected[1, 2] = -1.0  # without class 1 no pixel of class 2 is recognised
    for change in row.change.values():
        assert np.array_equal(change[~np.eye(CLASSES, dtype=bool)], expected[~np.eye(CLASSES, dtype=bool)])
    assert [tuple(pair) for pair in np.argwhere(row.certain)] == [(1, 2)]


def test_a_category_that_no_image_has_leaves_an_empty_row() -> None:
    values = [removal.removed(planted.probe(planted.Pixel(5), 5), planted.patches(index)) for index in range(12)]
    (row,) = explained.removals([measured("removal", values)])
    assert np.isnan(row.change["inpainted"][3:]).all()
    assert np.isnan(row.change["inpainted"][:, 3:]).all()
    assert not row.certain[3:].any()


def test_coalitions_sum_to_the_difference_they_explain() -> None:
    found = removal.coalitions(planted.probe(planted.Companion()), planted.patches(0))
    shapley = np.array(found["shapley"])
    assert np.allclose(shapley.sum(0), np.array(found["all"]) - np.array(found["none"]), atol=1e-4)
    area = 8 * 14
    assert found["all"][2] == area
    assert shapley[1, 2] == shapley[2, 2] == area / 2  # neither is seen without the other: each gets half


@given(arrays(np.float64, st.integers(0, 5).map(lambda n: (1 << n, 2)), elements=st.integers(-100, 100).map(float)))
def test_shapley_values_are_efficient(worth: np.ndarray) -> None:
    assert np.allclose(stats.shapley(worth).sum(0), worth[-1] - worth[0], atol=1e-9)


def test_shapley_values_by_hand() -> None:
    # The glove game: a right glove (player 2) is worth 1 with either left one (players 0 and 1).
    worth = np.array([0, 0, 0, 0, 0, 1, 1, 1], np.float64)
    assert stats.shapley(worth) == pytest.approx([1 / 6, 1 / 6, 4 / 6])
    assert stats.shapley(np.array([0.0, 5.0, 0.0, 5.0])).tolist() == [5.0, 0.0]  # a player that adds nothing gets 0
    with pytest.raises(ValueError, match="power of two"):
        stats.shapley(np.zeros(3))


def test_an_occlusion_map_finds_what_a_prediction_leans_on() -> None:
    scene = planted.patches(0)
    image = scene.image.clone()
    image[0, :4, :4] = 3.0
    scene = planted.scene(0, image, scene.truth, scene.others)
    found = local.maps(planted.probe(planted.Corner()), scene, planted.Corner())
    assert found["shape"] == (8, 16)
    assert int(np.argmax(found["occlusion"])) == 0
    assert np.count_nonzero(found["occlusion"]) == 1  # nothing else matters
    assert all(lost > 0 for lost in found["deletion"]["occlusion"].values())
    assert found["why"] == "layer"
    assert found["cam"] is None


def test_grad_cam_of_a_linear_network_is_its_weights_times_its_features() -> None:
    network, scene = planted.Linear(), planted.patches(0, noise=0.3)
    asked = regions.region(scene)
    cam = grad_cam(network, scene.image, asked)
    assert isinstance(cam, Cam)
    assert cam.layer == "features"
    with torch.no_grad():
        features = network.features(scene.image[None])
        weights = network.head.weight[asked.category].view(1, -1, 1, 1) / features[0, 0].numel()
        expected = resize((weights * features).sum(1, keepdim=True), SIZE)[0, 0]
    assert torch.allclose(cam.signed, expected, atol=1e-6)
    assert torch.equal(cam.map, cam.signed.relu())


def test_a_map_of_equal_networks_is_equal_and_a_network_without_gradients_has_none() -> None:
    network, scene = planted.Linear(), planted.patches(0, noise=0.3)
    assert local.maps(planted.probe(network), scene, network)["random"] == pytest.approx(1.0)
    found = local.maps(planted.probe(planted.Cut()), scene, planted.Cut())
    assert (found["cam"], found["why"], list(found["deletion"])) == (None, "gradients", ["occlusion"])


def test_a_scene_without_a_region_says_so() -> None:
    one = planted.scene(0, torch.zeros(3, *SIZE), torch.zeros(SIZE, dtype=torch.int64))
    assert local.maps(planted.probe(planted.Pixel()), one, planted.Pixel()) == {"why": "region"}


def test_inpainting_keeps_what_is_known_and_continues_it() -> None:
    image, hole = torch.full((3, *SIZE), 0.7), torch.zeros(SIZE, dtype=torch.bool)
    hole[5:20, 9:33] = True
    assert torch.allclose(fills.inpainted(image, hole), image, atol=1e-5)
    noisy = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    made = fills.inpainted(noisy, hole)
    assert torch.equal(made[:, ~hole], noisy[:, ~hole])
    assert made.isfinite().all()
    assert made[:, hole].abs().max() <= noisy.abs().max()
    assert torch.equal(fills.inpainted(noisy, torch.ones_like(hole)), torch.zeros_like(noisy))


def test_blur_takes_shapes_away_and_keeps_the_colour() -> None:
    flat = torch.full((3, *SIZE), 0.7)
    assert torch.allclose(fills.blurred(flat), flat, atol=1e-5)
    noisy = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    assert fills.blurred(noisy).std() < 0.2 * noisy.std()


def test_scenes_are_spread_evenly() -> None:
    names = [str(number) for number in range(10)]
    assert spread(names, 2) == ["2", "7"]
    assert spread(names, 50) == names
    assert spread(names, 1) == ["5"]


def test_numbers_of_nothing_are_none() -> None:
    assert contexts.contexts([]) is None
    assert explained.removals([measured("context", [])]) == []
    assert math.isnan(stats.per_image.ratio([0, 0], [0, 0]).interval().estimate)


def test_query_masks_of_a_panoptic_model_name_their_objects() -> None:
    vehicle, sky = DEFAULT.names.index("vehicle"), DEFAULT.names.index("sky")
    queries = [{"category": kind} for kind in (vehicle, sky, vehicle)]
    card: Any = SimpleNamespace(labels=DEFAULT, categories=DEFAULT.names, task="panoptic")
    assert sections._query_names(queries, card) == ["vehicle 1", "sky", "vehicle 2"]
    card.task = "semantic"
    assert sections._query_names(queries, card) == ["vehicle", "sky", "vehicle"]
