"""The contract of an architecture, as a test for its author: it takes seconds on a CPU, and CHECKS are its rules.

def test_my_net():
    testing.check_architecture(my_net.build, width=8)
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures.parts import outside, published
from segbench.architectures.parts.weights import Weights
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import SPAN, VOID, things
from segbench.core.records import Scalar
from segbench.data.batches import normalise
from segbench.engine import checkpoint, inference
from segbench.runtime.compute import choose

CLASSES = 8
SIZES = ((32, 64), (96, 96), (72, 100))  # (height, width); the last is not a multiple of common strides
_ROUNDS, _STEPS, _LR = 15, 20, 3e-3
Build = Callable[..., Any]


def check_architecture(build: Build | str | Path, **options: Scalar) -> None:
    """Raises AssertionError, with the expected and the found, if an architecture breaks the contract.

    `build`: the function `build(classes, weights, **options)`, or a file with that function, which is run; `options`:
    its keyword arguments, from the `[model]` table and the architecture's searched parameters. Choose a small size: the
    network is trained for up to 300 steps. Raises UserError if a file has no `build`.
    """
    subject = Subject(build if callable(build) else outside.build_of(Path(build)), options)
    for check in CHECKS:
        check(subject)


class Subject:
    """An architecture with the options to test."""

    def __init__(self, build: Build, options: dict[str, Scalar]) -> None:
        self.build, self.options = build, options

    def model(self, seed: int = 0, weights: Weights | None = None) -> Segmenter:
        """A newly built model; the caller's random state is not changed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build(classes=CLASSES, weights=weights or Weights("random"), **self.options)
        _require(isinstance(model, Segmenter), f"build must return a Segmenter, not a {type(model).__name__}")
        return cast(Segmenter, model)

    def trained(self, steps: int = 3) -> Segmenter:
        """A model after some training steps, so that its statistics differ from their initial values."""
        model, (images, labels) = self.model().train(), _batch(self.model())
        optimizer = torch.optim.AdamW(model.parameters(), _LR)
        for _ in range(steps):
            _step(model, optimizer, images, labels)
        return model


def takes_classes_and_weights(subject: Subject) -> None:
    """`build` accepts both by name, and all options."""
    names = inspect.signature(subject.build).parameters
    for name in ("classes", "weights"):
        _require(name in names, f"build must take '{name}'; it takes {', '.join(names) or 'nothing'}")
    for name in subject.options:
        _require(name in names, f"build takes no option '{name}'; it takes {', '.join(names)}")


def seed_decides_the_weights(subject: Subject) -> None:
    """Two networks built with one seed are equal; networks built with two seeds differ."""
    states = [subject.model(seed).state_dict() for seed in (0, 0, 1)]
    same = all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    _require(same, "two networks built with the same seed differ: take random numbers only from torch's generator")
    other = any(not torch.equal(value, states[2][name]) for name, value in states[0].items())
    _require(other, "networks built with two seeds are equal: leave the seeding to segbench")


def trains_and_scores_images_of_any_size(subject: Subject) -> None:
    """Finite losses in both modes, gradients for (nearly) all parameters, scores and segments as declared."""
    for size in SIZES:
        model = subject.model().train()
        images, labels = _batch(model, size)
        with _of(f"images of {size[0]}×{size[1]} pixels"):
            terms = _losses(model, model(images), labels)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
            trainable = [p for p in model.parameters() if p.requires_grad]
            reached = sum(p.grad is not None for p in trainable)
            rule = f"the loss must reach the parameters; {reached} of {len(trainable)} got a gradient"
            _require(bool(trainable) and reached > 0.9 * len(trainable), rule)
            with torch.inference_mode():
                outputs = model.eval()(images)
                _losses(model, outputs, labels)
                _require_scores(model, model.scores(outputs))
                _require_segments(model, outputs, labels)


def runs_under_autocast(subject: Subject) -> None:
    """`forward` works under bfloat16 autocast; losses and scores are float32."""
    model = subject.model().train()
    images, labels = _batch(model)
    with _of("bfloat16 autocast"):
        with choose("cpu", "bf16").autocast():
            outputs = model(images)
        _losses(model, outputs, labels)
        _require_scores(model, model.scores(outputs))


def trains_on_the_smallest_batch(subject: Subject) -> None:
    """`smallest_batch` images are enough: BatchNorm needs two values per channel."""
    model = subject.model().train()
    images, labels = _batch(model)
    number = model.smallest_batch
    with _of(f"a batch of {number}, its smallest_batch; raise that to 2 if BatchNorm follows a global pooling"):
        _losses(model, model(images[:number]), labels[:number])


def scores_each_image_by_itself(subject: Subject) -> None:
    """In evaluation mode an image's scores do not depend on the other images of its batch."""
    model = subject.trained().eval()
    images, _ = _batch(model)
    together, alone = (_scores(model, batch) for batch in (images, images[:1]))
    _require_close(together[:1], alone, "the scores of an image must not depend on its batch in evaluation mode")


