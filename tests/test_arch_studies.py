"""The protocols that compare architectures: every file of theirs can be built, and none is forgotten."""

from __future__ import annotations

import pytest

from segbench import architectures
from segbench.architectures.parts import published
from segbench.core import paths, protocol
from segbench.core.errors import UserError

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
    assert tuple(protocol.architecture_names(paths.protocol_folder("frontier-demo"))) == architectures.names()


def test_a_variant_is_the_architecture_before_the_at_sign() -> None:
    names = ("lraspp", "lraspp@b")
    plain, variant = (architectures.create(name, 8, "random", {"size": "tiny"}, 0)[1] for name in names)
    assert plain == variant
    with pytest.raises(UserError, match="no architecture 'unet'"):
        architectures.create("unet@b", 8, "random", {}, 0)
