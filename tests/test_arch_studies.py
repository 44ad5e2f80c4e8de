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


@pytest.mark.parametrize("name", protocol.architecture_names(paths.protocol_folder("cityscapes-50")))
def test_the_published_recipes_fit_their_architectures(name: str) -> None:
    """At the tiny size: the published sizes take seconds each to build."""
    asked = protocol.load(paths.protocol_folder("cityscapes-50"))
    own = protocol.load_architecture(paths.protocol_folder("cityscapes-50"), name)
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


def test_a_variant_is_the_architecture_before_the_at_sign() -> None:
    names = ("lraspp", "lraspp@b")
    plain, variant = (architectures.create(name, 8, "random", {"size": "tiny"}, 0)[1] for name in names)
    assert plain == variant
    with pytest.raises(UserError, match="no architecture 'unet'"):
        architectures.create("unet@b", 8, "random", {}, 0)
