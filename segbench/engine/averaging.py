"""The exponential moving average of a model's weights, which is evaluated and kept in their place."""

from __future__ import annotations

import copy

import torch

from segbench.architectures.segmenter import Segmenter


class Average:
    """`model` holds the averages: of parameters, and of the floating-point buffers, such as BatchNorm's statistics."""

    def __init__(self, model: Segmenter, decay: float) -> None:
        """Begins at the model's weights. `model`: on its device, before it is compiled or wrapped."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: Segmenter, step: int) -> None:
        """After step `step`, 0, 1, …, of `model`. In the first steps the average follows faster, with the decay
        (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage: else short trainings would end near
        their initial weights."""
        current, averages = model.state_dict(), self.model.state_dict()
        moving = [name for name, tensor in averages.items() if tensor.is_floating_point()]
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([averages[name] for name in moving], [current[name] for name in moving], weight)
        for name in averages.keys() - set(moving):
            averages[name].copy_(current[name])
