"""Mask2Former's pixel decoder and masked attention for inference, on transformers' modules: the same numbers from less.

Left out is what only the layers' own predictions need: a layer's mask is wanted where its attention looks, at an eighth
to a 32nd of the image, so the features are resized once, not every layer's masks, which were nine of ten products at a
quarter. Attention is fused, and masks are not repeated for every head.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segbench.architectures.parts import deformable
from segbench.architectures.parts.matching import Outputs

Size = tuple[int, int]  # height, width


def predict(model: Any, class_predictor: Any, maps: list[Tensor]) -> Outputs:
    """model: transformers' Mask2FormerModel; maps: of its backbone, (B, C, h, w) from fine to coarse. The last layer's
    predictions, so that L = 1."""
    decoder = model.pixel_level_module.decoder
    levels, sizes = _encoded(decoder, maps)
    features = _fine(decoder, maps, levels[-1], sizes[-1])
    states = _attended(model.transformer_module, levels, sizes, features)
    masks = model.transformer_module.decoder.mask_predictor.mask_embedder(states) @ features.flatten(2)
    return Outputs(class_predictor(states)[None], masks.view(1, *masks.shape[:2], *features.shape[2:]))


def _encoded(decoder: Any, maps: list[Tensor]) -> tuple[list[Tensor], list[Size]]:
    """The pixel decoder's levels from coarse to fine, each (B, h·w, hidden), and their sizes."""
    projected = [project(one) for project, one in zip(decoder.input_projections, reversed(maps), strict=False)]
    sizes = [(int(one.shape[2]), int(one.shape[3])) for one in projected]
    x = torch.cat([one.flatten(2).transpose(1, 2) for one in projected], 1)
    places = [_positions(x.shape[2], *size, x.device) + decoder.level_embed[i] for i, size in enumerate(sizes)]
    positions, centres = torch.cat(places, 1), _centres(tuple(sizes), x.device)
    for layer in decoder.encoder.layers:
        value, offsets, logits = deformable.project(layer.self_attn, x + positions, x)
        mixed = deformable.sample_rows(value, sizes, centres, offsets, deformable.softmax(logits))
        x = layer.self_attn_layer_norm(x + layer.self_attn.output_proj(mixed))
        x = layer.final_layer_norm(x + layer.fc2(layer.fc1(x).relu_()))
    return list(torch.split(x, [height * width for height, width in sizes], 1)), sizes


def _fine(decoder: Any, maps: list[Tensor], level: Tensor, size: Size) -> Tensor:
    """(B, hidden, H/4, W/4): the finest level joined with the finer maps of the backbone."""
    x = _as_map(level, size)
    finer = reversed(maps[: decoder.num_fpn_levels])
    for lateral, output, fine in zip(decoder.lateral_convolutions, decoder.output_convolutions, finer, strict=True):
        joined = lateral(fine)
        x = output(joined + F.interpolate(x, joined.shape[2:], mode="bilinear", align_corners=False))
    features: Tensor = decoder.mask_projection(x)
    return features


def _attended(module: Any, levels: list[Tensor], sizes: list[Size], features: Tensor) -> Tensor:
    """The queries, (B, Q, hidden), after all decoder layers, normalised."""
    batch, queries = len(features), module.queries_embedder.weight
    projections = zip(module.input_projections, levels, sizes, strict=True)
    values = [project(_as_map(level, size)).flatten(2).transpose(1, 2) for project, level, size in projections]
    values = [value + module.level_embed.weight[i] for i, value in enumerate(values)]
    keys = [value + _positions(value.shape[2], *size, value.device) for value, size in zip(values, sizes, strict=True)]
    coarse = [F.interpolate(features, size, mode="bilinear", align_corners=False).flatten(2) for size in sizes]
    decoder = module.decoder
    x = module.queries_features.weight.repeat(batch, 1, 1)
    for index, layer in enumerate(decoder.layers):
        level = index % len(levels)
        masks = decoder.mask_predictor.mask_embedder(decoder.layernorm(x)) @ coarse[level]
        hidden = masks.sigmoid() < 0.5
        seen = ~(hidden & ~hidden.all(-1, keepdim=True))  # a query that would see nothing sees all
        x = layer.cross_attn_layer_norm(x + _cross(layer.cross_attn, x + queries, keys[level], values[level], seen))
        x = layer.self_attn_layer_norm(x + _self(layer.self_attn, x + queries, x))
        x = layer.final_layer_norm(x + layer.fc2(layer.activation_fn(layer.fc1(x))))
    normal: Tensor = decoder.layernorm(x)
    return normal


def _cross(module: Any, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """torch's MultiheadAttention without the attention weights, which it would average. seen: (B, Q, S) bool."""
    weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
    parts = zip((queries, keys, values), weights, biases, strict=True)
    q, k, v = (_heads(F.linear(part, weight, bias), module.num_heads) for part, weight, bias in parts)
    mixed: Tensor = module.out_proj(_joined(F.scaled_dot_product_attention(q, k, v, seen[:, None])))
    return mixed


def _self(module: Any, places: Tensor, values: Tensor) -> Tensor:
    parts = ((module.q_proj, places), (module.k_proj, places), (module.v_proj, values))
    q, k, v = (_heads(project(part), module.num_heads) for project, part in parts)
    mixed: Tensor = module.out_proj(_joined(F.scaled_dot_product_attention(q, k, v)))
    return mixed


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _as_map(level: Tensor, size: Size) -> Tensor:
    return level.transpose(1, 2).view(len(level), -1, *size)


@functools.lru_cache(maxsize=32)
def _positions(features: int, height: int, width: int, device: torch.device) -> Tensor:
    """(1, height·width, features): transformers' Mask2FormerSinePositionEmbedding, normalised."""
    half = features // 2
    wavelengths = 10_000 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
    axes = []
    for length in (height, width):
        angles = torch.arange(1, length + 1)[:, None] / (length + 1e-6) * (2 * math.pi) / wavelengths
        axes.append(torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1))
    y, x = axes[0][:, None].expand(-1, width, -1), axes[1].expand(height, -1, -1)
    return torch.cat([y, x], 2).flatten(0, 1)[None].to(device)


@functools.lru_cache(maxsize=32)
def _centres(sizes: tuple[Size, ...], device: torch.device) -> Tensor:
    """(1, S, levels, 2): the centre of every position of every level, as x, y in 0..1."""
    grids = []
    for height, width in sizes:
        y, x = ((torch.arange(length) + 0.5) / length for length in (height, width))
        grids.append(torch.cartesian_prod(y, x).flip(1))
    return torch.cat(grids)[None, :, None].expand(-1, -1, len(sizes), -1).to(device)
