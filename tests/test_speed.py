"""The arithmetic of a forward pass, counted while it runs."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core.records import SpeedCard, from_json, to_json
from segbench.engine import inference, speed
from segbench.runtime.compute import choose
from tests.fabricated import DEVICE

HEIGHT, WIDTH = 4, 6
PIXELS = HEIGHT * WIDTH


class Attending(Segmenter):
    """A 1×1 convolution from 3 to 8 channels, then attention of every pixel to every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.convolution(images)
        tokens = maps.flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].transpose(1, 2).reshape(maps.shape)

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gmac_is_counted_by_hand(precision: str) -> None:
    compute = choose("cpu", precision)
    convolution, attention = PIXELS * 3 * 8, 2 * PIXELS * PIXELS * 8  # queries with keys, weights with values
    counted = speed.gmac(inference.ready(Attending(), compute), (HEIGHT, WIDTH), compute)
    assert counted == pytest.approx((convolution + attention) / 1e9)


def test_twice_the_pixels_are_twice_the_arithmetic_of_a_convnet() -> None:
    compute = choose("cpu", "fp32")
    model, _ = architectures.create("lraspp", 8, "random", {"size": "tiny"}, 0)
    model = inference.ready(model, compute)
    once, twice = (speed.gmac(model, (64, width), compute) for width in (64, 128))
    assert 1.8 < twice / once <= 2  # what follows the global pooling does not grow
    assert torch.is_inference_mode_enabled() is False


def test_a_card_of_before_it_says_that_it_is_unknown() -> None:
    card = SpeedCard(DEVICE, 1, (4, 6), 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0, 2.5)
    written = json.loads(json.dumps(to_json(card)))
    assert from_json(SpeedCard, written) == card
    del written["gmac"]
    assert from_json(SpeedCard, written) == replace(card, gmac=None)
