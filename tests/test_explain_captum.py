"""Our Grad-CAM and occlusion maps are those of Captum, on trained kinds of networks and to the last digits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from segbench import architectures
from segbench.engine.inference import resize
from segbench.explain import local, regions
from segbench.explain.gradcam import Cam, grad_cam
from segbench.explain.probe import Probe, Scene
from segbench.explain.regions import Region
from tests import planted

attr = pytest.importorskip("captum.attr", reason="captum is in the extra dev")
NAMES = ("deeplab", "mask2former")


@pytest.fixture(params=NAMES)
def asked(request: pytest.FixtureRequest) -> tuple[Probe, Scene, Region]:
    """A network of an architecture of the note, a scene, and the region the maps are about."""
    model, _ = architectures.create(request.param, planted.CLASSES, "random", {"size": "tiny"}, 0)
    scene = large(planted.patches(0, noise=0.3))
    region = regions.region(scene)
    assert region
    return planted.probe(model), scene, region


def large(scene: Scene) -> Scene:
    """Twice the side, so that feature maps have places."""

    def doubled(plane: Tensor) -> Tensor:
        return plane.repeat_interleave(2, -2).repeat_interleave(2, -1)

    return planted.scene(0, doubled(scene.image), doubled(scene.truth))


def evidence(probe: Probe, region: Region) -> Callable[[Tensor], Tensor]:
    """What Captum explains: (B, 3, H, W) to the (B,) mean log-probabilities of the region."""

    def asked(images: Tensor) -> Tensor:
        scores = resize(probe.model.scores(probe.model(images)), tuple(images.shape[-2:]))
        return probe.model.log_probabilities(scores)[:, region.category][:, region.mask].mean(1)

    return asked


def test_grad_cam_is_captums(asked: tuple[Probe, Scene, Region]) -> None:
    probe, scene, region = asked
    ours = grad_cam(probe.model, scene.image, region)
    assert isinstance(ours, Cam)
    layer = probe.model.get_submodule(ours.layer)
    theirs = attr.LayerGradCam(evidence(probe, region), layer).attribute(scene.image[None])
    assert ours.signed.std() > 0
    assert torch.allclose(ours.signed, resize(theirs.detach(), scene.size)[0, 0], rtol=1e-4, atol=1e-7)


def test_occlusion_is_captums(asked: tuple[Probe, Scene, Region]) -> None:
    probe, scene, region = asked
    tiles = regions.tiles(scene, region)
    ours = torch.tensor(local.maps(probe, scene, probe.model)["occlusion"])
    window = (3, scene.size[0] // tiles.shape[0], scene.size[1] // tiles.shape[1])
    with torch.no_grad():
        theirs = attr.Occlusion(evidence(probe, region)).attribute(
            scene.image[None], window, strides=window, baselines=scene.others[0][None]
        )
    theirs = tiles.mean(theirs[0, 0]) * tiles.outside
    assert ours.std() > 0
    assert torch.allclose(ours, theirs, atol=2e-5)  # ours are stored with five decimals
