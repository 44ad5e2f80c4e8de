"""The report, on ledgers fabricated with the real Optuna and the real MLflow: numbers, texts, one page in a browser."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from segbench import database, metrics, models, places, protocol, runs, sampling, slots, trials
from segbench.data import packed, streets
from segbench.errors import UserError
from segbench.labels import CATEGORIES, CATEGORY_OF_RAW
from segbench.pictures import mask
from segbench.records import EpochRecord, EpochSeconds, Hyperparameters, ModelCard, SpeedCard, WeightsOrigin, to_json
from segbench.report import __main__ as command
from segbench.report import checks, ledgers, page, scenes, searches, sections, tables, words
from segbench.statistics import Interval
from tests import browser

HOSTILE = "<script>alert(1)</script> & <b>streets</b>"
ERRORS = {"alpha": 0.3, "beta": 0.1}  # the share of pixels each fabricated model gets wrong
TOML = """
title = "{title}"
batch_size = 4
weights = "random"
[space]
lr = {{ log_uniform = [1e-4, 1e-2] }}
weight_decay = {{ log_uniform = [1e-6, 1e-3] }}
optimizer = {{ choice = ["adam", "sgd"] }}
[baseline]
lr = 0.5
weight_decay = 1e-5
optimizer = "adam"
"""
PROTOCOL = """
title = "{title}"
data = {{ size = [32, 64], streets = {{ train = 4, val = 8, size = [32, 64] }} }}
search = {{ trials = 12, epochs = 3, train_images = 2, val_images = 1 }}
final = {{ epochs = 4 }}
"""


def epoch(number: int, quality: float) -> EpochRecord:
    seconds = EpochSeconds(0.1, 0.5, 0.2, 1.0, 0.1, 0.29, 0.01, 2.5)
    iou = (None, *(quality for _ in CATEGORIES[1:]))
    return EpochRecord(
        number, 2 / number, 3 / number, 1 - quality, quality, quality, quality, iou, seconds, 40.0, 1.25 + number / 100
    )


def search(storage: Any, asked: protocol.Protocol, own: protocol.Architecture, data: str) -> None:
    study = trials.open_study(storage, asked, own, data, "2 train images")
    slots.plan(study, own.space, asked.search, own.baseline)

    def objective(trial: optuna.Trial) -> float:
        params = sampling.suggest(trial, own.space)
        trial.set_user_attr("device", "cpu (2 threads), fp32")
        if trials.slot_of(trial) == 3:
            raise trials.TrialFailed("diverged", "loss is nan in epoch 1")
        quality = 0.3 + 0.1 * float(np.log10(params["lr"]) + 4) / 2
        trials.report(trial, [epoch(n, quality * n / 3) for n in (1, 2, 3)])
        return quality

    trials.run(study, objective)


def promote(asked: protocol.Protocol, own: protocol.Architecture, data: packed.Dataset, record: Any) -> None:
    folder = places.model_folder(record.name, 0)
    truth = np.array(CATEGORY_OF_RAW, np.uint8)[data.val.labels]
    generator = np.random.default_rng(0)
    wrong = generator.random(truth.shape) < ERRORS[own.name]
    predicted = np.where(wrong, generator.integers(0, 8, truth.shape), truth).astype(np.uint8)
    cells = data.val.labels.astype(np.int64) * 8 + predicted
    counted = np.stack([np.bincount(one.ravel(), minlength=256 * 8).reshape(256, 8) for one in cells])
    confusions = metrics.rows(counted)
    for name, categories in zip(data.val.names, predicted, strict=True):
        path = folder / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask(categories).save(path)
    np.savez_compressed(folder / "confusions.npz", confusions=confusions, names=np.array(data.val.names))
    found = metrics.scores(confusions.sum(0))
    records = [epoch(n, found.miou * n / 4) for n in (1, 2, 3, 4)]
    client = runs.client()
    parent = runs.study_run(client, asked.name, record.name, {})
    best = trials.best(record)
    run = runs.nested_run(client, parent, own.name, {"kind": "promotion"}, best.params)
    for one in records:
        runs.log_epoch(client, run, one)
    histogram = [np.bincount(split.labels.ravel(), minlength=256) for split in (data.train, data.val)]
    speed = SpeedCard("cpu", "fp32", 4, data.size, 100 + 300 * ERRORS[own.name], 1e4, 5e3, 120.0, 9.5, 741_080, 0.8)
    card = ModelCard(
        architecture=own.name,
        title=own.title,
        model={},
        categories=CATEGORIES,
        size=data.size,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        hyperparameters=Hyperparameters.from_params(best.params),
        batch_size=4,
        protocol=asked.name,
        protocol_title=asked.title,
        drawn=asked.drawn,
        fingerprint=record.fingerprint,
        data_fingerprint=data.fingerprint,
        cache=data.folder.name,
        weights=WeightsOrigin("random", "seed 0", "e8" * 32),
        study=record.name,
        trial=best.number,
        slot=best.slot,
        seed=0,
        epochs=4,
        train_images=4,
        val_images=8,
        best=records[-1],
        last=records[-1],
        majority_miou=metrics.majority_miou(*histogram),
        speed=speed,
        device="cpu (2 threads), fp32",
        versions={"torch": "2.13.0"},
        run_id=run,
        seconds=12.5,
        created=datetime(2031, 5, 6, 7, 8, tzinfo=UTC).isoformat(),
    )
    models.write_card(folder / "card.json", card)


@pytest.fixture(scope="session")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `storage/` and the protocol `fab/`: two architectures, searched and promoted."""
    root = tmp_path_factory.mktemp("report")
    folder = root / "fab"
    folder.mkdir()
    (folder / "protocol.toml").write_text(PROTOCOL.format(title=HOSTILE))
    (folder / "alpha.toml").write_text(TOML.format(title="Alpha </script><i>net</i>"))
    (folder / "beta.toml").write_text(TOML.format(title="Beta"))
    streets.write(root / "data", 4, 8, 32, 64, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(root / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        asked = protocol.load(folder)
        data = packed.prepare(root / "data", asked.data.size, places.cache())
        storage = database.connect(places.studies_database())
        for name in ERRORS:
            own = protocol.load_architecture(folder, name)
            search(storage, asked, own, data.fingerprint)
            promote(asked, own, data, trials.record(storage, f"fab-{name}"))
    return root


@pytest.fixture(scope="session")
def whole(fabricated: Path) -> ledgers.Ledgers:
    """What the report reads of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(fabricated / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return read(fabricated)


@pytest.fixture(scope="session")
def duel(whole: ledgers.Ledgers) -> tables.Duel:
    """Its two sides, compared."""
    (found,) = tables.duels(tables.summaries(whole))
    return found


@pytest.fixture
def here(fabricated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil."""
    shutil.copytree(fabricated, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def read(here: Path) -> ledgers.Ledgers:
    return ledgers.read(here / "fab", "fab")


def verdict_of(found: ledgers.Ledgers) -> list[str]:
    rows = tables.summaries(found)
    return words.verdict(rows, tables.duels(rows), checks.checks(found))


def changed(found: ledgers.Ledgers, **fields: Any) -> ledgers.Ledgers:
    """The same with other words on the second side's card."""
    alpha, beta = found.sides
    model = replace(beta.models[0], card=replace(beta.models[0].card, **fields))
    return replace(found, sides=(alpha, replace(beta, models=(model,))))


def test_summary_is_of_the_confusions_and_cards(fabricated: Path, whole: ledgers.Ledgers) -> None:
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


def test_duel_is_paired_and_signed(duel: tables.Duel) -> None:
    assert (duel.first.side.name, duel.second.side.name, duel.images) == ("beta", "alpha", 8)
    assert duel.miou.estimate == pytest.approx(duel.first.miou.estimate - duel.second.miou.estimate)
    assert duel.miou.excludes_zero
    assert all(delta.low > 0 for delta in duel.iou)


def test_verdict_first_says_who_by_how_much_and_what_it_does_not_cover(whole: ledgers.Ledgers) -> None:
    said = verdict_of(whole)
    assert re.match(
        r"Beta segments better: mIoU 0\.\d{3} against 0\.\d{3} for Alpha .*, \d+\.\d points more\.", said[0]
    )
    assert "paired bootstrap over the 8 validation images" in said[1]
    assert "seed" in " ".join(said)


def test_equal_models_are_called_equal(whole: ledgers.Ledgers) -> None:
    alpha, beta = whole.sides
    said = verdict_of(replace(whole, sides=(alpha, replace(beta, models=alpha.models))))
    assert "cannot be told apart" in said[0]
    assert "includes zero" in said[1]


def test_small_gap_of_one_seed_is_read_as_a_tie(duel: tables.Duel) -> None:
    small = replace(duel, miou=Interval(0.012, 0.008, 0.015))
    rows = [duel.first, duel.second]
    assert "too little to call" in words.verdict(rows, [small], [])[0]
    assert "quality does not decide" in " ".join(words.conclusion(rows, [small]))


def test_official_miou_that_says_the_opposite_is_not_passed_over(duel: tables.Duel) -> None:
    mixed = replace(duel, miou_official=Interval(-0.018, -0.026, -0.009))
    rows = [duel.first, duel.second]
    said = " ".join(words.verdict(rows, [mixed], []))
    assert "says the opposite: there Alpha </script><i>net</i> is ahead by 1.8 points (0.9 to 2.6)" in said
    assert "depends on whether void counts" in " ".join(words.conclusion(rows, [mixed]))


def test_several_seeds_are_averaged(whole: ledgers.Ledgers) -> None:
    alpha, beta = whole.sides
    two = replace(whole, sides=tuple(replace(side, models=alpha.models + beta.models) for side in whole.sides))
    rows = tables.summaries(two)
    assert rows[0].miou.estimate == pytest.approx(np.mean(rows[0].miou_of_seed))
    assert rows[0].seconds == 25
    assert "means over 2 seeds" in " ".join(verdict_of(two))
    assert "mIoU by seed" in [row[0].text for row in sections.front(sections.Numbers.of(two))[0].rows]


def test_classes_confusion_and_baseline(whole: ledgers.Ledgers) -> None:
    side = whole.sides[0]
    rows = tables.classes(side)
    assert [row.category for row in rows] == list(CATEGORIES)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert np.isnan(rows[0].iou_official)
    assert np.nansum(tables.confusion(side), axis=1) == pytest.approx(np.ones(8))
    assert tables.majority_accuracy(side) == pytest.approx(max(row.share for row in rows))


def test_fair_comparison_passes_its_checks(whole: ledgers.Ledgers) -> None:
    found = checks.checks(whole)
    assert len(found) == 14
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
        ("best", {"slot": 11}),
        ("versions", {"versions": {"torch": "1.0"}}),
    ],
)
def test_each_unfairness_is_found(whole: ledgers.Ledgers, duel: tables.Duel, key: str, fields: dict[str, Any]) -> None:
    found = checks.checks(changed(whole, **fields))
    assert [check.key for check in found if not check.held] == [key]
    assert "The conditions were not equal" in " ".join(words.verdict([duel.second, duel.first], [duel], found))


def test_searches(whole: ledgers.Ledgers) -> None:
    side = whole.sides[0]
    used = searches.budget(side.study)
    assert (used.asked, used.ended, used.complete, used.epochs) == (12, 12, 11, 3)
    steps = searches.history(side.study)
    assert [step.trial.slot for step in steps] == list(range(12))
    assert steps[-1].best == max(t.value for t in side.study.trials if t.value is not None and not t.baseline)
    shown = searches.valued(side.study)
    lr, _, optimizer = searches.axes(side.study, shown)
    assert float(lr.high) == 0.5  # the baseline's, beyond the space
    assert all(0 <= place <= 1 for place in (*lr.positions, *optimizer.positions))
    found = searches.importance(side)
    assert found.trials == 11
    assert found.shares[0][0] == "lr"  # the only one that decides the fabricated value
    assert sum(share for _, share in found.shares) == pytest.approx(1)


def test_scenes_are_chosen_by_rule() -> None:
    a = {"p": 0.9, "q": 0.5, "r": 0.1, "s": 0.55, "t": 0.4}
    b = {"p": 0.9, "q": 0.5, "r": 0.1, "s": 0.15, "t": 0.4}
    found = {one.rule: one.name for one in scenes.choose({"a": a, "b": b})}
    assert found == {"best": "p", "median": "t", "worst": "r", "gap": "s"}
    assert [one.rule for one in scenes.choose({"a": {"only": 0.5}})] == ["best"]
    assert scenes.choose({}) == []


def test_page_has_everything_and_titles_stay_text(here: Path) -> None:
    html = page.render(sections.page(read(here)))
    outside = re.sub(r"<script>/\*\*.*?</script>", "", html, flags=re.S)  # plotly.js
    assert "<script>alert" not in outside
    assert "</script><i>" not in outside
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert protocol.DRAWN in html
    assert outside.count("data:image/") == 4 * 4
    assert "diverged: loss is nan in epoch 1" in html
    assert "Newest entry in the ledgers: 2031-05-06 07:08 UTC" in html
    assert html.count("http-equiv") == 1
    assert len(html) < 12e6
    ids = re.findall(r' id="([^"]+)"', outside)
    assert len(ids) == len(set(ids))
    assert outside.count('class="chart"') >= 20


def test_same_ledgers_same_bytes(here: Path) -> None:
    pages = []
    for name in ("one", "two"):
        assert command.main(["--protocol", str(here / "fab"), "--out", str(here / name)]) == 0
        pages.append((here / name).read_bytes())
    assert pages[0] == pages[1]


def test_command_says_what_it_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--protocol", str(here / "fab")]) == 0
    said = capsys.readouterr().out
    assert str(here / "reports" / "fab.html") in said
    assert re.search(r"\d\.\d MB", said)
    assert "next:  python -m segbench.predict" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (["models/fab-beta"], "python -m segbench.promote beta --protocol fab"),
        (["models"], "No architecture is fully trained yet"),
        (["models/fab-beta/seed0/confusions.npz"], "per-image confusions of beta, seed 0 are missing"),
        (["models/fab-beta/seed0/masks"], "mask file missing"),
        (["cache"], "python -m segbench.prepare --protocol fab"),
        (["mlflow.db"], "no longer has the run of beta"),
        (["studies.db"], "no search in the ledger"),
    ],
)
def test_what_is_missing_is_said(here: Path, spoil: list[str], said: str) -> None:
    for name in spoil:
        path = here / "storage" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for beside in path.parent.glob(f"{path.name}-*"):
            beside.unlink()  # SQLite's journal
    assert said in page.render(sections.page(read(here)))


