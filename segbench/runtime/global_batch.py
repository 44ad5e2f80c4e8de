"""Shards a batch over the processes of a group so that the result is that of the whole batch.

A process's loss is the mean over its images. Weighted by `Batch.loss_weight`, the losses and their gradients sum to
those of the whole batch, if everything that is normalised over the batch uses the whole batch: the statistics of
BatchNorm (`share_norms`), and the counts that a loss divides by (`spread`).

A batch with fewer images than processes is not sharded: every process has all of it. So the batch says whether it is
sharded, and `sharded` tells the model during a step.
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
    """Sets the attribute `is_sharded` of the model and of its shared BatchNorms while the block runs, if other
    processes have the rest of the batch. Those processes must run the same operations."""
    modules = [module for module in model.modules() if hasattr(module, "is_sharded")] if is_sharded else []
    for module in modules:
        module.is_sharded = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in modules:
            module.is_sharded = False  # type: ignore[assignment]


def part(batch: Tensor) -> tuple[Tensor, float]:
    """batch: (n,) indices. Returns this process's part and its weight in the batch's loss, 0..1; the processes' weights
    sum to 1.

    A batch with fewer images than processes is given to every process whole.
    """
    size = process_group.size()
    if len(batch) < size:
        return batch, 1 / size
    share = torch.tensor_split(batch, size)[process_group.rank()]
    return share, len(share) / len(batch)


def total(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, of the same shape; differentiable."""
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


def spread(count: float | Tensor, images: int, device: torch.device, is_sharded: bool) -> Tensor | float:
    """The share of `images` in the whole batch's count, if it were spread evenly over the batch's images.

    A loss summed over a part and divided by this share is a mean over images, like other losses. `count`: this part's;
    the whole batch's is taken as at least 1.
    """
    if not is_sharded:
        return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1.0)
    # Fills, no copy: a copy to the device would make the host wait.
    both = total(torch.stack([_filled(n, device) for n in (count, images)]))
    return both[0].clamp(min=1) / both[1] * images


def _filled(number: float | Tensor, device: torch.device) -> Tensor:
    return number.float() if isinstance(number, Tensor) else torch.full((), float(number), device=device)


def share_norms(model: nn.Module, device: torch.device) -> None:
    """Replaces every BatchNorm2d of `model` by a subclass that computes its statistics over the whole batch, with the
    same parameters and buffers. It can still be folded as a BatchNorm2d."""
    kind = _OnCuda if device.type == "cuda" else _Elsewhere
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, _replacement(norm, kind))


def _replacement(norm: nn.BatchNorm2d, kind: type[_OnCuda] | type[_Elsewhere]) -> nn.BatchNorm2d:
    replacement = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    replacement.weight, replacement.bias = norm.weight, norm.bias
    replacement.running_mean, replacement.running_var = norm.running_mean, norm.running_var
    replacement.num_batches_tracked = norm.num_batches_tracked
    return replacement.train(norm.training)


def parallel(model: nn.Module) -> Callable[..., Any]:
    """A wrapper of the model whose backward pass averages the gradients over the processes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch renames broadcast_buffers
        # Static graph: an architecture may leave parameters unused, but always the same ones. Buffers hold statistics
        # of the whole batch, so all processes have the same.
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False, static_graph=True)


class _Sum(torch.autograd.Function):
    """Every process gets the sum, so the gradient of a process's summand is the sum of all processes' gradients."""

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
    """torch's SyncBatchNorm, which supports only CUDA."""

    is_sharded = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        if not (self.is_sharded and self.training):
            return nn.BatchNorm2d.forward(self, input)
        return super().forward(input)


class _Elsewhere(nn.BatchNorm2d):
    """The same for other devices, from elementary operations."""

    is_sharded = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """input: (B, C, H, W). The variance is computed in a second pass, from the known mean, without cancellation."""
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
