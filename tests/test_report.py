"""The report's numbers and sentences, on fabricated databases."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.core import metrics
from segbench.core.augment import Augment
from segbench.core.labels import DEFAULT
from segbench.core.records import Device, WeightsOrigin
from segbench.report.figures import scenes
from segbench.report.numbers import checks, comparison, pixels, searches, tables, tuning
from segbench.report.sections import sentences
from segbench.report.sections.summary import summary_table
from segbench.stats import Interval
from tests.fabricated import DEVICE, read

pytest_plugins = ["tests.fabricated"]


@pytest.fixture(scope="session")
def pair(compared: comparison.Comparison) -> tables.PairwiseComparison:
    """Its two candidates, compared."""
    (only,) = tables.pairs(tables.summaries(compared))
    return only


def verdict_of(compared: comparison.Comparison) -> tuple[str, str]:
    rows = tables.summaries(compared)
    return sentences.verdict(rows, tables.pairs(rows))


def caveats_of(compared: comparison.Comparison) -> str:
    rows = tables.summaries(compared)
    return " ".join(sentences.caveats(rows, tables.pairs(rows), checks.checks(compared)))


def changed(compared: comparison.Comparison, **fields: Any) -> comparison.Comparison:
    """The same with other words on the second candidate's card."""
    alpha, beta = compared.candidates
    model = replace(beta.models[0], card=replace(beta.models[0].card, **fields))
    return replace(compared, candidates=(alpha, replace(beta, models=(model,))))


def test_summary_is_of_the_confusions_and_cards(fabricated: Path, compared: comparison.Comparison) -> None:
    alpha, beta = tables.summaries(compared)
    total = np.load(fabricated / "storage/models/fab-alpha/seed0/confusions.npz")["confusions"].sum(0)
    assert alpha.miou.estimate == pytest.approx(metrics.scores(total, DEFAULT).miou)
    assert alpha.miou_official.estimate == pytest.approx(metrics.scores(total, DEFAULT).miou_official)
    assert alpha.miou.low < alpha.miou.estimate < alpha.miou.high
    assert beta.pixel_accuracy.estimate == pytest.approx(0.9, abs=0.03)
    assert alpha.seconds_per_epoch == pytest.approx(2.5)
    assert dict(zip(tables.PARTS, alpha.parts_of_epoch, strict=True))["rest"] == pytest.approx(0.3)
    assert alpha.training_memory_gb == pytest.approx(1.29)
    assert 1 / alpha.milliseconds_per_image[1] * 1000 == pytest.approx(190)


def test_duel_is_paired_and_signed(pair: tables.PairwiseComparison) -> None:
    assert (pair.first.candidate.name, pair.second.candidate.name, pair.images) == ("beta", "alpha", 8)
    assert pair.miou.estimate == pytest.approx(pair.first.miou.estimate - pair.second.miou.estimate)
    assert pair.miou.excludes_zero
    assert all(delta.low > 0 for delta in pair.iou)


def test_verdict_first_says_who_by_how_much_and_what_it_does_not_cover(compared: comparison.Comparison) -> None:
    said = verdict_of(compared)
    assert re.match(
        r"Beta segments better: mIoU 0\.\d{3} against 0\.\d{3} for Alpha .*, \d+\.\d points more\.", said[0]
    )
    assert "paired bootstrap over the 8 validation images" in said[1]
    assert "Beta leads in 100 % of the resamples" in said[1].replace("\u00a0", " ")
    assert "The best epoch was chosen on the final validation images themselves" in said[1]
    assert "does not cover seed noise" in caveats_of(compared)


def test_equal_models_are_called_equal(compared: comparison.Comparison) -> None:
    alpha, beta = compared.candidates
    said = verdict_of(replace(compared, candidates=(alpha, replace(beta, models=alpha.models))))
    assert "cannot be told apart" in said[0]
    assert "includes zero" in said[1]


