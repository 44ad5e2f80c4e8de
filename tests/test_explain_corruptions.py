"""Corruptions: seeded, on their scale, and told in the report as what is kept of mIoU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segbench.core import explained as shared
from segbench.data.batches import normalise
from segbench.explain import corruptions
from segbench.explain.probe import Scene
from segbench.report.numbers import claims, robustness
from segbench.report.numbers.explained import Measured
from tests import planted
from tests.test_explain import measured

HEIGHT, WIDTH = 48, 96


@pytest.fixture
def street() -> Scene:
    """A smooth picture with a sharp edge, mid-grey on average."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    grey = 60 + 100 * (columns > WIDTH // 2) + 30 * rows / HEIGHT
    pixels = torch.from_numpy(np.repeat(grey[..., None], 3, 2).astype(np.uint8))
    image = normalise(pixels[None], planted.Pixel().normalisation)[0]
    truth = torch.from_numpy((columns > WIDTH // 2).astype(np.int64))
    return Scene("a/street", pixels, image, truth, truth >= 0, (image, image))


@pytest.mark.parametrize("name", shared.CORRUPTIONS)
def test_a_corruption_is_a_photograph_that_depends_on_the_scene_alone(name: str, street: Scene) -> None:
    made = [corruptions.corrupt(street, name, severity) for severity in shared.SEVERITIES]
    assert all(each.dtype == torch.uint8 and each.shape == street.pixels.shape for each in made)
    again = corruptions.corrupt(street, name, shared.SEVERITIES[0])
    assert torch.equal(made[0], again)
    if name != "fog":  # whose brightness varies; its contrast is below
        errors = [float((each.float() - street.pixels.float()).square().mean()) for each in made]
        assert 0 < errors[0] < errors[1] < errors[2]


def test_noise_has_the_published_deviation(street: Scene) -> None:
    grey = torch.full((256, 256, 3), 128, dtype=torch.uint8)
    wide = Scene("a/grey", grey, grey.permute(2, 0, 1).float(), grey[..., 0].long(), grey[..., 0] > 0, ())
    noisy = corruptions.corrupt(wide, "noise", 1).float() / 255
    assert float(noisy.std()) == pytest.approx(0.08, rel=0.02)
    other = Scene("a/other", *(wide.pixels, wide.image, wide.truth, wide.labelled, ()))
    assert not torch.equal(corruptions.corrupt(other, "noise", 1), corruptions.corrupt(wide, "noise", 1))


def test_each_does_what_its_name_says(street: Scene) -> None:
    clear = street.pixels.float()
    night = corruptions.corrupt(street, "night", 3).float()
    steps = [edge(corruptions.corrupt(street, "fog", severity)) for severity in shared.SEVERITIES]
    assert edge(street.pixels) > steps[0] > steps[1] > steps[2] > 0  # less and less contrast
    assert night.mean() < 0.4 * clear.mean()
    moved = corruptions.corrupt(street, "motion", 5).float()
    assert moved.diff(dim=1).abs().max() < 0.5 * clear.diff(dim=1).abs().max()  # the edge is smeared
    assert moved.mean() == pytest.approx(float(clear.mean()), rel=0.1)


def edge(pixels: torch.Tensor) -> float:
    """The height of the street's edge."""
    return float((pixels[:, WIDTH // 2 + 1].float() - pixels[:, WIDTH // 2].float()).mean())


def test_what_is_kept_is_a_ratio_of_scores() -> None:
    right, half = [[8, 0], [0, 8]], [[4, 4], [4, 4]]
    values = [{name: [right, half, half] for name in shared.CORRUPTIONS}] * 12
    found = measured("corruptions", values)
    for name in found.first:
        found.first[name]["intact"] = right
    (row,) = robustness.robustness([found])
    assert [interval.estimate for interval in row.kept["fog"]] == pytest.approx([1, 1 / 3, 1 / 3])
    assert row.interval().estimate == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert robustness.robustness([measured("context", [{}])]) == []


def keeping(name: str, *wrong_of_seeds: int) -> Measured:
    """Each seed takes so many of the 8 pixels of either class for the other one, give or take one, if corrupted."""
    seeds = []
    for wrong in wrong_of_seeds:
        values = []
        for index in range(12):
            miss = wrong + index % 2
            counts = [[8 - miss, miss], [miss, 8 - miss]]
            values.append({name: [counts] * len(shared.SEVERITIES) for name in shared.CORRUPTIONS})
        found = measured("corruptions", values, name)
        for scene in found.first.values():
            scene["intact"] = [[8, 0], [0, 8]]
        seeds.append(found.first)
    return Measured(found.candidate, tuple(seeds))


def test_the_claim_about_robustness_is_judged() -> None:
    def verdict(*sides: Measured) -> str:
        return robustness.row(robustness.robustness(sides)).verdict

    assert verdict(keeping("deeplab", 3), keeping("mask2former", 0)) == claims.HOLDS
    assert verdict(keeping("deeplab", 0), keeping("mask2former", 3)) == claims.FAILS
    assert verdict(keeping("deeplab", 1), keeping("mask2former", 1)) == claims.UNDECIDED
    assert verdict(keeping("deeplab", 1), keeping("alpha", 1)) == claims.MISSING
    assert verdict(measured("context", [{}], "deeplab")) == claims.UNMEASURED


def test_seeds_that_differ_leave_the_claim_undecided() -> None:
    """The images of either seed agree; another seed might not."""
    sides = [keeping("deeplab", 1, 5), keeping("mask2former", 0, 4)]
    row = robustness.row(robustness.robustness(sides))
    assert row.difference is not None
    assert (row.difference.over, row.verdict) == ("seeds", claims.UNDECIDED)
    assert row.values["deeplab"].estimate == pytest.approx(
        np.mean(
            [robustness.row(robustness.robustness([keeping("deeplab", k)])).values["deeplab"].estimate for k in (1, 5)]
        )
    )


def test_the_confusions_count_every_labelled_pixel(street: Scene) -> None:
    counts = corruptions.corrupted(planted.probe(planted.Pixel()), street)
    assert set(counts) == set(shared.CORRUPTIONS)
    assert {int(np.sum(each)) for severities in counts.values() for each in severities} == {HEIGHT * WIDTH}
