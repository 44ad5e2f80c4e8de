"""The section that explains the scores: each claim's verdict for planted models, and what is said where nothing is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segbench.core import paths
from segbench.ledger import measured as stored
from segbench.report import assemble
from segbench.report.numbers import claims, comparison, evidence, measures, tables, tuning
from segbench.report.numbers.measures import Measured, Side
from segbench.report.page import render
from segbench.report.sections import claims as section
from segbench.report.sections import sentences
from segbench.report.text import i18n
from segbench.stats import Interval, Sampled, behaviour, grid_ceiling
from segbench.stats.texture import appearance
from tests.fabricated import read
from tests.test_stats_behaviour import smoothed, street, without_small

pytest_plugins = ["tests.fabricated"]

Map = NDArray[np.uint8]
SCENES = [street(seed) for seed in range(12)]
CLASSES = 4


def coloured(scene: Map) -> NDArray[np.uint8]:
    """Classes 1 and 3 look alike, 2 does not."""
    return np.array([[0, 0, 0], [90, 140, 90], [200, 60, 60], [95, 140, 95]], np.uint8)[scene]


def alike_confused(scene: Map) -> Map:
    """Wide stripes of class 1 are taken for class 3, which looks alike."""
    return np.where((scene == 1) & (np.arange(scene.shape[1]) // 12 % 2 == 0), 3, scene).astype(np.uint8)


def unlike_confused(scene: Map) -> Map:
    return np.where((scene == 1) & (np.arange(scene.shape[1]) // 12 % 2 == 0), 2, scene).astype(np.uint8)


def speckled(scene: Map) -> Map:
    """Invents a small region of class 3 in every 16×16 pixels."""
    made = scene.copy()
    for top, left in np.ndindex(6, 6):
        made[16 * top + 6 : 16 * top + 10, 16 * left + 6 : 16 * left + 10] = 3
    return made


def side(compared: comparison.Comparison, name: str, model: Callable[[Map], Map], stride: int = 1) -> Side:
    images = [behaviour.behaviour(scene, model(scene), CLASSES, 0) for scene in SCENES]
    grid = (96 // stride, 96 // stride)
    ceiling = [behaviour.behaviour(scene, grid_ceiling(scene, grid, CLASSES), CLASSES, 0) for scene in SCENES]
    looks = np.stack([appearance(coloured(scene), scene, CLASSES) for scene in SCENES])
    names = tuple(f"scene{i}" for i in range(len(SCENES)))
    errors = stored.Errors(names, behaviour.stacked(images), behaviour.stacked(ceiling), grid, looks)
    candidate = replace(compared.candidates[name == "mask2former"], name=name, title=name)
    return Side(candidate, (errors,), ())


def rows(*sides: Side) -> dict[str, claims.Row]:
    names = sides[0].errors[0].names
    return {row.claim.key: row for row in claims.rows(Measured(sides, names, names, ()))}


def perfect(scene: Map) -> Map:
    return scene


def test_lost_small_regions_are_seen(compared: comparison.Comparison) -> None:
    blind = side(compared, "mask2former", lambda scene: without_small(scene, 20))
    found = rows(side(compared, "deeplab", perfect), blind)
    assert found["tiny"].verdict == claims.HOLDS
    assert found["details_kept"].verdict == claims.HOLDS
    assert found["details_lost"].verdict == claims.FAILS
    assert found["tiny"].values["mask2former"].estimate == 0
    turned = rows(
        side(compared, "deeplab", lambda scene: without_small(scene, 20)), side(compared, "mask2former", perfect)
    )
    assert turned["tiny"].verdict == claims.FAILS
    assert turned["details_lost"].verdict == claims.HOLDS
    assert turned["details_kept"].verdict == claims.FAILS


def test_smooth_outlines_are_seen(compared: comparison.Comparison) -> None:
    smooth = side(compared, "mask2former", lambda scene: smoothed(scene, 7))
    found = rows(side(compared, "deeplab", perfect), smooth)
    assert found["smooth"].verdict == found["details_smoothed"].verdict == claims.HOLDS
    assert found["borders"].verdict == claims.FAILS
    turned = rows(side(compared, "deeplab", lambda scene: smoothed(scene, 7)), side(compared, "mask2former", perfect))
    assert turned["smooth"].verdict == turned["details_smoothed"].verdict == claims.FAILS
    assert turned["borders"].verdict == claims.HOLDS


def test_confusion_of_alike_categories_is_seen(compared: comparison.Comparison) -> None:
    found = rows(side(compared, "deeplab", alike_confused), side(compared, "mask2former", unlike_confused))
    assert found["textures"].verdict == claims.HOLDS
    turned = rows(side(compared, "deeplab", unlike_confused), side(compared, "mask2former", alike_confused))
    assert turned["textures"].verdict == claims.FAILS


def test_invented_regions_are_seen(compared: comparison.Comparison) -> None:
    found = rows(side(compared, "deeplab", speckled), side(compared, "mask2former", perfect))
    assert found["coherence"].verdict == found["regular"].verdict == claims.HOLDS
    turned = rows(side(compared, "deeplab", perfect), side(compared, "mask2former", speckled))
    assert turned["coherence"].verdict == turned["regular"].verdict == claims.FAILS


def test_equal_models_leave_all_undecided(compared: comparison.Comparison) -> None:
    same = [side(compared, name, lambda scene: smoothed(scene, 5)) for name in ("deeplab", "mask2former")]
    assert {row.verdict for row in rows(*same).values()} == {claims.UNDECIDED}


def test_what_a_coarse_grid_explains_is_no_virtue_of_the_network(compared: comparison.Comparison) -> None:
    """Both draw the best map their grid allows: only the grid differs."""
    coarse, fine = (
        side(compared, name, lambda scene, s=stride: grid_ceiling(scene, (96 // s, 96 // s), CLASSES), stride)
        for name, stride in (("deeplab", 8), ("mask2former", 2))
    )
    found = rows(coarse, fine)
    for key in ("details_lost", "details_kept", "borders"):
        lost = found[key]
        assert lost.difference is not None
        assert lost.difference.interval.excludes_zero  # the coarse one does lose more
        assert lost.shares is not None
        assert lost.shares.interval == Interval(0, 0, 0)
        assert lost.verdict == claims.UNDECIDED
    assert found["borders"].contrary == (claims.HOLDS, claims.UNDECIDED)
    assert found["details_kept"].contrary == (claims.FAILS, claims.UNDECIDED)


def test_other_architectures_have_values_but_no_verdict(compared: comparison.Comparison) -> None:
    found = rows(side(compared, "deeplab", perfect), side(compared, "segformer", perfect))
    assert {row.verdict for row in found.values()} == {claims.MISSING}
    assert found["tiny"].values["segformer"].estimate == 1


def test_the_widest_interval_decides_and_is_named() -> None:
    """Cities that differ: images alone would decide what whole cities leave open."""
    names = [f"city{i % 10}/city{i % 10}_{i:06}_000019" for i in range(100)]
    gains = np.random.default_rng(3).standard_normal(10)[np.arange(100) % 10] + 0.45
    times = evidence.draws(names)
    assert list(times) == ["images", "cities"]

    def sampled(drawn: NDArray[np.int64]) -> Sampled:
        return Sampled(float(gains.mean()), drawn @ gains / 100)

    found = evidence.widest(times, sampled)
    assert found.over == "cities"
    assert not found.interval.excludes_zero
    assert sampled(times["images"]).interval().excludes_zero
    seeds = evidence.widest(times, sampled, ([1.0, 9.0], [0.0, 8.0]))
    assert seeds.over == "seeds"


def test_files_of_other_images_or_versions_are_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [s.candidate.name for s in measures.read(read(here)).sides] == ["alpha", "beta"]
    path = paths.model_folder("fab-beta", 0) / "errors.npz"
    known = stored.read_errors(path)
    assert known is not None
    stored.write_errors(path, known._replace(names=("another", *known.names[1:])))
    found = measures.read(read(here))
    assert [s.candidate.name for s in found.sides] == ["alpha"]
    assert [candidate.name for candidate in found.missing] == ["beta"]
    monkeypatch.setattr(stored, "VERSION", 99)
    assert measures.read(read(here)).sides == ()
    path.write_bytes(b"damaged")
    assert stored.read_errors(path) is None


def test_section_is_told_in_both_languages(here: Path) -> None:
    for language, lead in (("en", "12 not tested"), ("fr", "12 sans mesure")):
        with i18n.speaking(language):
            html = render.render(assemble.page(read(here)), "fab")
        assert lead in html
        assert html.count('<details class="fold">') >= 4
    assert "Temperature" not in html
    shutil.rmtree(here / "storage/models/fab-alpha/seed0/masks")
    (here / "storage/models/fab-beta/seed0/reliability.npz").unlink()
    html = render.render(assemble.page(read(here)), "fab")
    assert "Not measured, or on other images: Beta" in html
    assert "python -m segbench.promote" in html


def test_table_says_verdict_and_which_interval(compared: comparison.Comparison) -> None:
    blind = side(compared, "mask2former", lambda scene: without_small(scene, 20))
    both = (side(compared, "deeplab", perfect), blind)
    found = list(rows(*both).values())
    table = section.table(found, [s.candidate for s in both])
    tiny = next(row for row in table.rows if "very small" in row[0].text)
    assert tiny[1].text == "holds"
    assert tiny[3].text == "0.0"
    assert "ceiling 100.0" in tiny[3].note
    assert tiny[-1].text == "−100.0"
    grids = section.grids(found, [s.candidate for s in both])
    assert grids is not None
    assert len(grids.rows) == sum(row.claim.by_grid for row in found)
    assert "two trained networks" in section.explained(found, 1)
    assert section.lead(found).startswith("Of 9 claims")


def test_seeds_that_differ_leave_open_what_these_trainings_decide(compared: comparison.Comparison) -> None:
    """One of two seeds loses small regions: for these two trainings it is decided, for others it is not."""
    blind = [side(compared, "mask2former", lambda scene, n=n: without_small(scene, n)) for n in (1, 20)]
    both = replace(blind[0], errors=tuple(each.errors[0] for each in blind))
    sharp = side(compared, "deeplab", perfect)
    found = rows(replace(sharp, errors=sharp.errors * 2), both)["tiny"]
    assert (found.verdict, found.here) == (claims.UNDECIDED, claims.HOLDS)
    assert found.difference is not None
    assert found.difference.over == "seeds"
    table = section.table([found], [sharp.candidate, both.candidate])
    assert table.rows[0][1].note == "for these trainings alone: holds; other seeds may differ"


def test_verdict_names_the_widest_interval_and_the_seeds_that_would_decide(compared: comparison.Comparison) -> None:
    summaries = tables.summaries(compared)
    (pair,) = tables.pairs(summaries)
    assert pair.over == "images"
    open_ = replace(pair, value=Interval(0.02, -0.01, 0.05), over="cities")
    assert "whole cities were drawn" in sentences.verdict(summaries, [open_])[1]
    twice = [replace(row, seeds=(0, 1)) for row in summaries]
    of_two = replace(open_, first=twice[1], second=twice[0], over="seeds", seeds_needed=7)
    said = sentences.verdict(twice, [of_two])[1]
    assert "other seeds" in said
    assert "About 7 seeds of each would decide" in said
    assert "More seeds would not decide" in sentences.verdict(twice, [replace(of_two, seeds_needed=None)])[1]


def test_search_says_what_another_draw_would_find(compared: comparison.Comparison) -> None:
    tuned = tuning.tunings(compared)
    assert tuned[0].again.estimate == tuned[0].best
    assert tuning.finds_more(tuned[0], tuned[0]) == 0.5
    assert tuning.finds_more(tuned[0], tuned[1]) + tuning.finds_more(tuned[1], tuned[0]) == pytest.approx(1)
