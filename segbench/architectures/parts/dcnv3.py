"""DCNv3, InternImage's deformable convolution (Wang et al., arXiv 2211.05778, 3.1), without a compiled operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segbench.architectures.parts import deformable

_POINTS = 9  # of a 3×3 kernel


class Dcnv3(nn.Module):
    """Each of the groups of channels samples nine places near its own, weighted by a softmax."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self._lean = False
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.dw_conv = nn.Sequential(depthwise, norm(channels, 1), nn.GELU())
        self.offset = nn.Linear(channels, groups * _POINTS * 2)
        self.mask = nn.Linear(channels, groups * _POINTS)
        self.input_proj, self.output_proj = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for layer in (self.offset, self.mask):  # at first a plain mean over the 3×3 kernel
            nn.init.zeros_(layer.weight)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.offset, self.mask, self.input_proj, self.output_proj):
            nn.init.zeros_(layer.bias)

    def for_inference(self) -> None:
        self._lean = True

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C), as in all of the backbone."""
        batch, height, width, _ = x.shape
        value = self.input_proj(x).view(batch, height * width, self.groups, -1)
        convolution, normal, activation = self.dw_conv
        near = activation(normal(convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))).flatten(1, 2)
        steps = torch.arange(-1.0, 2.0, device=x.device)
        kernel = torch.cartesian_prod(
            steps, steps
        )  # x and y of each point, x outer: the order of the published weights
        offsets = self.offset(near).view(*value.shape[:3], 1, _POINTS, 2) + kernel
        logits = self.mask(near).view(*value.shape[:3], 1, _POINTS)
        weights = deformable.softmax(logits) if self._lean else logits.float().softmax(-1)
        x_centres, y_centres = ((torch.arange(n, device=x.device) + 0.5) / n for n in (width, height))
        centres = torch.cartesian_prod(y_centres, x_centres).flip(1)[None, :, None]  # (1, H·W, 1, 2)
        sample = deformable.sample_rows if self._lean else deformable.sample
        sampled = sample(value, [(height, width)], centres, offsets, weights)
        mixed: Tensor = self.output_proj(sampled)
        return mixed.view(x.shape)


def norm(channels: int, after: int = 0) -> nn.Sequential:
    """A LayerNorm of the last dimension, as the published files number it: after a change of layout, or not."""
    return nn.Sequential(*(nn.Identity() for _ in range(after)), nn.LayerNorm(channels, eps=1e-6))
