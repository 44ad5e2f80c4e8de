"""One batch spread over the processes of a group, each with a part of its images: what must be known of the whole.

A process's loss is the mean over its own images. Weighted by `Batch.loss_weight` the losses, and so their gradients,
sum to those of the whole batch, if what a model normalises over the batch is taken from the whole: the statistics of
BatchNorm (`share_norms`), and the counts that a loss divides by (`spread`).

Not every batch is sharded: of one with fewer images than processes every process has all. So whether it is travels with
the batch, and for the time of a step the model knows it (`sharded`).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from segbench.runtime import process_group


@contextlib.contextmanager
def sharded(model: nn.Module, is_sharded: bool) -> Iterator[None]:
    """Inside, what normalises over the batch knows whether other processes have the rest of it: the attribute
    `is_sharded` of the model and of its shared BatchNorms. Those processes must go through the same operations."""
    concerned = [part for part in model.modules() if hasattr(part, "is_sharded")] if is_sharded else []
    for part in concerned:
        part.is_sharded = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for part in concerned:
            part.is_sharded = False  # type: ignore[assignment]


def part(batch: Tensor) -> tuple[Tensor, float]:
    """batch: (n,) indices. Returns this process's, and their weight in the batch's loss; all weights sum to 1.

    Of a batch with fewer images than processes every process has all: it is computed several times, as if alone.
    """
    size = process_group.size()
    if len(batch) < size:
        return batch, 1 / size
    own = torch.tensor_split(batch, size)[process_group.rank()]
    return own, len(own) / len(batch)


def total(tensor: Tensor) -> Tensor:
    """The sum over the processes, each with its part of a batch; differentiable."""
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


def spread(count: float, images: int, device: torch.device, is_sharded: bool) -> Tensor | float:
    """How much of `count` these `images` would have if the whole batch's count were even among its images.

    The loss of a part, divided by it, is a mean over images as any other. The whole count is taken as at least 1.
    """
    if not is_sharded:
        return max(count, 1.0)
    # Two fills, no copy: a copy to the device would make the host wait.
    both = total(torch.stack([torch.full((), float(n), device=device) for n in (count, images)]))
    return both[0].clamp(min=1) / both[1] * images


def share_norms(model: nn.Module, device: torch.device) -> None:
    """Puts in the place of every BatchNorm2d of `model` one that takes its statistics from the whole batch, with the
    same parameters and buffers; it still is a BatchNorm2d to whoever wants to fold it."""
    kind = _OnCuda if device.type == "cuda" else _Elsewhere
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, _replacement(norm, kind))


def _replacement(norm: nn.BatchNorm2d, kind: type[_OnCuda] | type[_Elsewhere]) -> nn.BatchNorm2d:
    made = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    return made.train(norm.training)


def parallel(model: nn.Module) -> Callable[..., Any]:
    """The model's call whose backward pass leaves the mean of all processes' gradients in each of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch has another name for broadcast_buffers
        # Static: some parameters of an architecture may never be used, but always the same ones. Buffers are statistics
        # of the whole batch, so that all processes have the same.
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, static_graph=True)


class _Sum(torch.autograd.Function):
    """Every process gets the sum, so the gradient of one's own summand is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


class _OnCuda(nn.SyncBatchNorm, nn.BatchNorm2d):
    """torch's own, which computes on CUDA alone."""

    is_sharded = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        if not (self.is_sharded and self.training):
            return nn.BatchNorm2d.forward(self, input)
        return super().forward(input)


class _Elsewhere(nn.BatchNorm2d):
    """The same anywhere, from single operations."""

    is_sharded = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """input: (B, C, H, W). Two passes, as the deviation from a known mean loses no digits."""
        if not (self.is_sharded and self.training):
            return super().forward(input)
        values = input.float()
        size = values.new_full((1,), values.numel() / values.shape[1])
        sums = total(torch.cat([values.sum((0, 2, 3)), size]))
        mean, number = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean[:, None, None]
        variance = total(centred.square().sum((0, 2, 3))) / number
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            pace = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), pace)
            self.running_var.lerp_(variance.detach() * number / (number - 1), pace)
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(input.dtype)
