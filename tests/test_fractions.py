"""Trainings on fractions of the images: nested, beside the promotion, and told in the report."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from segbench import promote
from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.data import subsets
from segbench.data.subsets import Subset
from segbench.engine import training
from segbench.ledger import fractions, models, study_folders
from segbench.ledger.fractions import Fraction
from segbench.report import __main__ as report
from segbench.report.numbers import scaling
from segbench.report.sections import scaling as section
from segbench.report.text import i18n
from segbench.stats import Sampled
from segbench.stats.scaling import gain_of_doubling, power_law
from tests.fabricated import epoch, read
from tests.test_commands import call, error_of, study

pytest_plugins = ["tests.fabricated"]

IMAGES = np.array([30, 90, 300])


def test_a_power_law_is_recovered() -> None:
    law = power_law(IMAGES, 2.0 * IMAGES**-0.3)
    assert float(law.factor) == pytest.approx(2.0)
    assert float(law.exponent) == pytest.approx(0.3)
    scores = [Sampled(float(1 - 2 * n**-0.3), np.full(5, 1 - 2 * n**-0.3)) for n in IMAGES]
    gain = gain_of_doubling(IMAGES, scores)
    assert gain.estimate == pytest.approx(2 * 300**-0.3 - 2 * 600**-0.3)
    assert gain.values == pytest.approx([gain.estimate] * 5)


def test_a_flat_curve_gains_nothing() -> None:
    flat = [Sampled(0.6, np.full(5, 0.6))] * 3
    assert gain_of_doubling(IMAGES, flat).estimate == pytest.approx(0, abs=1e-12)


def test_the_interval_of_a_doubling_covers_the_truth() -> None:
    """The errors scatter around the law; the interval is of the same scatter, drawn again around what was observed."""
    generator = np.random.default_rng(0)
    truth = 1.5 * IMAGES**-0.25
    gain = 1.5 * 300**-0.25 - 1.5 * 600**-0.25
    hits = 0
    for _ in range(300):
        observed = truth * (1 + 0.02 * generator.standard_normal(3))
        again = observed[:, None] * (1 + 0.02 * generator.standard_normal((3, 400)))
        scores = [Sampled(1 - float(error), 1 - row) for error, row in zip(observed, again, strict=True)]
        interval = gain_of_doubling(IMAGES, scores).interval()
        hits += interval.low <= gain <= interval.high
    assert 0.91 <= hits / 300 <= 0.99


def test_fractions_are_nested_and_always_the_same() -> None:
    whole = Subset(np.arange(100, 300), np.arange(10), "val", "all")
    parts = [subsets.fraction(whole, part) for part in (0.1, 0.3, 1.0)]
    assert [len(part.train) for part in parts] == [20, 60, 200]
    assert set(parts[0].train) < set(parts[1].train) < set(parts[2].train) == set(whole.train)
    assert np.array_equal(subsets.fraction(whole, 0.1).train, parts[0].train)
    with pytest.raises(UserError, match="is 1 of 200 train images; expected at least 2"):
        subsets.fraction(whole, 0.005)


@pytest.mark.parametrize("text", ["", "0", "1.5", "nan", "0.1,0.1", "half", "0.5;1"])
def test_impossible_fractions_are_refused(
    text: str, storage: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(promote, "--protocol", protocol, "--fractions", text) == 2
    assert "expected distinct numbers above 0 and up to 1" in error_of(capsys)


@pytest.mark.slow
def test_fractions_are_trained_once_and_leave_the_promotion_alone(
    storage: Path, drawn: Path, protocol: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from segbench import search

    where = ["deeplab", "--protocol", protocol, "--data", drawn]
    assert call(search, *where) == 0
    assert call(promote, *where) == 0
    folder = paths.model_folder("small-deeplab", 0)
    promoted = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert call(promote, *where, "--fractions", "0.25,0.5,1") == 0
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == promoted
    found = [fraction for _, fraction in fractions.of_study("small-deeplab")]
    (whole,) = models.promoted("small")
    quarter, half = round(whole.card.train_images / 4), round(whole.card.train_images / 2)
    assert [(each.train_images, each.seed, each.epochs) for each in found] == [(quarter, 0, 2), (half, 0, 2)]

    monkeypatch.setattr(training, "fit", lambda *arguments, **options: pytest.fail("trained twice"))
    assert call(promote, *where, "--fractions", "0.25,0.5,1") == 0
    assert capsys.readouterr().out.count("trained already, nothing to do") == 2
    assert call(report, "--protocol", protocol) == 0
    page = (paths.reports() / "small.html").read_text()
    assert "Would twice as many images help?" in page

    study_folders.remove("small-deeplab", study().id)
    assert not paths.fractions_folder("small-deeplab").exists()  # they are the study's, and go with it


def fabricate(name: str, images: int, errors: float) -> None:
    """A training of a fabricated architecture on fewer images: pixels of the promotion's confusions go wrong."""
    (model,) = [model for model in models.promoted("fab") if model.card.architecture == name]
    folder = paths.fractions_folder(model.card.study) / f"{images}-seed0"
    folder.mkdir(parents=True)
    with np.load(model.folder / artefacts.CONFUSIONS) as file:
        counts, names = file["confusions"].astype(np.float64), file["names"]
    worse = (1 - errors) * counts + errors * counts.sum(-1, keepdims=True) / counts.shape[-1]
    np.savez_compressed(folder / artefacts.CONFUSIONS, confusions=worse.round().astype(np.int32), names=names)
    card = model.card
    intent = (card.fingerprint, card.data_fingerprint, card.hyperparameters)
    fractions.write(folder, Fraction(*intent, images, card.val_images, card.epochs, 0, "fp32", epoch(4, 0.3)))


def test_the_report_answers_whom_more_images_would_help(here: Path) -> None:
    for images, errors in ((1, 0.5), (2, 0.25)):
        fabricate("alpha", images, errors)
        fabricate("beta", images, 0.0)
    alpha, beta = scaling.scalings(read(here))
    assert (alpha.images, alpha.verdict, beta.verdict) == ((1, 2, 4), "yes", "hardly")
    assert alpha.doubling.low > 0
    for language in i18n.LANGUAGES:
        with i18n.speaking(language):
            expected = {"title": "Beta", "gain": i18n.signed(0.0), "range": i18n.points_range(beta.doubling)}
            assert i18n.text("scaling.hardly", **expected) in section.answer([alpha, beta])
            blocks = section.blocks(read(here))
            assert [block.kind for block in blocks] == ["prose", "figure"]
    (folder, fraction), *_ = fractions.of_study("fab-alpha")
    fractions.write(folder, dataclasses.replace(fraction, epochs=99))  # of another protocol: it does not belong here
    (alpha, _) = scaling.scalings(read(here))
    assert (alpha.images, alpha.verdict, alpha.law) == ((2, 4), "few", None)
    shutil.rmtree(paths.fractions_folder("fab-alpha"))
    assert [row.candidate.name for row in scaling.scalings(read(here))] == ["beta"]
