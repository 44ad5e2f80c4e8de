"""The report's numbers and words, on fabricated ledgers. Nothing is drawn here."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench import report
from segbench.core import metrics, protocol
from segbench.core.labels import CATEGORIES
from segbench.core.records import WeightsOrigin
from segbench.report.figures import scenes
from segbench.report.numbers import checks, comparison, pixels, searches, tables, tuning
from segbench.report.sections import sentences
from segbench.report.sections.summary import summary_table
from segbench.report.text import i18n
from segbench.stats import Interval
from tests.fabricated import read

pytest_plugins = ["tests.fabricated"]


@pytest.fixture(scope="session")
def duel(whole: comparison.Comparison) -> tables.PairwiseComparison:
    """Its two sides, compared."""
    (found,) = tables.comparisons(tables.summaries(whole))
    return found


def verdict_of(found: comparison.Comparison) -> tuple[str, str]:
    rows = tables.summaries(found)
    return sentences.verdict(rows, tables.comparisons(rows))


def caveats_of(found: comparison.Comparison) -> str:
    rows = tables.summaries(found)
    return " ".join(sentences.caveats(rows, tables.comparisons(rows), checks.checks(found)))


def changed(found: comparison.Comparison, **fields: Any) -> comparison.Comparison:
    """The same with other words on the second side's card."""
    alpha, beta = found.candidates
    model = replace(beta.models[0], card=replace(beta.models[0].card, **fields))
    return replace(found, candidates=(alpha, replace(beta, models=(model,))))


def test_summary_is_of_the_confusions_and_cards(fabricated: Path, whole: comparison.Comparison) -> None:
    alpha, beta = tables.summaries(whole)
    total = np.load(fabricated / "storage/models/fab-alpha/seed0/confusions.npz")["confusions"].sum(0)
    assert alpha.miou.estimate == pytest.approx(metrics.scores(total).miou)
    assert alpha.miou_official.estimate == pytest.approx(metrics.scores(total).miou_official)
    assert alpha.miou.low < alpha.miou.estimate < alpha.miou.high
    assert beta.pixel_accuracy.estimate == pytest.approx(0.9, abs=0.03)
    assert alpha.seconds_per_epoch == pytest.approx(2.5)
    assert dict(zip(tables.PARTS, alpha.parts_of_epoch, strict=True))["rest"] == pytest.approx(0.3)
    assert alpha.training_memory_gb == pytest.approx(1.29)
    assert 1 / alpha.milliseconds_per_image[1] * 1000 == pytest.approx(190)


def test_duel_is_paired_and_signed(duel: tables.PairwiseComparison) -> None:
    assert (duel.first.side.name, duel.second.side.name, duel.images) == ("beta", "alpha", 8)
    assert duel.miou.estimate == pytest.approx(duel.first.miou.estimate - duel.second.miou.estimate)
    assert duel.miou.excludes_zero
    assert all(delta.low > 0 for delta in duel.iou)


def test_verdict_first_says_who_by_how_much_and_what_it_does_not_cover(whole: comparison.Comparison) -> None:
    said = verdict_of(whole)
    assert re.match(
        r"Beta segments better: mIoU 0\.\d{3} against 0\.\d{3} for Alpha .*, \d+\.\d points more\.", said[0]
    )
    assert "paired bootstrap over the 8 validation images" in said[1]
    assert "Beta leads in 100 % of the resamples" in said[1].replace("\u00a0", " ")
    assert "seed noise is not covered" in caveats_of(whole)


def test_equal_models_are_called_equal(whole: comparison.Comparison) -> None:
    alpha, beta = whole.candidates
    said = verdict_of(replace(whole, candidates=(alpha, replace(beta, models=alpha.models))))
    assert "cannot be told apart" in said[0]
    assert "includes zero" in said[1]


def test_small_gap_of_one_seed_is_read_as_a_tie(duel: tables.PairwiseComparison) -> None:
    small = replace(duel, miou=Interval(0.012, 0.008, 0.015))
    rows = [duel.first, duel.second]
    assert "too little to call" in sentences.verdict(rows, [small])[0]
    assert "quality does not decide" in " ".join(sentences.conclusion(rows, [small]))


def test_official_miou_that_says_the_opposite_is_not_passed_over(duel: tables.PairwiseComparison) -> None:
    mixed = replace(duel, miou_official=Interval(-0.018, -0.026, -0.009))
    rows = [duel.first, duel.second]
    said = " ".join(sentences.caveats(rows, [mixed], []))
    assert "says the opposite: there Alpha </script><i>net</i> is ahead by 1.8 points (0.9 to 2.6)" in said
    assert "depends on whether void counts" in " ".join(sentences.conclusion(rows, [mixed]))


