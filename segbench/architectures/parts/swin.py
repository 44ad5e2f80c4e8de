"""Swin's forward pass for inference, on transformers' modules: the same numbers from fewer copies and products.

transformers pads and rolls a map, cuts it into windows, projects these, padding included, and takes all that back: nine
copies of the map a layer, and at 256×256 and 16×16 tokens 1.7 times as many projections as tokens. Here every token is
projected once, one gather lays the tokens out as windows, and one puts them back. Windows of one mask lie together, so
that attention broadcasts four masks instead of reading one per window.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_APART = -100.0  # transformers' and the paper's mask of tokens that only rolling has made neighbours


class _Windows(NamedTuple):
    """How the tokens of B maps lie in N windows of A places each, of all maps together, those of one mask in a row."""

    tokens: Tensor  # (N·A,) int64, the token at each place; B·height·width is padding
    places: Tensor  # (B·height·width,) int64, the place of each token
    masks: tuple[tuple[int, Tensor], ...]  # number of windows, and their mask: (A, A), 0 where they may see each other


def maps(backbone: Any, images: Tensor) -> list[Tensor]:
    """What transformers' SwinBackbone makes of images, (B, 3, H, W): of each stage (B, C, h, w), in channels_last."""
    first = backbone.swin.encoder.layers[0].blocks[0].attention
    if not hasattr(first, "q_proj") or not hasattr(first, "relative_position_bias"):  # an older transformers' names
        return list(backbone(images).feature_maps)
    x, (height, width) = backbone.swin.embeddings(images)
    found = []
    for stage, norm in zip(backbone.swin.encoder.layers, backbone.hidden_states_norms.values(), strict=True):
        for layer in stage.blocks:
            x = _attended(layer, x, (height, width))
            x = x + layer.mlp(layer.layernorm_after(x))
        found.append(norm(x).view(len(x), height, width, -1).permute(0, 3, 1, 2))
        if stage.downsample is not None:
            x = stage.downsample(x, (height, width))
            height, width = (height + 1) // 2, (width + 1) // 2
    return found


def _attended(layer: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
    """x: (B, height·width, C). Returns it with the attention inside its windows added."""
    attention, channels = layer.attention, x.shape[2]
    windows = _windows(len(x), *size, layer.window_size, int(layer.shift_size), x.device)
    rows = torch.zeros(len(windows.places) + 1, channels, dtype=_dtype(x), device=x.device)  # the last row is padding
    rows[:-1] = layer.layernorm_before(x).flatten(0, 1)
    heads = (-1, layer.window_size**2, attention.num_attention_heads, attention.head_dim)
    queries, keys, values = (
        project(rows).index_select(0, windows.tokens).view(heads).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias, mixed, first = attention.relative_position_bias(), [], 0
    for number, mask in windows.masks:
        part = slice(first, first := first + number)
        one = F.scaled_dot_product_attention(
            queries[part], keys[part], values[part], (bias + mask).to(queries.dtype), scale=attention.scaling
        )
        mixed.append(one.transpose(1, 2).reshape(-1, channels))
    whole = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
    moved: Tensor = attention.o_proj(whole.index_select(0, windows.places))
    return x + moved.view_as(x)


def _dtype(x: Tensor) -> torch.dtype:
    """What autocast casts the inputs of products to."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@functools.lru_cache(maxsize=64)
def _windows(batch: int, height: int, width: int, window: int, shift: int, device: torch.device) -> _Windows:
    """Windows of `window`² places on maps that are padded to whole windows and rolled by `shift`."""
    down, across = -(-height // window), -(-width // window)
    y = (torch.arange(down * window) + shift) % (down * window)
    x = (torch.arange(across * window) + shift) % (across * window)
    inside = (y < height)[:, None] & (x < width)
    seen = torch.where(inside, y[:, None] * width + x, -1)
    seen = seen.view(down, window, across, window).transpose(1, 2).reshape(down * across, 1, window**2)
    edge = torch.zeros(down, across, dtype=torch.long)  # 1 at the right, 2 at the bottom, 3 in the corner
    if shift:
        edge[:, -1] += 1
        edge[-1] += 2
    order = edge.flatten().argsort(stable=True)
    image = torch.arange(batch)[:, None] * (height * width)
    tokens = torch.where(seen[order] < 0, batch * height * width, seen[order] + image).flatten()
    places = torch.empty(batch * height * width + 1, dtype=torch.long)
    places[tokens] = torch.arange(len(tokens))
    numbers = edge.flatten().bincount(minlength=4) * batch
    masks = tuple((int(n), _mask(kind, window, shift).to(device)) for kind, n in enumerate(numbers) if n)
    return _Windows(tokens.to(device), places[:-1].to(device), masks)


def _mask(kind: int, window: int, shift: int) -> Tensor:
    """(A, A) float32: `_APART` between tokens of a window at an edge that lay at opposite ends before rolling."""
    wrapped = torch.arange(window) >= window - shift
    part = (wrapped & bool(kind & 2)).long()[:, None] * 2 + (wrapped & bool(kind & 1)).long()
    return (part.view(-1, 1) != part.view(1, -1)).float() * _APART
