"""InternImage: a convnet whose 3×3 kernels choose where to look and how to weigh it (Wang et al., arXiv 2211.05778).

Its operator, DCNv3, is `deformable.sample`: nothing has to be compiled. `size = "t"` is the published backbone T, which
starts from its ImageNet weights, under SegFormer's all-MLP head. `size = "tiny"` is that with 0.4 M parameters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures.parts.dcnv3 import Dcnv3, norm
from segbench.architectures.parts.per_pixel import Outputs, PerPixel, stage
from segbench.architectures.parts.published import Checkpoint, State, load
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter


class _Design(NamedTuple):
    channels: int  # of the first stage; each next has twice as many, and twice as many groups
    depths: tuple[int, ...]
    groups: int  # of the first stage
    head: int  # channels of the head


_SIZES = {"t": _Design(64, (4, 4, 18, 4), 4, 256), "tiny": _Design(16, (1, 1, 2, 1), 1, 64)}
CHECKPOINTS = {
    "t": Checkpoint(
        "OpenGVLab/InternImage internimage_t_1k_224",
        "https://huggingface.co/OpenGVLab/InternImage/resolve/main/internimage_t_1k_224.pth",
        licence="MIT",
        commercial=True,
        megabytes=120,
    )
}


class _Layer(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.dcn, self.norm2 = norm(channels), Dcnv3(channels, groups), norm(channels)
        wide, narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        for layer in (wide, narrow):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.ModuleDict({"fc1": wide, "fc2": narrow})
        self.gamma1, self.gamma2 = (nn.Parameter(torch.ones(channels)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma1 * self.dcn(self.norm1(x))
        deep: Tensor = self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return x + self.gamma2 * deep


class _Level(nn.Module):
    def __init__(self, channels: int, groups: int, depth: int, last: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_Layer(channels, groups) for _ in range(depth)))
        self.norm = norm(channels)
        self.downsample = None if last else _Downsample(channels)

    def layers(self) -> list[nn.Module]:
        """Its layers as a backbone's."""
        return stage([], list(self.blocks), [self.norm, *([self.downsample] if self.downsample else [])])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """This level's map, and what the next begins with."""
        x = self.norm(self.blocks(x))
        return x, self.downsample(x) if self.downsample else x


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=False), norm(2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return normal


class _Network(nn.Module):
    """Backbone and head, under the names of the published files."""

    def __init__(self, design: _Design, classes: int) -> None:
        super().__init__()
        channels, width = design.channels, design.head
        first, second = nn.Conv2d(3, channels // 2, 3, 2, 1), nn.Conv2d(channels // 2, channels, 3, 2, 1)
        norms = {"norm1": norm(channels // 2, 1), "norm2": norm(channels, 1)}
        self.patch_embed = nn.ModuleDict({"conv1": first, "conv2": second, **norms})
        scales = [(2**level, depth) for level, depth in enumerate(design.depths)]
        self.levels = nn.ModuleList(
            _Level(channels * scale, design.groups * scale, depth, last=scale == 8) for scale, depth in scales
        )
        self.project = nn.ModuleList(nn.Linear(channels * scale, width) for scale, _ in scales)
        self.fuse = nn.Sequential(nn.Conv2d(4 * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.out = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Outputs:
        stem = self.patch_embed
        x = F.gelu(stem["norm1"](stem["conv1"](images).permute(0, 2, 3, 1)))
        x = stem["norm2"](stem["conv2"](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        maps: list[Tensor] = []
        for level, project in zip(self.levels, self.project, strict=True):
            own, x = level(x)
            own = project(own).permute(0, 3, 1, 2)
            maps.append(F.interpolate(own, maps[0].shape[-2:], mode="bilinear") if maps else own)
        return Outputs(self.out(self.fuse(torch.cat(maps, 1))))

    def backbone_layers(self) -> list[nn.Module]:
        levels: Any = self.levels
        return [self.patch_embed, *(layer for level in levels for layer in level.layers())]


def build(classes: int, weights: Weights, size: str = "t") -> Segmenter:
    """The logits are at a quarter of the image's height and width."""
    network = _Network(choose("internimage", size, _SIZES), classes)
    head = {
        name: tensor for name, tensor in network.state_dict().items() if name.startswith(("project", "fuse", "out"))
    }
    load(network, weights, CHECKPOINTS.get(size), ("out.",), lambda state: _adapt(state, head))
    return PerPixel(network, channels_last=True)


def _adapt(state: State, head: State) -> State:
    """From the published classifier: its backbone; our head keeps its initial values."""
    if "out.weight" in state:
        return state
    return {**head, **{name: tensor for name, tensor in state.items() if name.startswith(("patch_embed.", "levels."))}}
