"""The protocols that compare architectures: every file of theirs can be built, and none is forgotten."""

from __future__ import annotations

import importlib
import inspect

import pytest

from segbench import architectures
from segbench.architectures.parts import published
from segbench.core import paths, protocol, space
from segbench.core.errors import UserError
from segbench.core.records import Hyperparameters
from segbench.engine import optimizers

STUDIES = [
    (study, name)
    for study in ("frontier-demo", "demo-pretrained")
    for name in protocol.architecture_names(paths.protocol_folder(study))
]

PUBLISHED = [
    (study, name)
    for study in ("cityscapes-50", "cityscapes-19", "cityscapes-full")
    for name in protocol.architecture_names(paths.protocol_folder(study))
]


@pytest.mark.parametrize(("study", "name"), STUDIES)
def test_every_architecture_of_a_study_can_be_built(study: str, name: str) -> None:
    own = protocol.load_architecture(paths.protocol_folder(study), name)
    if own.weights == "pretrained" and not published.cached(architectures.checkpoints(name)[str(own.model["size"])]):
        pytest.skip("the extra 'pretrained' is not installed")
    model, origin = architectures.create(name, 8, own.weights, own.model, 0, own.code)
    assert origin.kind == own.weights
    assert sum(parameter.numel() for parameter in model.parameters()) < 5e6


def test_the_frontier_has_every_architecture() -> None:
    """But one, which is `deeplabv3plus` in a semantic protocol."""
    expected = [name for name in architectures.names() if name != "panoptic_deeplab"]
    assert list(protocol.architecture_names(paths.protocol_folder("frontier-demo"))) == expected


@pytest.mark.parametrize(("study", "name"), PUBLISHED)
def test_the_published_recipes_fit_their_architectures(study: str, name: str) -> None:
    """At the tiny size: the published sizes take seconds each to build."""
    asked = protocol.load(paths.protocol_folder(study))
    own = protocol.load_architecture(paths.protocol_folder(study), name)
    recipe = asked.recipe_of(own)
    assert recipe.schedule in ("poly", "cosine")
    assert own.weights == "pretrained"
    model, _ = architectures.create(name, 8, "random", {**own.model, "size": "tiny"}, 0)
    size = own.model.get(
        "size",
        inspect.signature(importlib.import_module(f"segbench.architectures.{name}").build).parameters["size"].default,
    )
    assert size in architectures.checkpoints(name)
    chosen = Hyperparameters.from_params(
        own.baseline or {"lr": 1e-3, "weight_decay": 0.1, "optimizer": "adamw"}, recipe
    )
    groups = optimizers.groups(model, chosen)
    assert len(groups) > 1 or not (recipe.no_decay or recipe.parts_backbone)
    if own.baseline:  # a published rate lies within the range that is searched
        (rate,) = [own.space[space.entries(own.space, chosen.optimizer)["lr"]]]
        assert space.extremes(rate)[0] < chosen.lr < space.extremes(rate)[1]


@pytest.mark.parametrize("study", ["cityscapes-19", "cityscapes-full"])
def test_a_study_of_the_field_says_what_it_costs_and_what_to_come_near(study: str) -> None:
    folder = paths.protocol_folder(study)
    asked = protocol.load(folder)
    head = [line for line in (folder / "protocol.toml").read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    assert f"python -m segbench.search --protocol {study}" in head[1]
    assert f"python -m segbench.estimate --protocol {study}" in head[-1]
    assert (asked.data.size, len(asked.data.labels)) == ((1024, 2048), 19)
    steps = asked.final.epochs * (asked.final.train_images or 0) / 8
    assert steps == pytest.approx(80_000, rel=0.01)
    assert asked.passes.window == ((512, 1024) if study == "cityscapes-19" else None)
    for name in protocol.architecture_names(folder):
        own = protocol.load_architecture(folder, name)
        assert own.published
        assert f"{100 * own.published.miou:.1f}" in " ".join(head), name
        if asked.search.enqueue:
            assert own.baseline


def test_a_variant_is_the_architecture_before_the_at_sign() -> None:
    names = ("lraspp", "lraspp@b")
    plain, variant = (architectures.create(name, 8, "random", {"size": "tiny"}, 0)[1] for name in names)
    assert plain == variant
    with pytest.raises(UserError, match="no architecture 'unet'"):
        architectures.create("unet@b", 8, "random", {}, 0)