def learns_one_batch_by_heart(subject: Subject) -> None:
    """Its losses lead to correct scores, on two images whose colours identify the classes, within 300 steps."""
    model = subject.model().train()
    labels = torch.zeros(2, 32, 64, dtype=torch.long)
    labels[:, 16:] = 1
    labels[1, :, 32:] = 5
    images = F.one_hot(labels, CLASSES)[..., [0, 1, 5]].permute(0, 3, 1, 2).float()
    optimizer = torch.optim.AdamW(model.parameters(), _LR)
    losses, right = [], 0.0
    for _ in range(_ROUNDS):
        losses += [_step(model, optimizer, images, labels) for _ in range(_STEPS)]
        with torch.no_grad(), _seeded():
            scores = inference.resize(model.scores(model(images)), labels.shape[1:])
        right = (scores.argmax(1) == labels).float().mean().item()
        if losses[-1] < 0.6 * losses[0] and right > 0.8:
            return
    course = f"{losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} steps of AdamW on one batch"
    _require(losses[-1] < 0.6 * losses[0], f"its loss must fall below 0.6 of its first value: it was {course}")
    raise AssertionError(f"its scores must match what its losses teach: {right:.0%} of the pixels are right")


def keeps_all_it_learns_in_its_state_dict(subject: Subject) -> None:
    """A checkpoint is the whole model: a new network with a trained network's tensors scores the same."""
    model, other = subject.trained(), subject.model(1)
    images, _ = _batch(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        try:
            checkpoint.save(model, path)
            checkpoint.load(other, path)
        except Exception as error:
            raise AssertionError(f"its state dict must go through a safetensors file: {error}") from error
    rule = "a network loaded from another's checkpoint must score the same; all it learns must be in the state dict"
    _require_close(_scores(model.eval(), images), _scores(other.eval(), images), rule)
    _require_close(_scores(model, images), _scores(copy.deepcopy(model), images), "so must a copy.deepcopy of it")


def shares_its_batch_norms(subject: Subject) -> None:
    """Only nn.BatchNorm2d normalises over the batch: processes that train together share the statistics of no other
    class, and of no subclass."""
    for name, module in subject.model().named_modules():
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        rule = f"{name} is a {type(module).__name__}; only nn.BatchNorm2d itself may normalise over the batch"
        _require(not norm or type(module) is nn.BatchNorm2d, f"{rule}: use that, with its activation as a module")


def names_its_backbone(subject: Subject) -> None:
    """Of the layers that `backbone` returns, each has parameters of the network, and no parameter is in two."""
    model = subject.model()
    own, seen = {id(p) for p in model.parameters()}, set[int]()
    for number, layer in enumerate(model.backbone()):
        parameters = {id(p) for p in layer.parameters()}
        _require(bool(parameters) and parameters <= own, f"backbone: layer {number} has no parameters of the network")
        _require(not parameters & seen, f"backbone: layer {number} shares parameters with an earlier one")
        seen |= parameters
    _require(len(seen) < len(own), "backbone must leave out the head; what is in no layer counts as the head")


def scores_alike_in_inference(subject: Subject) -> None:
    """`for_inference` may fold and drop modules, but does not change the scores; rounding the weights to bfloat16
    changes them little."""
    model = subject.trained(30)
    _disturb_norms(model)
    images, _ = _batch(model)
    pixels = torch.randint(0, 256, (2, 64, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = _scores(model.eval(), images)
    after = _scores(copy.deepcopy(model).for_inference(), images)
    _require_close(before, after, "for_inference must not change the scores; check norms that were folded or dropped")
    compute = choose("cpu", "bf16")
    with torch.inference_mode():
        normalised = normalise(pixels, model.normalisation)
        expected = inference.scores(model, normalised, compute)
        rounded = inference.scores(inference.ready(copy.deepcopy(model), compute), normalised, compute)
    off = (expected - rounded).abs().mean().item() / expected.abs().mean().clamp(min=1e-6).item()
    _require(off < 0.05, f"rounding its weights to bfloat16 must hardly change its scores; they differ by {off:.0%}")


def loads_weights_or_refuses_them(subject: Subject) -> None:
    """Training starts from a given state-dict file; unusable weights raise UserError and are never ignored."""
    source = subject.model(1).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        own, other = Path(folder) / "own.pth", Path(folder) / "other.pth"
        torch.save(source, own)
        torch.save({"some.weight": torch.zeros(3)}, other)
        with _of("a state-dict file of its own"):
            loaded = subject.model(0, Weights("file", own)).state_dict()
        same = all(torch.equal(value, loaded[name]) for name, value in source.items())
        _require(same, "build must load the state-dict file weights.path; its tensors are not in the network")
        _require_refused(subject, Weights("file", other), "a state dict that does not fit")
    if published.of(subject.build, subject.options) is None:
        _require_refused(subject, Weights("pretrained"), "weights 'pretrained', because its CHECKPOINTS hold none")


CHECKS = (
    takes_classes_and_weights,
    seed_decides_the_weights,
    trains_and_scores_images_of_any_size,
    runs_under_autocast,
    trains_on_the_smallest_batch,
    scores_each_image_by_itself,
    learns_one_batch_by_heart,
    keeps_all_it_learns_in_its_state_dict,
    shares_its_batch_norms,
    names_its_backbone,
    scores_alike_in_inference,
    loads_weights_or_refuses_them,
)


def _batch(model: Segmenter, size: tuple[int, int] = SIZES[0]) -> tuple[Tensor, Tensor]:
    """Two images, always the same, (2, 3, H, W) normalised, and their labels, (2, H, W) int64."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=generator)
    return normalise(pixels, model.normalisation), torch.randint(0, CLASSES, (2, *size), generator=generator)


def _step(model: Segmenter, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    with _seeded():
        loss = torch.stack(list(model.losses(model(images), labels).values())).sum()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def _scores(model: Segmenter, images: Tensor) -> Tensor:
    return model.scores(model(images))


def _disturb_norms(model: nn.Module) -> None:
    """Changes the norms' statistics, so that a dropped norm shows: a new network's norms do almost nothing."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        mean, variance = (getattr(module, name, None) for name in ("running_mean", "running_var"))
        if isinstance(mean, Tensor) and isinstance(variance, Tensor):
            mean.add_(0.3 * torch.randn(mean.shape, generator=generator))
            variance.mul_(0.5 + torch.rand(variance.shape, generator=generator))


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextlib.contextmanager
def _of(what: str) -> Iterator[None]:
    """Turns any exception of the network into an AssertionError that names the input `what`."""
    try:
        with _seeded():
            yield
    except Exception as error:
        known = isinstance(error, AssertionError)
        told = f"with {what}: {error}" if known else f"it fails with {what}: {type(error).__name__}: {error}"
        raise AssertionError(told) from error


def _losses(model: Segmenter, outputs: Any, labels: Tensor) -> dict[str, Tensor]:
    """All terms, those of segments too where the network learns them: here each class is one object of an image."""
    _require_losses(terms := model.losses(outputs, labels))
    if model.learns_segments:
        _require_losses(of_segments := model.segment_losses(outputs, labels, labels * SPAN + 1))
        terms = terms | {f"segments' {name}": term for name, term in of_segments.items()}
    return terms


def _require_losses(terms: Any) -> None:
    _require(isinstance(terms, dict) and bool(terms), f"losses must return a dict of tensors, not {terms!r:.60}")
    for name, term in terms.items():
        scalar = isinstance(term, Tensor) and term.shape == ()
        _require(scalar and bool(torch.isfinite(term)), f"losses: '{name}' must be one finite number, not {term!r:.60}")


def _require_scores(model: Segmenter, scores: Any) -> None:
    _require(isinstance(scores, Tensor), f"scores must return a tensor, not a {type(scores).__name__}")
    shape = f"{tuple(scores.shape)} {scores.dtype}"
    fits = scores.ndim == 4 and tuple(scores.shape[:2]) == (2, CLASSES) and scores.dtype == torch.float32
    _require(fits, f"scores must be (2, {CLASSES}, h, w) float32 for 2 images and {CLASSES} classes, not {shape}")
    total = model.log_probabilities(scores).exp().sum(1)
    off = (total - 1).abs().max().item()
    _require(off < 1e-3, f"log_probabilities must be normalised over the classes; their sum is off by {off:.2g}")


def _require_segments(model: Segmenter, outputs: Any, labels: Tensor) -> None:
    found = model.segments(outputs, labels, DEFAULT)
    kinds = {(k // SPAN, k % SPAN > 0) for k in found[found != VOID].tolist()}
    known = {(index, index in things(DEFAULT)) for index in range(CLASSES)}
    fits = kinds <= known and (found.shape, found.dtype) == (labels.shape, torch.int64)
    _require(fits, "segments must be (B, H, W) int64: VOID, class * SPAN of stuff, class * SPAN + n, n > 0, of things")


def _require_refused(subject: Subject, weights: Weights, what: str) -> None:
    try:
        subject.model(0, weights)
    except UserError:
        return
    except Exception as error:
        raise AssertionError(f"build must raise UserError for {what}, not {type(error).__name__}: {error}") from error
    raise AssertionError(f"build must raise UserError for {what}; it ignored them and returned a network")


def _require_close(expected: Tensor, found: Tensor, rule: str) -> None:
    _require(expected.shape == found.shape, f"{rule}: {tuple(expected.shape)} became {tuple(found.shape)}")
    scale, off = expected.abs().max().item(), (expected - found).abs().max().item()
    _require(off <= 1e-3 * max(scale, 1.0), f"{rule}: they differ by up to {off:.3g}, of at most {scale:.3g}")


def _require(truth: bool, rule: str) -> None:
    if not truth:
        raise AssertionError(rule)