def test_several_seeds_are_averaged(whole: comparison.Comparison) -> None:
    alpha, beta = whole.candidates
    two = replace(
        whole, candidates=tuple(replace(side, models=alpha.models + beta.models) for side in whole.candidates)
    )
    rows = tables.summaries(two)
    assert rows[0].miou.estimate == pytest.approx(np.mean(rows[0].miou_of_seed))
    assert rows[0].seconds == 25
    assert "means over 2 seeds" in caveats_of(two)
    seeds = summary_table(rows, tables.comparisons(rows)).rows[1]
    assert seeds[0].text == "mIoU over 2 seeds, mean and spread"
    assert seeds[1].note == f"± {np.std(rows[0].miou_of_seed, ddof=1):.3f}"


def test_classes_confusion_and_baseline(whole: comparison.Comparison) -> None:
    side = whole.candidates[0]
    rows = tables.classes(side)
    assert [row.category for row in rows] == list(CATEGORIES)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert np.isnan(rows[0].iou_official)
    assert np.nansum(tables.confusion(side), axis=1) == pytest.approx(np.ones(8))
    assert tables.majority_accuracy(side) == pytest.approx(max(row.share for row in rows))


def test_fair_comparison_passes_its_checks(whole: comparison.Comparison) -> None:
    found = checks.checks(whole)
    assert len(found) == 15
    assert all(check.held for check in found)


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("device", {"device": "another"}),
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
    whole: comparison.Comparison, duel: tables.PairwiseComparison, key: str, fields: dict[str, Any]
) -> None:
    found = checks.checks(changed(whole, **fields))
    assert [check.key for check in found if not check.held] == [key]
    assert "The conditions were not equal" in " ".join(sentences.caveats([duel.second, duel.first], [duel], found))


def test_augmenting_one_side_alone_is_found(whole: comparison.Comparison) -> None:
    first, *others = whole.candidates
    augment = protocol.Augment(flip=0.5, scale=(0.5, 2.0), colour=0.4)
    study = replace(first.study, protocol=replace(first.study.protocol, augment=augment))
    found = checks.checks(replace(whole, candidates=(replace(first, study=study), *others)))
    (check,) = (check for check in found if not check.held)
    assert [said for _, said in check.found] == [
        "50\u00a0% mirrored, zoomed by 0.50 to 2.00, brightness, contrast and saturation changed by up to 40\u00a0%",
        "none",
    ]


def test_searches(whole: comparison.Comparison) -> None:
    side = whole.candidates[0]
    used = searches.budget(side.study)
    assert (used.asked, used.ended, used.complete, used.epochs) == (12, 12, 11, 3)
    steps = searches.history(side.study)
    assert [step.trial.index for step in steps] == list(range(12))
    assert steps[-1].best == max(t.value for t in side.study.trials if t.value is not None and not t.baseline)
    shown = searches.valued(side.study)
    lr, _, optimizer = searches.axes(side.study, shown)
    assert float(lr.high) == 0.5  # the baseline's, beyond the space
    assert all(0 <= place <= 1 for place in (*lr.positions, *optimizer.positions))
    found = searches.importance(side)
    assert found.trials == 11
    assert found.shares[0][0] == "lr"  # the only one that decides the fabricated value
    assert sum(share for _, share in found.shares) == pytest.approx(1)


def test_tuning_is_counted_from_the_trials(whole: comparison.Comparison) -> None:
    one, _ = found = tuning.tunings(whole)
    assert len(one.values) == 12
    assert np.isnan(one.values).sum() == 1  # the diverged trial found nothing
    assert one.by_trials[-1] == pytest.approx(one.best) == np.nanmax(one.values)
    assert one.by_trials[0] == pytest.approx(np.nansum(one.values) / 12)
    assert one.baseline == pytest.approx(0.3 + 0.1 * (np.log10(0.5) + 4) / 2)
    assert 0 < one.chance <= 1
    assert one.ranks.tau == pytest.approx(1)  # the fabricated scores are equal
    assert tuning.comparable(found)


def test_crossover_is_where_the_leader_changes_for_good(whole: comparison.Comparison) -> None:
    one, other = tuning.tunings(whole)
    fast = one._replace(values=(0.3, 0.3, 0.3), seconds=(1.0, 1.0, 1.0), best=0.3)
    slow = other._replace(values=(0.4, 0.4), seconds=(2.0, 2.0), best=0.4)
    budgets = tuning.budgets([fast, slow])
    assert budgets.ahead == 1
    assert budgets.crossover == pytest.approx(2.0, abs=0.02)
    said = sentences.budget([fast, slow], budgets)
    assert "Below 2.0\u00a0s of search Alpha" in said
    assert said.endswith("from there on Beta.")
    assert tuning.budgets([fast, slow._replace(values=(0.4,), seconds=(2.0,))]) is None


def test_trials_without_confusions_have_no_chance_and_the_page_says_why(here: Path) -> None:
    (here / "storage/trials/fab-beta/trial0/confusions.npz").write_bytes(b"cut short")
    alpha, beta = tuning.tunings(read(here))
    assert alpha.chance > 0
    assert np.isnan(beta.chance)