def test_unsearched_side_and_unfinished_search_say_how_to_go_on(here: Path) -> None:
    shutil.rmtree(here / "storage/models/fab-beta")
    storage = database.connect(here / "storage/studies.db")
    optuna.delete_study(study_name="fab-beta", storage=storage)
    study = optuna.load_study(study_name="fab-alpha", storage=storage)
    asked = to_json(study.user_attrs["protocol"])
    asked["search"]["trials"] = 99
    study.set_user_attr("protocol", asked)
    said = " ".join(words.missing(read(here)))
    assert "python -m segbench.search beta --protocol fab" in said
    assert "Alpha </script><i>net</i> has ended 12 of 99 trials" in said


def test_nothing_at_all_is_an_error_with_the_command(here: Path) -> None:
    shutil.rmtree(here / "storage")
    with pytest.raises(UserError, match=r"nothing to report.*python -m segbench\.search --protocol fab"):
        read(here)


def test_neither_help_nor_report_imports_torch(here: Path) -> None:
    heavy = "'torch', 'transformers', 'mlflow', 'optuna', 'plotly', 'pandas', 'jinja2'"
    code = f"""if True:
        import sys
        from segbench.report.__main__ import main
        try: main(['--help'])
        except SystemExit: pass
        assert not {{{heavy}}} & set(sys.modules)
        assert main(['--quiet', '--protocol', sys.argv[1]]) == 0
        assert 'plotly' in sys.modules
        assert not {{'torch', 'torchvision', 'transformers'}} & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code, str(here / "fab")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_page_in_a_browser(here: Path) -> None:
    def look(tab: Any) -> None:
        assert tab.locator("h1").inner_text() == HOSTILE
        assert "<i>net</i>" in tab.locator("#inference").text_content()

    command.main(["--protocol", str(here / "fab"), "--out", str(here / "page.html")])
    browser.inspect(here / "page.html", look)
