"""The contract test for architectures: it passes one that is right, and says of each wrong one what is wrong."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from segbench import testing
from segbench.architectures.parts.weights import Weights, load_state_dict, read_state_dict
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet

EXAMPLE = Path(__file__).parent.parent / "examples" / "my_architecture" / "my_unet.py"


class Net(Segmenter):
    """The smallest that passes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images)).relu())

    def losses(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"main": nn.functional.cross_entropy(outputs.float(), labels)}

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.float()


def made(kind: type[Net]) -> Callable[..., Segmenter]:
    """The `build` of a kind of Net, right in all that is `build`'s."""

    def build(classes: int, weights: Weights) -> Segmenter:
        if weights.kind in ("pretrained", "folder"):
            raise UserError("there are none")
        net = kind(classes)
        if weights.path:
            load_state_dict(net, read_state_dict(weights.path), ("last.",), str(weights.path))
        return net

    return build


def test_the_example_passes_as_a_function_and_as_a_file() -> None:
    testing.check_architecture(EXAMPLE, width=8)
    spec = importlib.util.spec_from_file_location("example", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(AssertionError, match="build takes no option 'wide'; it takes classes, weights, width"):
        testing.check_architecture(module.build, wide=8)


def test_the_smallest_passes() -> None:
    testing.check_architecture(made(Net))


def test_a_backbone_of_its_own_layers() -> None:
    def named(layers: Callable[[Net], list[nn.Module]]) -> Callable[[], None]:
        kind = type("Named", (Net,), {"backbone": layers})
        return lambda: testing.names_its_backbone(testing.Subject(made(kind), {}))

    named(lambda net: [net.first, net.norm])()
    for layers, message in (
        (lambda net: [net.first, nn.Linear(2, 2)], "layer 1 has no parameters of the network"),
        (lambda net: [nn.ReLU()], "layer 0 has no parameters of the network"),
        (lambda net: [net.first, net.first], "layer 1 shares parameters with an earlier one"),
        (lambda net: [net.first, net.norm, net.last], "backbone must leave out the head"),
    ):
        with pytest.raises(AssertionError, match=message):
            named(layers)()


def test_a_file_without_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing.py cannot be read as Python code: No such file"):
        testing.check_architecture(tmp_path / "missing.py")
    (tmp_path / "net.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"net.py has no function 'build\(classes, weights\)'"):
        testing.check_architecture(tmp_path / "net.py")


class NormAndActivation(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input).relu()


class WithSubclass(Net):
    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.norm = NormAndActivation(16)


class DropsItsNorm(Net):
    def for_inference(self) -> Self:
        self.norm = nn.Identity()
        return self.eval()


class HalfScores(Net):
    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.half()


class WrongClasses(Net):
    def __init__(self, classes: int) -> None:
        super().__init__(classes + 1)


class ListOfLosses(Net):
    def losses(self, outputs: Tensor, labels: Tensor) -> Any:
        return list(super().losses(outputs, labels).values())


class PixelLosses(Net):
    def losses(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"main": nn.functional.cross_entropy(outputs, labels, reduction="none")}


class UnlikeLosses(Net):
    def losses(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return super().losses(outputs, (labels + 1) % testing.CLASSES)


class ClassesAsSegments(Net):
    def segments(self, outputs: Tensor, predicted: Tensor, labels: LabelSet) -> Tensor:
        return predicted


class OnlySaysItLearnsSegments(Net):
    learns_segments = True


class Frozen(Net):
    def losses(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"main": super().losses(outputs.detach(), labels)["main"] + 0 * self.last.bias.sum()}


class FixedSize(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.unflatten(2, (-1, 16)).flatten(2, 3))


class LooksAtItsBatch(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean())


class HidesState(Net):
    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.steps = 0

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(images) * (1 + self.steps)


class SharesTensors(Net):
    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.again = nn.Parameter(self.last.weight.detach())
        self.again.data = self.last.weight.data

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * self.again.sum()


class NeedsTwo(Net):
    def forward(self, images: Tensor) -> Tensor:
        pooled = self.norm(self.first(images).mean((2, 3), keepdim=True))
        return super().forward(images) + self.last(pooled)


class NotNormalised(Net):
    def log_probabilities(self, scores: Tensor) -> Tensor:
        return scores


class Full(Net):
    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        return self.last(self.norm(x).relu()) if x.dtype == torch.float32 else torch.linalg.inv(x)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (WithSubclass, "norm is a NormAndActivation; only nn.BatchNorm2d itself may normalise over the batch"),
        (DropsItsNorm, "for_inference must not change the scores; check norms that were folded or dropped"),
        (HalfScores, r"scores must be \(2, 8, h, w\) float32 .* not \(2, 8, 32, 64\) torch.float16"),
        (WrongClasses, r"scores must be \(2, 8, h, w\) float32 .* not \(2, 9, 32, 64\)"),
        (ListOfLosses, "losses must return a dict of tensors"),
        (PixelLosses, "losses: 'main' must be one finite number"),
        (UnlikeLosses, "its scores must match what its losses teach"),
        (ClassesAsSegments, "segments must be .* VOID, class . SPAN of stuff"),
        (OnlySaysItLearnsSegments, "it fails with images of .* OnlySaysItLearnsSegments does not learn segments"),
        (Frozen, "the loss must reach the parameters; 1 of 6 got a gradient"),
        (FixedSize, "it fails with images of 72×100 pixels: RuntimeError"),
        (LooksAtItsBatch, "the scores of an image must not depend on its batch"),
        (HidesState, "all it learns must be in the state dict"),
        (SharesTensors, "its state dict must go through a safetensors file"),
        (NeedsTwo, "it fails with a batch of 1, its smallest_batch; raise that to 2"),
        (NotNormalised, "log_probabilities must be normalised over the classes"),
        (Full, "it fails with bfloat16 autocast"),
    ],
)
def test_each_breach_of_the_contract_has_its_message(kind: type[Net], error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        testing.check_architecture(made(kind))


def ignores_weights(classes: int, weights: Weights) -> Segmenter:
    return Net(classes)


def ignores_published(classes: int, weights: Weights) -> Segmenter:
    return made(Net)(classes, weights if weights.path else Weights("random"))


def own_randomness(classes: int, weights: Weights) -> Segmenter:
    net = made(Net)(classes, weights)
    nn.init.constant_(net.last.bias, random.random())
    return net


def own_seed(classes: int, weights: Weights) -> Segmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return made(Net)(classes, weights)


def fails_on_others(classes: int, weights: Weights) -> Segmenter:
    net = made(Net)(classes, Weights("random"))
    if weights.path:
        net.load_state_dict(read_state_dict(weights.path))
    return net


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda classes: Net(classes), "build must take 'weights'; it takes classes"),
        (lambda classes, weights: nn.Conv2d(3, 3, 1), "build must return a Segmenter, not a Conv2d"),
        (ignores_weights, "build must load the state-dict file weights.path"),
        (ignores_published, "build must raise UserError for weights 'pretrained', because its CHECKPOINTS hold none"),
        (own_randomness, "two networks built with the same seed differ"),
        (own_seed, "networks built with two seeds are equal"),
        (fails_on_others, "build must raise UserError for a state dict that does not fit, not RuntimeError"),
    ],
)
def test_each_mistake_in_build_has_its_message(build: Callable[..., Any], error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        testing.check_architecture(build)
