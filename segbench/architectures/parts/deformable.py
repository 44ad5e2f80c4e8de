"""Multi-scale deformable attention of a few points (Zhu et al., arXiv 2010.04159), level by level.

transformers stacks the samples of all levels before it weighs them: at 256×256 that is 66 MB a layer, written, read and
kept for the backward pass. Summing each level's samples at once gives the same numbers without the stack.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    module: Any,
    hidden_states: Tensor,
    *,
    encoder_hidden_states: Tensor,
    position_embeddings: Tensor,
    reference_points: Tensor,
    spatial_shapes_list: list[tuple[int, int]],
    **unused: Any,
) -> tuple[Tensor, Tensor]:
    """What the forward of transformers' Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention returns.

    module: that module; we use its projections. hidden_states, encoder_hidden_states: (B, S, hidden), S the positions
    of all levels. reference_points: (B, S, levels, 2), 0..1. There is no attention mask: our images have no padding.
    """
    value, offsets, logits = project(module, hidden_states + position_embeddings, encoder_hidden_states)
    weights = logits.flatten(3).softmax(-1).view_as(logits)
    output = sample(value, spatial_shapes_list, reference_points, offsets, weights)
    return module.output_proj(output), weights


def project(module: Any, queries: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """queries, states: (B, S, hidden). Returns value and offsets, as `sample` takes them, and the weights' logits."""
    places = (*queries.shape[:2], module.n_heads, module.n_levels, module.n_points)
    value = module.value_proj(states).view(*places[:3], -1)
    return value, module.sampling_offsets(queries).view(*places, 2), module.attention_weights(queries).view(places)


def sample(
    value: Tensor, shapes: list[tuple[int, int]], reference_points: Tensor, offsets: Tensor, weights: Tensor
) -> Tensor:
    """value: (B, S, heads, d); shapes: (height, width) of each level; reference_points: (B, S, L, 2) as x, y in 0..1;
    offsets: (B, S, heads, L, P, 2) in pixels of their level; weights: (B, S, heads, L, P). Returns (B, S, heads·d).
    """
    batch, positions, heads, _ = value.shape
    total = None
    for level, one in enumerate(torch.split(value, [height * width for height, width in shapes], dim=1)):
        height, width = shapes[level]
        map_ = one.flatten(2).transpose(1, 2).reshape(batch * heads, -1, height, width)
        centre = 2 * reference_points[:, None, :, level, None] - 1  # (B, 1, S, 1, 2), as grid_sample counts: -1..1
        # Divided on the device: a tensor of the sizes would be a copy from the host at every call.
        x, y = offsets[:, :, :, level].transpose(1, 2).unbind(-1)  # (B, heads, S, P)
        grid = centre + torch.stack([x * (2 / width), y * (2 / height)], -1)
        sampled = F.grid_sample(map_.float(), grid.flatten(0, 1).float(), align_corners=False)  # (B·heads, d, S, P)
        weight = weights[:, :, :, level].transpose(1, 2).reshape(batch * heads, 1, positions, -1)
        part = (sampled * weight).sum(-1)
        total = part if total is None else total + part
    assert total is not None
    return total.view(batch, -1, positions).transpose(1, 2)


def sample_rows(
    value: Tensor, shapes: list[tuple[int, int]], reference_points: Tensor, offsets: Tensor, weights: Tensor
) -> Tensor:
    """What `sample` returns, without gradients, on a CPU: each output is a weighted sum of rows of `value`, the four
    neighbours of every place sampled, in one pass over memory and without a change of layout."""
    exported = torch.compiler.is_compiling()  # exporters know grid_sample
    if value.device.type != "cpu" or exported or min(min(shape) for shape in shapes) < 2:
        return sample(value, shapes, reference_points, offsets, weights)
    batch, total, heads, width = value.shape
    positions, points = offsets.shape[1], offsets.shape[4]
    # Levels and points are one dimension, the last, with the levels' constants repeated along it.
    lengths = torch.tensor([(columns, rows) for rows, columns in shapes]).repeat_interleave(points, 0).unbind(1)
    firsts, nearnesses = [], []
    for axis, length in enumerate(lengths):  # x and y
        centres = reference_points[..., axis].repeat_interleave(points, -1)[:, :, None] * length - 0.5
        places = offsets[..., axis].float().flatten(3).add_(centres)  # (B, S, heads, L·P), in pixels
        first = places.clamp(min=0).minimum(length - 2.0).floor_()  # of the two neighbours that can be within reach
        distances = places.sub_(first)
        firsts.append(first)
        nearnesses += [_nearness(distances), _nearness(distances - 1)]
    left, right, above, below = nearnesses
    weights = weights.flatten(3)
    pairs = [(row, column) for row in (above * weights, below * weights) for column in (left, right)]
    shares = torch.stack([row * column for row, column in pairs], 3)  # (B, S, heads, 4, L·P)
    columns, areas = lengths[0], torch.tensor([rows * columns for rows, columns in shapes])
    starts = (areas.cumsum(0) - areas).repeat_interleave(points)
    image = torch.arange(batch).view(-1, 1, 1, 1) * total
    base = (image + starts) * heads + torch.arange(heads).view(-1, 1)  # (B, 1, heads, L·P)
    corner = firsts[1].mul_(columns).add_(firsts[0]).int().mul_(heads).add_(base.int())
    steps = torch.stack([torch.zeros_like(columns), torch.ones_like(columns), columns, columns + 1]) * heads
    bags = (batch * positions * heads, -1)
    return F.embedding_bag(
        (corner.unsqueeze(3) + steps.int()).view(bags),
        value.float().reshape(-1, width),
        mode="sum",
        per_sample_weights=shares.view(bags),
    ).view(batch, positions, -1)


def softmax(logits: Tensor) -> Tensor:
    """logits: (…, L, P). Returns their softmax over the last two dimensions, float32, without gradients. Of so few
    numbers torch's own takes six times as long on a CPU."""
    rows = logits.float().flatten(-2)
    weights = (rows - rows.amax(-1, keepdim=True)).exp_()
    return weights.div_(weights.sum(-1, keepdim=True)).view_as(logits)


def _nearness(distances: Tensor) -> Tensor:
    """The weight of a neighbour in bilinear interpolation: 1 at its place, 0 from one pixel away."""
    return distances.abs().neg_().add_(1).clamp_(min=0)