def test_pareto_front_and_prices(duel: tables.PairwiseComparison) -> None:
    better, worse = duel.first, duel.second
    dear, cheap = replace(better, latency_ms=30.0), replace(worse, latency_ms=10.0)
    assert tables.front([dear, cheap], "latency") == [dear, cheap]
    assert tables.front([replace(better, latency_ms=5.0), cheap], "latency") == [replace(better, latency_ms=5.0)]
    (said,) = sentences.price([cheap, dear])
    assert "Beta takes 3.0× the latency, " in said
    third = replace(worse, latency_ms=99.0, parameters=10**9, inference_memory_gb=99.0, seconds=10**6)
    assert [line for line in sentences.price([cheap, dear, third]) if "beaten everywhere" in line]


def test_borders_and_ceiling_come_from_the_pixels(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(here)
    val = pixels.split(found)
    borders = pixels.borders(found, val)
    assert borders.images == 8
    truth = pixels.CATEGORY[val.labels]
    assert borders.counts["alpha"][:, 1].sum() == (truth != 0).sum()  # void is not counted
    errors = borders.counts["alpha"][:, 0].sum() / borders.counts["alpha"][:, 1].sum()
    assert errors == pytest.approx(0.3 * 7 / 8, abs=0.03)
    assert pixels.ceiling(found, val) is None
    monkeypatch.setenv("CITYSCAPES_DATASET", str(here / "data"))
    assert pixels.ceiling(found, val).miou == pytest.approx(1)  # these streets were packed at their own size
    (here / "storage/models/fab-beta/seed0/masks" / f"{val.names[0]}.png").unlink()
    assert pixels.borders(found, val) is None


def test_scenes_are_chosen_by_rule() -> None:
    once = {"best": 1, "median": 1, "worst": 1, "gap": 1}
    a = {"p": 0.9, "q": 0.5, "r": 0.1, "s": 0.55, "t": 0.4}
    b = {"p": 0.9, "q": 0.5, "r": 0.1, "s": 0.15, "t": 0.4}
    found = {one.rule: one.name for one in scenes.choose({"a": a, "b": b}, once)}
    assert found == {"best": "p", "median": "t", "worst": "r", "gap": "s"}
    assert [one.rule for one in scenes.choose({"a": {"only": 0.5}}, once)] == ["best"]
    assert scenes.choose({}, once) == []
    many = scenes.choose({"a": a, "b": b}, {"gap": 3, "worst": 3, "best": 3, "median": 3})
    assert sorted(one.name for one in many) == list("pqrst")  # each scene once
    assert {one.rule for one in many} == {"gap", "worst", "best", "median"}


def test_languages_have_the_same_texts() -> None:
    def flat(table: dict[str, Any], path: str = "") -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for key, value in table.items():
            if isinstance(value, dict):
                found |= flat(value, f"{path}{key}.")
            else:
                assert value.strip(), f"{path}{key}"
                found[path + key] = set(re.findall(r"(?<!\{)\{(\w+)\}", value))
        return found

    english, french = (flat(i18n.table(language)) for language in i18n.LANGUAGES)
    assert english == french
    untold = {"page.kicker", "words.points", "parts.", "figures.", "cost.", "record.", "index.", "search."}
    same = [k for k in english if _text(k, "en") == _text(k, "fr") and len(_text(k, "en")) > 24]
    assert [k for k in same if not any(k.startswith(u) for u in untold)] == []
    used = "\n".join(path.read_text() for path in Path(report.__file__).parent.rglob("*.[ph]*"))
    sections = {key.split(".")[0] for key in english}
    assert all(f'"{name}.' in used or f"'{name}." in used or f'"{name}"' in used for name in sections)


def _text(key: str, language: str) -> str:
    found: Any = i18n.table(language)
    for part in key.split("."):
        found = found[part]
    return str(found)


def test_french_writes_numbers_the_french_way() -> None:
    interval = Interval(0.4534, 0.431, 0.474)
    with i18n.speaking("fr"):
        assert i18n.score(0.4534) == "0,453"
        assert i18n.score_range(interval) == "(0,431 à 0,474)"
        assert i18n.number(41_300_000) == "41\u202f300\u202f000"
        assert i18n.signed(-0.0123) == "−1,2"
        assert i18n.duration(8.14) == "8,1\u00a0s"
        assert i18n.text("page.footer", newest="", protocol="p").count("«\u00a0p\u00a0»") == 1
    assert i18n.score(0.4534) == "0.453"
    assert i18n.signed(0.0123) == "+1.2"
    assert [i18n.percent(v).replace("\u00a0", " ") for v in (1.0, 0.9999, 0.5, 0.0001, 0.0)] == [
        "100 %", "> 99 %", "50 %", "< 1 %", "0 %",
    ]  # fmt: skip
