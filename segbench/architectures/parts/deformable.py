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
    batch, positions, _ = hidden_states.shape
    heads, levels, points = module.n_heads, module.n_levels, module.n_points
    queries = hidden_states + position_embeddings
    value = module.value_proj(encoder_hidden_states).view(batch, positions, heads, -1)
    offsets = module.sampling_offsets(queries).view(batch, positions, heads, levels, points, 2)
    weights = module.attention_weights(queries).view(batch, positions, heads, levels * points).softmax(-1)
    weights = weights.view(batch, positions, heads, levels, points)
    output = sample(value, spatial_shapes_list, reference_points, offsets, weights)
    return module.output_proj(output), weights


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