def test_small_gap_of_one_seed_is_read_as_a_tie(pair: tables.PairwiseComparison) -> None:
    small = replace(pair, value=Interval(0.012, 0.008, 0.015))
    rows = [pair.first, pair.second]
    assert "too little to decide" in sentences.verdict(rows, [small])[0]
    assert "quality does not decide" in " ".join(sentences.conclusion(rows, [small]))


def test_official_miou_that_says_the_opposite_is_not_passed_over(pair: tables.PairwiseComparison) -> None:
    mixed = replace(pair, miou_official=Interval(-0.018, -0.026, -0.009))
    rows = [pair.first, pair.second]
    said = " ".join(sentences.caveats(rows, [mixed], []))
    assert "says the opposite: there Alpha </script><i>net</i> leads by 1.8 points (0.9 to 2.6)" in said
    assert "depends on which mIoU counts" in " ".join(sentences.conclusion(rows, [mixed]))


def test_several_seeds_are_averaged(compared: comparison.Comparison) -> None:
    alpha, beta = compared.candidates
    two = replace(
        compared,
        candidates=tuple(replace(candidate, models=alpha.models + beta.models) for candidate in compared.candidates),
    )
    rows = tables.summaries(two)
    assert rows[0].miou.estimate == pytest.approx(np.mean(rows[0].value_of_seed))
    assert rows[0].seconds == 25
    assert "means over 2 seeds" in caveats_of(two)
    seeds = summary_table(rows, tables.pairs(rows)).rows[1]
    assert seeds[0].text == "mIoU over 2 seeds, mean and spread"
    assert seeds[1].note == f"± {np.std(rows[0].value_of_seed, ddof=1):.3f}"


def test_classes_confusion_and_baseline(compared: comparison.Comparison) -> None:
    candidate = compared.candidates[0]
    rows = tables.classes(candidate)
    assert [row.category for row in rows] == list(DEFAULT.names)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert np.isnan(rows[0].iou_official)
    assert np.nansum(tables.confusion(candidate), axis=1) == pytest.approx(np.ones(8))
    assert tables.majority_accuracy(candidate) == pytest.approx(max(row.share for row in rows))


def test_fair_comparison_passes_its_checks(compared: comparison.Comparison) -> None:
    fairness = checks.checks(compared)
    assert len(fairness) == 19
    assert all(check.held for check in fairness)


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("device", {"device": Device("cpu", "", 4, 1, "fp32", False)}),
        ("precision", {"device": Device("cpu", "", 2, 1, "bf16", False)}),
        ("data", {"data_fingerprint": "another"}),
        ("epochs", {"epochs": 5}),
        ("seeds", {"seed": 1}),
        ("images", {"val_images": 7}),
        ("size", {"size": (64, 64)}),
        ("weights", {"weights": WeightsOrigin("pretrained", "COCO", "00")}),
        ("best", {"trial": 11}),
        ("versions", {"versions": {"torch": "1.0"}}),
    ],
)
def test_each_unfairness_is_found(
    compared: comparison.Comparison, pair: tables.PairwiseComparison, key: str, fields: dict[str, Any]
) -> None:
    fairness = checks.checks(changed(compared, **fields))
    assert [check.key for check in fairness if not check.held] == [key]
    assert "The conditions were not equal" in " ".join(sentences.caveats([pair.second, pair.first], [pair], fairness))


def test_a_search_on_several_devices_is_found(compared: comparison.Comparison) -> None:
    alpha, beta = compared.candidates
    first, *others = alpha.study.trials
    moved = replace(first, device=replace(DEVICE, precision="bf16"))
    study = replace(alpha.study, trials=(moved, *others))
    fairness = checks.checks(replace(compared, candidates=(replace(alpha, study=study), beta)))
    (check,) = (check for check in fairness if not check.held)
    assert check.key == "search_device"
    assert [said for _, said in check.recorded] == ["cpu (2 threads), bf16; cpu (2 threads), fp32", DEVICE.description]
    alone = checks.checks(replace(compared, candidates=(replace(alpha, study=study, models=()),)))
    assert [check.key for check in alone if not check.held] == ["search_device"]


