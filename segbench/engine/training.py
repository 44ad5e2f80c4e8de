"""Training: a generator of epochs. The caller decides what to do with each epoch, and when to stop.

state = begin(model, hyperparameters, compute)
for record in fit(state, train, val, epochs=10, seed=0): ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.protocol import OPTIMIZERS
from segbench.core.records import EpochRecord, EpochSeconds, Hyperparameters
from segbench.data.batches import NO_CLASS, Batches
from segbench.engine.evaluation import Evaluation, evaluate_together
from segbench.runtime import global_batch, process_group
from segbench.runtime.compute import Compute
from segbench.runtime.stopwatch import Stopwatch

_MOMENTUM = 0.9  # of SGD, as in torchvision's reference recipe


class Diverged(Exception):
    """The loss became infinite or NaN: this configuration cannot be trained further."""


@dataclass
class State:
    """Everything that changes during training; `tensors` returns what a checkpoint must hold."""

    model: Segmenter
    optimizer: Optimizer
    compute: Compute
    forward: Callable[[Tensor], Any]  # the model; with several processes, a wrapper that also averages their gradients
    epoch: int = 0  # number of finished epochs
    evaluation: Evaluation | None = None  # of the last finished epoch

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of model and optimizer, by name, on the device, not copied: further training changes them."""
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        states = self.optimizer.state_dict()["state"]
        return model | {f"optimizer.{i}.{key}": value for i, state in states.items() for key, value in state.items()}

    def restore(self, tensors: Mapping[str, Tensor], epoch: int) -> None:
        """Restores the state from `tensors`, which were read at the end of `epoch`. Unknown names are ignored."""
        model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        self.model.load_state_dict(model)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                states.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], tensor)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        self.epoch = epoch


def begin(model: Segmenter, hyperparameters: Hyperparameters, compute: Compute) -> State:
    """Moves the model to the device and creates its optimizer. Raises UserError for an unknown optimizer."""
    compute.forget_peak()
    model.to(compute.device)
    if compute.record.compiled:
        model.compile()
    forward: Callable[[Tensor], Any] = model
    if process_group.size() > 1:
        global_batch.share_norms(model, compute.device)
        forward = global_batch.parallel(model)
    return State(model, _optimizer(model, hyperparameters), compute, forward)


def fit(state: State, train: Batches, val: Batches, *, epochs: int, seed: int) -> Iterator[EpochRecord]:
    """Trains until `epochs` epochs are finished and yields a record after each.

    Data order, dropout and sampling in epoch e depend on (seed, e) alone. If several processes train together, dropout
    also depends on the process, and all get the same records except for timings. Global generators are not changed.
    Raises Diverged at the end of the first epoch with a non-finite loss, UserError for batches too small for BatchNorm.
    """
    require_batches(state.model, train)
    ended = time.perf_counter()
    while state.epoch < epochs:
        record = _epoch(state, train, val, epochs, seed, ended)
        ended = time.perf_counter()
        yield record


def require_batches(model: Segmenter, train: Batches) -> None:
    """Raises UserError if the batches are too small for the model's BatchNorm."""
    smallest = min(train.batch_size, train.images)
    if smallest < model.smallest_batch:
        raise UserError(
            "the network normalises over the batch and needs batch_size and train_images of at least "
            f"{model.smallest_batch}, not {smallest}; raise batch_size in the architecture's TOML"
        )


def _epoch(state: State, train: Batches, val: Batches, epochs: int, seed: int, ended: float) -> EpochRecord:
    """`ended`: time.perf_counter() at the end of the previous epoch."""
    bookkeeping = time.perf_counter() - ended
    device = state.compute.device
    watch = Stopwatch(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + state.epoch + (process_group.rank() << 40))
        train_loss = _pass(state, train, epochs, seed, watch)
    with watch.part("evaluation"):
        evaluation = evaluate_together(state.model, val, state.compute)
    state.epoch, state.evaluation = state.epoch + 1, evaluation
    _require_finite(train_loss, evaluation, state.epoch)
    scores = evaluation.scores
    seconds = EpochSeconds(**watch.seconds(), bookkeeping=bookkeeping, total=time.perf_counter() - ended)
    return EpochRecord(
        epoch=state.epoch,
        train_loss=train_loss,
        val_loss=evaluation.loss,
        val_nll=evaluation.nll,
        pixel_accuracy=scores.pixel_accuracy,
        miou=scores.miou,
        miou_official=scores.miou_official,
        iou=scores.iou,
        seconds=seconds,
        images_per_second=train.images / (seconds.total - seconds.evaluation - seconds.bookkeeping),
        peak_memory_gb=state.compute.peak_memory_gb(),
    )


def _pass(state: State, train: Batches, epochs: int, seed: int, watch: Stopwatch) -> float:
    """One pass over the training images. Returns the mean loss per image; the host waits for it only at the end."""
    model, optimizer, processes = state.model.train(), state.optimizer, process_group.size()
    total, seen = torch.zeros((), device=state.compute.device), 0
    batches = train.shuffled(seed, state.epoch, model.normalisation)
    while True:
        with watch.part("data"):
            batch = next(batches, None)
        if batch is None:
            return sum(process_group.gather(float(total))) / train.images
        model.progress((state.epoch + seen / train.images) / epochs)
        seen += batch.global_batch_size
        with global_batch.sharded(model, batch.is_sharded):
            with watch.part("forward"), state.compute.autocast():
                outputs = state.forward(batch.images)
            with watch.part("loss"):
                loss = torch.stack(list(model.losses(outputs, batch.labels).values())).sum()
                if not train.label_set.is_complete:  # a mean over no pixel would be NaN
                    loss = torch.where((batch.labels != NO_CLASS).any(), loss, 0.0)
        with watch.part("backward"):
            optimizer.zero_grad(set_to_none=True)
            weighted = loss * (batch.loss_weight * processes)  # the processes' gradients are averaged, not summed
            weighted.backward()  # type: ignore[no-untyped-call]
        with watch.part("optimizer"):
            optimizer.step()
        total += loss.detach() * (batch.loss_weight * batch.global_batch_size)


def _optimizer(model: Segmenter, chosen: Hyperparameters) -> Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, weight_decay = chosen.lr, chosen.weight_decay
    if chosen.optimizer == "sgd":
        return SGD(parameters, lr, momentum=_MOMENTUM, weight_decay=weight_decay, fused=True)
    if chosen.optimizer == "adam":
        return Adam(parameters, lr, weight_decay=weight_decay, fused=True)
    if chosen.optimizer == "adamw":
        return AdamW(parameters, lr, weight_decay=weight_decay, fused=True)
    raise UserError(f"no optimizer '{chosen.optimizer}'; it must be one of {', '.join(OPTIMIZERS)}")


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy of `tensor` in the parameter's memory order, such as channels_last: fused optimizers iterate over both as
    flat arrays."""
    if tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter, device=tensor.device, dtype=tensor.dtype).copy_(tensor)


def _require_finite(train_loss: float, evaluation: Evaluation, epoch: int) -> None:
    for name, value in (("train loss", train_loss), ("validation loss", evaluation.loss)):
        if not torch.isfinite(torch.tensor(value)):
            raise Diverged(f"{name} is {value} in epoch {epoch}")
