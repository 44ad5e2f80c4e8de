"""Mask2Former: our batched loss against transformers' own, and the network's contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segbench import architectures
from segbench.architectures import mask2former
from segbench.architectures.mask2former import Mask2Former, Outputs
from segbench.architectures.parts import matching

C = 8  # classes
TINY = {"size": "tiny"}


def create(weights: str = "random", classes: int = C, seed: int = 0, **options: Any) -> Mask2Former:
    model, _ = architectures.create("mask2former", classes, weights, {**TINY, **options}, seed)
    assert isinstance(model, Mask2Former)
    return model


@pytest.fixture(scope="module")
def model() -> Mask2Former:
    return create()


# --- the loss, against transformers' ---------------------------------------------------------------------------------


def predictions(layers: int, images: int, queries: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(layers, images, queries, C + 1, generator=generator)
    masks = 3 * torch.randn(layers, images, queries, *size, generator=generator)
    return classes.requires_grad_(), masks.requires_grad_()


def blocks(ids: np.ndarray, cell: int = 8) -> Tensor:
    """(B, a, b) class numbers to (B, cell·a, cell·b) label maps, shifted so that mask pixels straddle borders."""
    labels = torch.from_numpy(ids.astype(np.int64)).repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    return labels.roll((1, 3), (1, 2))


def theirs(
    network: Any, classes: Tensor, masks: Tensor, labels: Tensor, patch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """transformers' weighted loss, summed over layers, on points that realise our weights.

    These are all pixel centres, and those of each mask's most uncertain quarter another 12 times: the quarter then has
    (1 + 12) / 4 of 4 parts, that is three quarters of the weight and its share of the last quarter.
    """
    height, width = masks.shape[-2:]
    pixels = height * width
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    centres = torch.stack([x, y], -1).view(-1, 2)

    def points(logits: Tensor, *_: Any) -> Tensor:
        quarter = logits.flatten(1).abs().argsort(1)[:, : pixels // 4].repeat(1, 12)
        return centres[torch.cat([torch.arange(pixels).expand(len(logits), -1), quarter], 1)]

    patch.setattr(network.criterion, "sample_points_using_uncertainty", points)
    patch.setattr(torch, "rand", lambda *_, **__: centres.repeat(4, 1)[None])  # the matcher's points
    patch.setattr(matching, "_POINTS", 4 * pixels)
    shares = matching.targets_of(labels, C, (height, width)).shares
    present = [image.unique() for image in labels]
    terms = network.get_loss_dict(
        masks_queries_logits=masks[-1],
        class_queries_logits=classes[-1],
        mask_labels=[share[ids] for share, ids in zip(shares, present, strict=True)],
        class_labels=present,
        auxiliary_predictions=[
            {"masks_queries_logits": m, "class_queries_logits": c}
            for c, m in zip(classes[:-1], masks[:-1], strict=True)
        ],
    )
    names = {"classes": "loss_cross_entropy", "masks": "loss_mask", "dice": "loss_dice"}
    return {ours: sum(v for k, v in terms.items() if k.startswith(name)) for ours, name in names.items()}  # type: ignore[misc]


def assert_equal_to_theirs(network: Any, labels: Tensor, queries: int = 10, seed: int = 0) -> None:
    size = (labels.shape[1] // 4, labels.shape[2] // 4)
    classes, masks = predictions(2, len(labels), queries, size, seed)
    with pytest.MonkeyPatch.context() as patch:
        expected = theirs(network, classes, masks, labels, patch)
        wanted = torch.autograd.grad(sum(expected.values()), (classes, masks))
        found = matching.loss(classes, masks, labels)
    gradients = torch.autograd.grad(sum(found), (classes, masks))
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-5, atol=1e-5)
    for ours, value in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-6)


MIXED = np.array([[[0, 0], [0, 0]], [[5, 5], [5, 5]], [[1, 2], [3, 4]], [[7, 7], [0, 7]]])  # 1, 1, 4 and 2 classes


@pytest.mark.parametrize(
    ("ids", "queries"),
    [(MIXED, 10), (MIXED[:1], 10), (MIXED[1:2], 10), (np.arange(8).reshape(1, 2, 4), 10), (MIXED, 3)],
    ids=["differing counts", "all void", "one class", "all classes", "fewer queries than classes"],
)
def test_loss_and_gradients_are_transformers_on_the_same_points(
    model: Mask2Former, ids: np.ndarray, queries: int
) -> None:
    assert_equal_to_theirs(model.network, blocks(ids), queries)


@settings(max_examples=8)
@given(ids=arrays(np.int64, (2, 2, 4), elements=st.integers(0, C - 1)), seed=st.integers(0, 1000))
def test_loss_is_transformers_for_any_labels(model: Mask2Former, ids: np.ndarray, seed: int) -> None:
    assert_equal_to_theirs(model.network, blocks(ids), seed=seed)


def test_loss_is_what_transformers_estimates_from_random_points(model: Mask2Former) -> None:
    labels = blocks(np.random.default_rng(0).integers(0, C, (2, 8, 8)), cell=32)
    classes, coarse = predictions(1, 2, 20, (8, 8))
    masks = F.interpolate(coarse[0], (64, 64), mode="bilinear")[None]
    present = [image.unique() for image in labels]
    whole = [(image == ids[:, None, None]).float() for image, ids in zip(labels, present, strict=True)]
    torch.manual_seed(0)
    terms = model.network.get_loss_dict(masks[0], classes[0], whole, present, [])
    found = matching.loss(classes, masks, labels)  # the class terms differ where random points change the matching
    torch.testing.assert_close(found.masks, terms["loss_mask"], rtol=0.02, atol=0)
    torch.testing.assert_close(found.dice, terms["loss_dice"], rtol=0.02, atol=0)


def test_loss_ignores_the_order_of_queries() -> None:
    classes, masks = predictions(2, 4, 10, (4, 4))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    one = matching.loss(classes, masks, blocks(MIXED))
    other = matching.loss(classes[:, :, order], masks[:, :, order], blocks(MIXED))
    torch.testing.assert_close(one, other)


def test_loss_of_bf16_and_of_huge_outputs_is_finite_float32() -> None:
    classes, masks = predictions(2, 4, 10, (4, 4))
    exact = matching.loss(classes, masks, blocks(MIXED))
    rough = matching.loss(classes.bfloat16(), masks.bfloat16(), blocks(MIXED))
    huge = matching.loss(classes.bfloat16() * 1e4, masks.bfloat16() * 1e4, blocks(MIXED))
    assert all(term.dtype == torch.float32 and bool(term.isfinite()) for term in (*rough, *huge))
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.02)


def test_loss_of_outputs_that_are_not_numbers_is_not_a_number_and_no_crash() -> None:
    classes, masks = predictions(1, 4, 10, (4, 4))
    assert bool(sum(matching.loss(classes, masks * torch.nan, blocks(MIXED))).isnan())


def test_unknown_labels_are_not_targets() -> None:
    classes, masks = predictions(2, 2, 10, (4, 4))
    found = matching.loss(classes, masks, torch.full((2, 16, 16), 255))
    sum(found).backward()
    assert found.masks.item() == found.dice.item() == 0 < found.classes.item()
    assert masks.grad is not None
    assert not masks.grad.any()


def test_perfect_masks_cost_nothing() -> None:
    labels = torch.arange(C).view(1, 1, C).repeat_interleave(4, 1).repeat_interleave(4, 2)
    targets = matching.targets_of(labels, C, (1, C)).shares
    classes = torch.cat([30 * torch.eye(C, C + 1), 30 * torch.eye(C + 1)[-1:]])[None, None]
    masks = torch.cat([60 * targets[0] - 30, torch.full((1, 1, C), -30.0)])[None, None]
    order = torch.tensor([3, 8, 1, 0, 7, 2, 5, 4, 6])
    assert sum(matching.loss(classes[:, :, order], masks[:, :, order], labels)).item() == pytest.approx(0, abs=1e-5)


def test_shares_are_means_over_what_a_cell_covers() -> None:
    labels = torch.randint(0, C, (2, 12, 20), generator=torch.Generator().manual_seed(1))
    shares = matching.targets_of(labels, C, (3, 5)).shares
    expected = [(labels[1, 4:8, 8:12] == c).float().mean() for c in range(C)]
    torch.testing.assert_close(shares[1, :, 1, 2], torch.stack(expected))
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 3, 5))


def test_loss_asks_the_host_for_no_number() -> None:
    """Each such question would stall a GPU; the one copy of the costs is no operator call on a CPU."""
    asked: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    classes, masks = predictions(2, 4, 10, (4, 4))
    with Watch():
        sum(matching.loss(classes, masks, blocks(MIXED))).backward()
    assert not asked & {"_local_scalar_dense", "nonzero", "unique", "_unique2", "masked_select", "is_nonzero"}


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 128), (96, 96), (72, 100), (37, 41)])
def test_any_input_size_trains(model: Mask2Former, size: tuple[int, int]) -> None:
    outputs = model.train()(torch.randn(2, 3, *size))
    mask_size = (-(-size[0] // 4), -(-size[1] // 4))
    assert outputs.classes.shape == (4, 2, 20, C + 1)
    assert outputs.masks.shape == (4, 2, 20, *mask_size)
    terms = model.losses(outputs, torch.randint(0, C, (2, *size)))
    assert set(terms) == {"class", "mask", "dice"}
    assert all(bool(t.isfinite()) and t.ndim == 0 for t in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert all("swin.layernorm" in name for name in without)
    scores = model.scores(outputs)
    assert scores.shape == (2, C, *mask_size)
    assert scores.dtype == torch.float32
    assert bool((scores >= 0).all())


def test_bf16_autocast_trains(model: Mask2Former) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.train()(torch.randn(2, 3, 64, 64))
    assert outputs.masks.dtype == torch.bfloat16
    assert bool(sum(model.losses(outputs, torch.randint(0, C, (2, 64, 64))).values()).isfinite())  # type: ignore[union-attr]
    assert model.scores(outputs).dtype == torch.float32


def test_evaluation_has_the_same_loss_as_training_and_inference_the_same_scores() -> None:
    model = create()
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, C, (2, 64, 64))
    with torch.inference_mode():
        trained = model.train()(images)
        evaluated = model.eval()(images)
        lean = model.for_inference()(images)
    assert model.losses(trained, labels) == model.losses(evaluated, labels)
    assert len(lean.classes) == len(lean.masks) == 1
    torch.testing.assert_close(model.scores(lean), model.scores(evaluated))


def test_scores_sum_class_probability_times_mask(model: Mask2Former) -> None:
    classes, masks = predictions(2, 1, 5, (4, 4))
    expected = sum(classes[1, 0, q].softmax(0)[3] * masks[1, 0, q].sigmoid() for q in range(5))
    torch.testing.assert_close(model.scores(Outputs(classes, masks))[0, 3], expected)


def test_log_probabilities_are_a_distribution(model: Mask2Former) -> None:
    scores = torch.rand(2, C, 3, 3)
    scores[0, :4] = 0
    scores[1, :, 0, 0] = 0
    log_probabilities = model.log_probabilities(scores)
    torch.testing.assert_close(log_probabilities.exp().sum(1), torch.ones(2, 3, 3))
    torch.testing.assert_close(log_probabilities[1, :, 1, 1].exp(), scores[1, :, 1, 1] / scores[1, :, 1, 1].sum())


def test_train_keeps_only_the_pixel_decoder_layers_from_asking_the_host(model: Mask2Former) -> None:
    idle = set(model.network.model.pixel_level_module.decoder.encoder.layers)
    assert all(m.training == (m not in idle) for m in model.train().modules())
    assert not any(m.training for m in model.eval().modules())


def test_it_starts_alike_where_transformers_starts_it_almost_at_zero() -> None:
    known, small = create().network, create().network
    for network in (known, small):
        decoder = network.model.transformer_module
        embeddings = [decoder.queries_features, decoder.queries_embedder, decoder.level_embed]
        changed = [*(each.weight for each in embeddings), network.model.pixel_level_module.decoder.level_embed]
        with torch.no_grad():
            for tensor in changed if network is small else ():
                tensor.mul_(0.02)
        mask2former._start_as_published(network)
        spread = [float(tensor.detach().std()) for tensor in changed]
        assert all(0.6 < each < 1.4 for each in spread), spread
    for name, tensor in create().network.state_dict().items():
        assert torch.equal(tensor, known.state_dict()[name])  # nothing is drawn where it started well


def test_a_few_steps_learn() -> None:
    model = create()
    images, labels = torch.randn(4, 3, 64, 64), blocks(MIXED, cell=32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = torch.stack(list(model.losses(model(images), labels).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_small_network_is_the_published_one() -> None:
    model = create(size="small").eval()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(68.7e6, rel=0.001)
    with torch.inference_mode():
        outputs = model(torch.randn(1, 3, 64, 64))
    assert outputs.classes.shape == (10, 1, 100, C + 1)
    assert outputs.masks.shape == (10, 1, 100, 16, 16)


# --- weights ---------------------------------------------------------------------------------------------------------