@pytest.mark.parametrize(
    ("devices", "label"),
    [
        (("cpu", "cpu"), "Peak memory of the process, GB"),
        (("mps", "mps"), "Peak memory of the process, GB"),
        (("cuda", "cuda"), "Peak memory of the GPU, GB"),
        (("cuda", "cpu"), "Peak memory of the GPU, or of the process without one, GB"),
    ],
)
def test_memory_is_said_to_be_of_what_was_measured(
    compared: comparison.Comparison, devices: tuple[str, str], label: str
) -> None:
    candidates = []
    for candidate, kind in zip(compared.candidates, devices, strict=True):
        card = replace(candidate.models[0].card, device=replace(DEVICE, kind=kind, processes=2))
        candidates.append(replace(candidate, models=(replace(candidate.models[0], card=card),)))
    rows = tables.summaries(replace(compared, candidates=tuple(candidates)))
    assert label in [row[0].text for row in summary_table(rows, tables.pairs(rows)).rows]


def test_augmenting_one_architecture_alone_is_found(compared: comparison.Comparison) -> None:
    first, *others = compared.candidates
    augment = Augment(flip=0.5, scale=(0.5, 2.0), colour=0.4)
    study = replace(first.study, protocol=replace(first.study.protocol, augment=augment))
    fairness = checks.checks(replace(compared, candidates=(replace(first, study=study), *others)))
    (check,) = (check for check in fairness if not check.held)
    assert [said for _, said in check.recorded] == [
        "50\u00a0% mirrored, zoomed by 0.50 to 2.00, brightness, contrast and saturation changed by up to 40\u00a0%",
        "none",
    ]


def test_searches(compared: comparison.Comparison) -> None:
    candidate = compared.candidates[0]
    used = searches.budget(candidate.study)
    assert (used.asked, used.ended, used.complete, used.epochs) == (12, 12, 11, 3)
    steps = searches.history(candidate.study)
    assert [step.trial.index for step in steps] == list(range(12))
    assert steps[-1].best == max(t.value for t in candidate.study.trials if t.value is not None and not t.baseline)
    shown = searches.valued(candidate.study)
    lr, _, optimizer = searches.axes(candidate.study, shown)
    assert float(lr.high) == 0.5  # the baseline's, beyond the space
    assert all(0 <= place <= 1 for place in (*lr.positions, *optimizer.positions))
    importance = searches.importance(candidate)
    assert importance.trials == 11
    assert importance.shares[0][0] == "lr"  # the only one that decides the fabricated value
    assert sum(share for _, share in importance.shares) == pytest.approx(1)


def test_tuning_is_counted_from_the_trials(compared: comparison.Comparison) -> None:
    alpha, _ = tuned = tuning.tunings(compared)
    assert len(alpha.values) == 12
    assert np.isnan(alpha.values).sum() == 1  # the diverged trial found nothing
    assert alpha.by_trials[-1] == pytest.approx(alpha.best) == np.nanmax(alpha.values)
    assert alpha.by_trials[0] == pytest.approx(np.nansum(alpha.values) / 12)
    assert alpha.baseline == pytest.approx(0.3 + 0.1 * (np.log10(0.5) + 4) / 2)
    assert 0 < alpha.chance <= 1
    assert alpha.ranks.tau == pytest.approx(1)  # the fabricated scores are equal
    assert tuning.comparable(tuned)


