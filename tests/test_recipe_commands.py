"""A recipe from the TOML files to the databases, the card and the page; and what commands refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from segbench import api, promote, search
from segbench.core import metrics
from segbench.core.labels import DEFAULT
from segbench.core.recipe import Recipe
from segbench.ledger import models, tracking
from segbench.report.numbers import comparison
from segbench.report.page.blocks import Prose
from segbench.report.sections import record
from segbench.report.sections import search as search_section
from tests.conftest import write_protocol
from tests.test_commands import call, error_of, study

pytest_plugins = ["tests.fabricated"]


def edited(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


@pytest.mark.slow
def test_a_recipe_reaches_trials_card_and_exports(storage: Path, drawn: Path, protocol: Path) -> None:
    with (protocol / "protocol.toml").open("a") as file:
        file.write('[recipe]\nschedule = "poly"\npower = 1.0\nema = 0.5\n')
    edited(
        protocol / "deeplab.toml",
        ('{ choice = ["adam", "adamw", "sgd"] }', '{ choice = ["adam", "sgd"] }\nclip_norm = { choice = [1.0, 2.0] }'),
        ("[baseline]", "[space.sgd]\nlr = { log_uniform = [0.1, 0.2] }\n[recipe]\nema = 0.0\n[was]"),
    )
    text = (protocol / "deeplab.toml").read_text()
    (protocol / "deeplab.toml").write_text(text.split("[was]")[0])
    where = ["deeplab", "--protocol", protocol, "--data", drawn, "--quiet"]
    assert call(search, *where) == 0
    assert call(promote, *where) == 0
    found = study()
    for trial in found.trials:
        assert set(trial.params) == {"lr", "weight_decay", "optimizer", "clip_norm", "aux_loss"}
        assert (float(trial.params["lr"]) >= 0.1) == (trial.params["optimizer"] == "sgd")
        rates = [epoch.lr for epoch in trial.epochs]  # two steps an epoch: the last has 1 - 1/4, then 1 - 3/4
        assert rates == pytest.approx([float(trial.params["lr"]) * share for share in (0.75, 0.25)])
        assert all(0 < epoch.grad_norm <= epoch.grad_norm_max for epoch in trial.epochs)  # type: ignore[operator]
        logged = tracking.client().get_run(trial.run_id).data
        assert logged.metrics["lr"] == trial.epochs[-1].lr
        assert logged.metrics["grad_norm"] == trial.epochs[-1].grad_norm
        assert (logged.params["schedule"], logged.params["lr"]) == ("poly", str(trial.params["lr"]))
    ((_, card),) = models.promoted("small")
    clip = float(card.hyperparameters.params()["clip_norm"])
    assert card.hyperparameters.recipe == Recipe(schedule="poly", power=1.0, clip_norm=clip)
    table = api.epochs(protocol)
    assert list(table["lr"]) == [epoch.lr for trial in found.trials for epoch in trial.epochs]
    assert call(promote, *where) == 0  # already promoted: the card's recipe is the planned one
    assert models.promoted("small")[0].card.created == card.created


@pytest.mark.slow
def test_the_average_is_what_is_promoted(storage: Path, drawn: Path, tmp_path: Path) -> None:
    folder = write_protocol(tmp_path / "averaged")
    (folder / "mask2former.toml").unlink()
    with (folder / "protocol.toml").open("a") as file:
        file.write("[recipe]\nema = 0.9\n")
    where = ["--protocol", folder, "--data", drawn, "--quiet"]
    assert call(search, *where, "--keep-weights") == 0
    assert call(promote, *where) == 0
    ((place, card),) = models.promoted("averaged")
    best, last = (load_file(place / f"{name}.safetensors") for name in ("best", "last"))
    same = all(best[name].equal(last[name]) for name in best)
    assert same is (card.best.epoch == card.last.epoch)
    with np.load(place / "confusions.npz") as kept:  # of the weights that were saved, evaluated once more
        assert metrics.scores(kept["confusions"].sum(0), DEFAULT).miou == pytest.approx(card.best.miou, abs=1e-12)


REFUSED = {
    "label_smoothing = 0.1": "label_smoothing, class_weights and ohem change the loss of a pixel",
    "warmup = 0.1": "[recipe] warmup = 0.1 is less than one step; this training has 4 steps: raise it to 0.25 or 0",
}


@pytest.mark.parametrize("line", REFUSED)
@pytest.mark.parametrize("searched", [False, True])
def test_what_does_not_fit_is_refused_before_a_study_is_created(
    line: str, searched: bool, storage: Path, drawn: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = protocol / "mask2former.toml"
    name, value = line.split(" = ")
    table = f"[space]\n{name} = {{ choice = [0.0, {value}] }}" if searched else f"[recipe]\n{line}\n[space]"
    edited(path, ("[space]", table), ("[baseline]", "[was]"))
    path.write_text(path.read_text().split("[was]")[0])
    assert call(search, "mask2former", "--protocol", protocol, "--data", drawn, "--quiet") == 2
    assert REFUSED[line] in error_of(capsys)
    with pytest.raises(Exception, match="no study"):
        study("small-mask2former")


def test_the_page_names_the_recipe_and_values_at_a_bound(compared: comparison.Comparison) -> None:
    first, *others = compared.candidates
    assert first.study is not None
    protocol = replace(first.study.protocol, recipe=Recipe(schedule="poly", warmup=0.05))
    best = max((t for t in first.study.planned if t.value is not None), key=lambda t: t.value or 0)
    high = replace(best, value=0.99, params={**best.params, "lr": 9.9e-3, "weight_decay": 3e-5})
    study_ = replace(first.study, protocol=protocol, trials=(*first.study.trials, replace(high, index=99)))
    card = first.models[0].card
    chosen = replace(card.hyperparameters, recipe=protocol.recipe)
    model = replace(first.models[0], card=replace(card, hyperparameters=chosen))
    changed = replace(compared, candidates=(replace(first, study=study_, models=(model,)), *others))
    section = search_section.section(changed)
    said = [text for block in section.blocks if isinstance(block, Prose) for text in block.paragraphs]
    assert "Recipe: schedule = poly, power = 0.9, warmup = 0.05." not in said  # only what differs from off
    assert said.count("Recipe: schedule = poly, warmup = 0.05.") == 1
    bound = "The best trial's lr, 0.0099, lies at the upper bound of its range, 0.0001 to 0.01."
    assert sum(text.startswith(bound) for text in said) == 1
    table = record.section(changed, ()).blocks[0]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}  # type: ignore[union-attr]
    assert rows["schedule"] == ["poly", "—"]
    assert rows["warmup"] == ["0.05", "—"]
