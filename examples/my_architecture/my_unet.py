"""A small U-Net (Ronneberger et al., arXiv 1505.04597) as an architecture of one's own: this file and my_unet.toml.

Test it:  python -c "from segbench import testing; testing.check_architecture('examples/my_architecture/my_unet.py')"
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures.parts.weights import LOCAL_WAYS, Weights, load_state_dict, read_state_dict
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError


class UNet(Segmenter):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(_block(i, o) for i, o in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(i + o, o) for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to logits, (B, C, H/2, W/2)."""
        maps = [images]
        for block in self.down:
            maps.append(block(F.avg_pool2d(maps[-1], 2, ceil_mode=True)))
        x = maps.pop()
        for block in self.up:
            skipped = maps.pop()
            x = block(torch.cat([F.interpolate(x, skipped.shape[-2:]), skipped], 1))
        return self.head(x)

    def losses(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Pixel cross-entropy at the labels' size."""
        full = F.interpolate(outputs.float(), labels.shape[-2:], mode="bilinear")
        return {"main": F.cross_entropy(full, labels)}

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs.float()


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def build(classes: int, weights: Weights, width: int = 16) -> Segmenter:
    """`width`: channels at half the images' size, doubled twice below."""
    if weights.kind in ("pretrained", "folder"):
        raise UserError(f"my_unet has no published weights, and reads state-dict files only: {LOCAL_WAYS}")
    network = UNet(classes, width)
    if weights.path:
        load_state_dict(network, read_state_dict(weights.path), ("head.",), str(weights.path))
    return network
