"""Recipes as data: read strictly, off by default, the architecture's over the protocol's, each field searchable."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.core import protocol as protocols
from segbench.core.errors import UserError
from segbench.core.recipe import OFF, Recipe
from segbench.core.records import Hyperparameters, from_json, to_json
from segbench.core.space import Choice, Range


def with_recipe(folder: Path, text: str, file: str = "protocol.toml") -> None:
    path = folder / file
    path.write_text(f"{path.read_text()}\n{text}\n")


def test_off_is_the_note_and_leaves_fingerprints_alone(protocol: Path) -> None:
    before = fingerprint(protocol)
    with_recipe(protocol, '[recipe]\nschedule = "constant"\nwarmup = 0')
    assert fingerprint(protocol) == before
    with_recipe(protocol, "ema = 0.99")
    assert fingerprint(protocol) != before


def fingerprint(folder: Path) -> str:
    return protocols.fingerprint(protocols.load(folder), protocols.load_architecture(folder, "deeplab"))


def test_an_architectures_fields_go_over_the_protocols(protocol: Path) -> None:
    with_recipe(protocol, '[recipe]\nschedule = "poly"\nwarmup = 0.05\nclip_norm = 1')
    before = fingerprint(protocol)
    with_recipe(protocol, "[recipe]\nwarmup = 0.0\nbackbone_lr = 0.1", "deeplab.toml")
    loaded, own = both(protocol)
    assert loaded.recipe == Recipe(schedule="poly", warmup=0.05, clip_norm=1.0)
    assert loaded.recipe_of(own) == Recipe(schedule="poly", clip_norm=1.0, backbone_lr=0.1)
    assert fingerprint(protocol) != before
    for record in (loaded, own):
        assert from_json(type(record), to_json(record)) == record


def both(folder: Path) -> tuple[protocols.Protocol, protocols.Architecture]:
    return protocols.load(folder), protocols.load_architecture(folder, "deeplab")


def test_records_of_earlier_versions_have_no_recipe(protocol: Path) -> None:
    loaded, own = both(protocol)
    old, other = to_json(loaded), to_json(own)
    del old["recipe"], other["recipe"]
    assert (from_json(type(loaded), old), from_json(type(own), other)) == (loaded, own)
    chosen = {"lr": 0.1, "weight_decay": 0.0, "optimizer": "sgd", "model": {}}
    assert from_json(Hyperparameters, chosen).recipe == OFF


def test_a_searched_field_is_of_the_recipe_not_of_the_network() -> None:
    params = {"lr": 0.1, "weight_decay": 0, "optimizer": "sgd", "aux_loss": True, "clip_norm": 1, "ema": 0.0}
    chosen = Hyperparameters.from_params(params, Recipe(schedule="poly", ema=0.9))
    assert chosen.model == {"aux_loss": True}
    assert chosen.recipe == Recipe(schedule="poly", clip_norm=1.0, ema=0.0)
    assert chosen.params() == {
        **{"lr": 0.1, "weight_decay": 0.0, "optimizer": "sgd", "schedule": "poly", "clip_norm": 1.0, "aux_loss": True}
    }
    assert Hyperparameters.from_params(chosen.params()) == chosen
    assert from_json(Hyperparameters, to_json(chosen)) == chosen


REFUSED = {
    "warm_up = 0.1": "[recipe]: unknown key 'warm_up'; did you mean 'warmup'?",
    "warmup = 1": "[recipe]: warmup must be a number of 0 or more and below 1, not 1.0",
    "warmup = -0.1": "warmup must be a number of 0 or more and below 1, not -0.1",
    "ema = 1.0": "ema must be a number of 0 or more and below 1, not 1.0",
    "ema = true": "recipe.ema must be a number, found True",
    'schedule = "step"': "schedule must be one of constant, poly, cosine, not 'step'",
    "power = 0": "power must be a number above 0, not 0.0",
    "layer_decay = 1.1": "layer_decay must be at most 1, not 1.1",
    "layer_decay = 0": "layer_decay must be a number above 0, not 0.0",
    "backbone_lr = -1": "backbone_lr must be a number of 0 or more, not -1.0",
    "clip_norm = -1": "clip_norm must be a number of 0 or more, not -1.0",
    'class_weights = "inverse"': "class_weights must be one of none, effective, not 'inverse'",
    'batchnorm = "off"': "batchnorm must be one of train, eval, frozen, not 'off'",
    "no_decay = 1": "recipe.no_decay must be true or false, found 1",
    "label_smoothing = nan": "recipe.label_smoothing must be finite, found nan",
}


@pytest.mark.parametrize("line", REFUSED)
@pytest.mark.parametrize("file", ["protocol.toml", "deeplab.toml"])
def test_mistakes_in_a_recipe(protocol: Path, file: str, line: str) -> None:
    with_recipe(protocol, f"[recipe]\n{line}", file)
    with pytest.raises(UserError) as caught:
        both(protocol)
    assert file in str(caught.value)
    assert REFUSED[line] in one_line(caught.value)


SPACES = {
    "ema = { choice = [0.0, 1.5] }": "ema must be a number of 0 or more and below 1, not 1.5",
    "warmup = { uniform = [0.0, 1.0] }": "warmup must be a number of 0 or more and below 1, not 1.0",
    'schedule = { choice = ["poly", "step"] }': "schedule must be one of constant, poly, cosine, not 'step'",
    "no_decay = { choice = [0, 1] }": "no_decay must be true or false, not 0",
    "clip_norm = true": "clip_norm must be a number of 0 or more, not True",
    "sgd = 0.1": "[space.sgd]: expected lr and weight_decay, found 0.1",
    "sgd = {}": "[space.sgd]: expected lr and weight_decay, found {}",
    "sgd = { queries = 1 }": "[space.sgd]: only lr and weight_decay can depend on the optimizer, not 'queries'",
    "sgd.lr = { log_uniform = [1, 2, 3] }": "[space.sgd] lr: log_uniform needs two numbers [low, high]",
    "sgd.lr = -1": "[space.sgd] lr must be a number above 0, not -1",
    "adam.weight_decay = -1": "[space.adam] weight_decay must be a number of 0 or more, not -1",
    '"sgd.queries" = 1': "only lr and weight_decay can depend on the optimizer, not 'queries'",
    '"a.lr" = 1': "[space.a]: [space] optimizer is never 'a'",
}


@pytest.mark.parametrize("line", SPACES)
def test_mistakes_in_a_space(protocol: Path, line: str) -> None:
    path = protocol / "deeplab.toml"
    path.write_text(path.read_text().replace("[space]", f"[space]\n{line}", 1))
    with pytest.raises(UserError, match=r"deeplab\.toml") as caught:
        both(protocol)
    assert SPACES[line] in one_line(caught.value)


def test_a_rate_that_no_optimizer_has(protocol: Path) -> None:
    path = protocol / "mask2former.toml"  # whose optimizer is always adamw
    text = path.read_text()
    path.write_text(text.replace("[baseline]", "[space.sgd]\nlr = 0.1\n[baseline]"))
    with pytest.raises(UserError, match=r"\[space.sgd\]: \[space\] optimizer is never 'sgd'"):
        protocol_of(protocol, "mask2former")
    path.write_text(text.replace("lr = { log_uniform = [1e-4, 1e-2] }\n", "", 1))
    with pytest.raises(UserError, match=r"\[space\] lacks 'lr'"):
        protocol_of(protocol, "mask2former")
    own_rate = text.replace("lr = { log_uniform = [1e-4, 1e-2] }\n", "adamw.lr = 0.1\n", 1)
    path.write_text(own_rate.replace("lr = 1.5e-4", "lr = 0.1"))
    assert protocol_of(protocol, "mask2former").space["adamw.lr"] == Choice((0.1,))


def protocol_of(folder: Path, name: str) -> protocols.Architecture:
    return protocols.load_architecture(folder, name)


def test_the_baseline_names_hyperparameters_not_entries(protocol: Path) -> None:
    path = protocol / "deeplab.toml"
    text = path.read_text().replace("[baseline]", "[space.sgd]\nlr = { log_uniform = [1e-2, 1] }\n[baseline]")
    path.write_text(text.replace('optimizer = "adamw"', 'optimizer = "sgd"'))
    own = both(protocol)[1]
    assert own.space["sgd.lr"] == Range(0.01, 1.0, log=True)
    assert own.baseline["lr"] == 1.5e-4
    path.write_text(
        text.replace("[baseline]", "ema = { choice = [0.0, 0.9] }\n[baseline]\nema = 0.5").replace(
            "[space.sgd]\n", "sgd."
        )
    )
    with pytest.raises(UserError, match=r"\[baseline\] ema must be one of 0.0, 0.9, not 0.5"):
        both(protocol)


def one_line(error: UserError) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1
    assert len(text) < 500
    return text