def test_crossover_is_where_the_leader_changes_for_good(compared: comparison.Comparison) -> None:
    alpha, beta = tuning.tunings(compared)
    fast = alpha._replace(values=(0.3, 0.3, 0.3), seconds=(1.0, 1.0, 1.0), best=0.3)
    slow = beta._replace(values=(0.4, 0.4), seconds=(2.0, 2.0), best=0.4)
    budgets = tuning.budgets([fast, slow])
    assert budgets.ahead == 1
    assert budgets.crossover == pytest.approx(2.0, abs=0.02)
    said = sentences.budget([fast, slow], budgets)
    assert "Below 2.0\u00a0s of search, Alpha" in said
    assert said.endswith("Above it, Beta is.")
    assert tuning.budgets([fast, slow._replace(values=(0.4,), seconds=(2.0,))]) is None


def test_trials_without_confusions_have_no_chance_and_the_page_says_why(here: Path) -> None:
    (here / "storage/trials/fab-beta/trial0/confusions.npz").write_bytes(b"cut short")
    alpha, beta = tuning.tunings(read(here))
    assert alpha.chance > 0
    assert np.isnan(beta.chance)


def test_pareto_front_and_prices(pair: tables.PairwiseComparison) -> None:
    better, worse = pair.first, pair.second
    dear, cheap = replace(better, latency_ms=30.0), replace(worse, latency_ms=10.0)
    assert tables.front([dear, cheap], "latency") == [dear, cheap]
    assert tables.front([replace(better, latency_ms=5.0), cheap], "latency") == [replace(better, latency_ms=5.0)]
    (said,) = sentences.price([cheap, dear])
    assert "Beta needs 3.0× the latency, " in said
    costly = {"latency_ms": 99.0, "parameters": 10**9, "inference_memory_gb": 99.0, "seconds": 10**6, "gmac": 99.0}
    latency, *_, beaten = sentences.price([cheap, dear, replace(worse, **costly)])
    assert latency.startswith("Latency: nothing is both better and cheaper than Beta and Alpha")
    assert beaten.startswith("In every cost, another architecture is both better and cheaper than Alpha")
    unknown = replace(cheap, gmac=float("nan"))  # of a card made before it was measured
    assert "arithmetic" not in " ".join(sentences.price([unknown, dear]))


def test_borders_and_ceiling_come_from_the_pixels(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = read(here)
    val = pixels.split(compared)
    borders = pixels.borders(compared, val)
    assert borders.images == 8
    truth = np.stack([pixels.truth(val, index) for index in range(8)])
    assert borders.counts["alpha"][:, 1].sum() == (truth != 0).sum()  # void is not counted
    errors = borders.counts["alpha"][:, 0].sum() / borders.counts["alpha"][:, 1].sum()
    assert errors == pytest.approx(0.3 * 7 / 8, abs=0.03)
    assert pixels.ceiling(compared, val) is None
    monkeypatch.setenv("CITYSCAPES_DATASET", str(here / "data"))
    assert pixels.ceiling(compared, val).miou == pytest.approx(1)  # these streets were packed at their own size
    (here / "storage/models/fab-beta/seed0/masks" / f"{val.names[0]}.png").unlink()
    assert pixels.borders(compared, val) is None


def test_scenes_are_chosen_by_rule() -> None:
    once = {"best": 1, "median": 1, "worst": 1, "gap": 1}
    a = {"p": 0.9, "q": 0.5, "r": 0.1, "s": 0.55, "t": 0.4}
    b = {"p": 0.9, "q": 0.5, "r": 0.1, "s": 0.15, "t": 0.4}
    chosen = {scene.rule: scene.name for scene in scenes.choose({"a": a, "b": b}, once)}
    assert chosen == {"best": "p", "median": "t", "worst": "r", "gap": "s"}
    assert [scene.rule for scene in scenes.choose({"a": {"only": 0.5}}, once)] == ["best"]
    assert scenes.choose({}, once) == []
    many = scenes.choose({"a": a, "b": b}, {"gap": 3, "worst": 3, "best": 3, "median": 3})
    assert sorted(scene.name for scene in many) == list("pqrst")  # each scene once
    assert {scene.rule for scene in many} == {"gap", "worst", "best", "median"}
