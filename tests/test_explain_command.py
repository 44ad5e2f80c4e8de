"""`explain` as a user runs it, on networks that are not segbench's: a report, a kill, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from segbench.core import artefacts, code, files, paths
from segbench.engine import checkpoint
from segbench.explain import __main__ as explain
from segbench.explain import context, running
from segbench.explain.measures import Extras
from segbench.ledger import explanations, models
from segbench.report import __main__ as report
from segbench.report.text import i18n
from tests import browser, planted
from tests.test_commands import call, error_of

pytest_plugins = ["tests.fabricated"]

NETWORKS = {"alpha": "Linear", "beta": "Pixel"}
CODE = "from tests import planted\n\n\ndef build(classes, weights):\n    return planted.{network}(classes)\n"
WHERE = ["--protocol", "fab", "--device", "cpu"]


@pytest.fixture
def explainable(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fabricated promotions with networks that can be run: files of somebody's own."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("SEGBENCH_STORAGE", "storage")
    shutil.copytree(here / "fab", here / "studies" / "fab")
    for promoted in models.promoted("fab"):
        network = NETWORKS[promoted.card.architecture]
        source = promoted.folder / f"{promoted.card.architecture}.py"
        source.write_text(CODE.format(network=network))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            built = getattr(planted, network)(len(promoted.card.categories))
        checkpoint.save(built, promoted.weights)
        params = dataclasses.replace(promoted.card.hyperparameters, model={})
        card = dataclasses.replace(
            promoted.card, sha256=files.sha256(promoted.weights), code=code.read(source), hyperparameters=params
        )
        models.write_card(promoted.folder / artefacts.CARD, card)
    return here


def stored() -> dict[str, explanations.Scenes]:
    return {model.card.architecture: explanations.read(model) for model in models.promoted("fab")}


@pytest.mark.slow
def test_an_architecture_of_ones_own_is_explained_and_reported(
    explainable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(explain, *WHERE, "--exact", "--corruptions", "--images", "3") == 0
    assert "next:  python -m segbench.report --protocol fab" in capsys.readouterr().out
    known = stored()
    assert [len(scenes) for scenes in known.values()] == [3, 3]
    measures = {"intact", "context", "tiles", "removal", "coalitions", "corruptions", "maps"}
    assert all(measures <= set(scene) for scenes in known.values() for scene in scenes.values())
    scene = next(iter(known["alpha"].values()))
    assert scene["maps"]["layer"] == "features"
    assert next(iter(known["beta"].values()))["maps"]["why"] == "layer"

    for language in i18n.LANGUAGES:
        assert call(report, "--protocol", "fab", "--lang", language) == 0

    def look(tab: object) -> None:
        tab.evaluate("document.querySelectorAll('#why details').forEach(fold => fold.open = true)")  # type: ignore[attr-defined]
        claims = tab.locator("#why table.cards").first.locator("tbody tr")  # type: ignore[attr-defined]
        assert claims.count() == 12
        assert "pas mise à l’épreuve" in claims.first.inner_text()
        assert "Beta" in tab.locator("#removal-1").locator("xpath=..").inner_text()  # type: ignore[attr-defined]

    pages = [paths.reports() / "fab.html", paths.reports() / "fab.fr.html"]
    for page, language in zip(pages, i18n.LANGUAGES, strict=True):
        with i18n.speaking(language):
            for key in ("context", "tiles", "removal", "shapley", "deletion", "album", "robustness", "missing_layer"):
                assert i18n.text(f"explained.{key}") in page.read_text()
    browser.inspect(pages[1], look, accessible=pages[:1])


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(explainable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(explain, *WHERE) == 0
    undisturbed = [(model.folder / artefacts.EXPLANATIONS).read_bytes() for model in models.promoted("fab")]
    for model in models.promoted("fab"):
        (model.folder / artefacts.EXPLANATIONS).unlink()
    asked: list[str] = []
    kept = context.kept

    def killed(probe: object, scene: planted.Scene) -> object:
        asked.append(scene.name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return kept(probe, scene)  # type: ignore[arg-type]

    monkeypatch.setattr(context, "kept", killed)
    assert call(explain, *WHERE) == 130
    assert call(explain, *WHERE) == 0
    assert [(model.folder / artefacts.EXPLANATIONS).read_bytes() for model in models.promoted("fab")] == undisturbed
    assert len(asked) == 16 + 1  # what was done before the kill is not done again
    monkeypatch.setattr(running, "_measured", lambda *arguments: pytest.fail("measured twice"))
    assert call(explain, *WHERE) == 0


def test_explain_before_promote(storage: Path, protocol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(explain, "--protocol", protocol) == 2
    message = error_of(capsys)
    assert "no promoted model of 'small'" in message
    assert f"python -m segbench.promote --protocol {protocol}" in message


def test_what_is_missing_is_named_in_one_line(explainable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(explain, "gamma", *WHERE) == 2
    assert "no promoted model of 'gamma'; there are: alpha, beta" in error_of(capsys)
    assert call(explain, *WHERE, "--images", "0") == 2
    assert "--images must be at least 1" in error_of(capsys)
    (model, _) = models.promoted("fab")
    (paths.cache() / model.card.cache / "val" / "images.npy").unlink()
    assert call(explain, *WHERE) == 2
    message = error_of(capsys)
    assert "the packed images of fab-alpha are gone or damaged" in message
    assert "pack them again: python -m segbench.prepare --protocol fab" in message
    (model.folder / artefacts.CONFUSIONS).write_bytes(b"")
    assert call(explain, *WHERE) == 2
    assert "names the final images" in error_of(capsys)


def test_one_image_is_too_few_for_a_verdict(explainable: Path) -> None:
    assert call(explain, *WHERE, "--images", "1", "--corruptions") == 0
    assert [len(scenes) for scenes in stored().values()] == [1, 1]
    assert call(report, "--protocol", "fab") == 0
    page = (paths.reports() / "fab.html").read_text()
    assert "too few images for a verdict" in page
    assert "would take more images to say" in page


def test_values_of_other_weights_do_not_count(explainable: Path) -> None:
    (model, _) = models.promoted("fab")
    explanations.write(model, {"a/b": {"intact": [[1]]}})
    assert explanations.read(model) == {"a/b": {"intact": [[1]]}}
    retrained = model._replace(card=dataclasses.replace(model.card, sha256="0" * 64))
    assert explanations.read(retrained) == {}
    path = model.folder / artefacts.EXPLANATIONS
    for damaged in ("", "[]", "{", json.dumps({"version": 1, "weights": model.card.sha256, "scenes": [1]})):
        path.write_text(damaged)
        assert explanations.read(model) == {}


def test_more_images_keep_what_is_known(explainable: Path) -> None:
    (model, _) = models.promoted("fab")
    task = running.task(model, 8, Extras(), "")
    assert len(task.left) == 8
    assert call(explain, "alpha", *WHERE, "--images", "4") == 0
    assert len(running.task(model, 4, Extras(), "").left) == 0
    known = set(explanations.read(model))
    later = running.task(model, 8, Extras(), "")
    assert all("context" not in later.left.get(name, []) for name in known)
