"""Deformable attention, level by level, against transformers' stacked one."""

from __future__ import annotations

import torch

from segbench.architectures.parts import deformable
from segbench.architectures.parts.torchvision_ops import ensure_importable


def test_equals_transformers_with_gradients() -> None:
    ensure_importable()
    from transformers.models.mask2former import modeling_mask2former as theirs

    torch.manual_seed(0)
    shapes = [(2, 4), (4, 8), (7, 9)]
    batch, heads, levels, points, positions = 2, 4, 3, 4, sum(h * w for h, w in shapes)
    module = theirs.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(16 * heads, heads, levels, points)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # offsets of several pixels, some outside of the image
    states = torch.randn(batch, positions, 16 * heads, requires_grad=True)
    given = {
        "encoder_hidden_states": states,
        "position_embeddings": torch.randn(batch, positions, 16 * heads),
        "reference_points": torch.rand(batch, positions, levels, 2),
        "spatial_shapes_list": shapes,
    }
    direction = torch.randn(batch, positions, 16 * heads)
    found = []
    for forward in (module.forward, lambda *a, **k: deformable.attend(module, *a, **k)):
        output, weights = forward(states, **given)
        wanted = (states, *module.parameters())
        found.append((output, weights, *torch.autograd.grad((output * direction).sum(), wanted)))
    for ours, reference in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_every_layer_of_the_network_uses_it() -> None:
    from segbench.architectures import create

    model, _ = create("mask2former", 8, "random", {"size": "tiny"}, seed=0)
    layers = model.network.model.pixel_level_module.decoder.encoder.layers
    assert len(layers) == 2
    assert all(layer.self_attn.forward.func is deformable.attend for layer in layers)
