"""Training: a generator of epochs. The caller decides what to do with each epoch, and when to stop.

state = begin(model, hyperparameters, compute)
for record in fit(state, train, val, epochs=10, seed=0): ...
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from segbench.architectures.parts.pixel_loss import PixelLoss
from segbench.architectures.segmenter import Segmenter
from segbench.core.errors import UserError
from segbench.core.recipe import Recipe
from segbench.core.records import EpochRecord, EpochSeconds, Hyperparameters
from segbench.data.batches import NO_CLASS, Batches
from segbench.engine import losses, optimizers, schedule
from segbench.engine.averaging import Average
from segbench.engine.evaluation import Evaluation, evaluate_together
from segbench.runtime import global_batch, process_group
from segbench.runtime.compute import Compute
from segbench.runtime.stopwatch import Stopwatch


class Diverged(Exception):
    """The loss became infinite or NaN: this configuration cannot be trained further."""


@dataclass
class State:
    """Everything that changes during training; `tensors` returns what a checkpoint must hold."""

    model: Segmenter
    optimizer: Optimizer
    compute: Compute
    forward: Callable[[Tensor], Any]  # the model; with several processes, a wrapper that also averages their gradients
    hyperparameters: Hyperparameters
    average: Average | None = None  # of the model's weights, if the recipe has `ema`
    epoch: int = 0  # number of finished epochs
    evaluation: Evaluation | None = None  # of the last finished epoch

    @property
    def evaluated(self) -> Segmenter:
        """The model that is evaluated and kept: the average, if there is one."""
        return self.average.model if self.average else self.model

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of model, average and optimizer, by name, on the device, not copied: further training changes
        them."""
        models = {"model": self.model} | ({"average": self.average.model} if self.average else {})
        weights = {f"{kind}.{name}": v for kind, model in models.items() for name, v in model.state_dict().items()}
        states = self.optimizer.state_dict()["state"]
        return weights | {f"optimizer.{i}.{key}": value for i, state in states.items() for key, value in state.items()}

    def restore(self, tensors: Mapping[str, Tensor], epoch: int) -> None:
        """Restores the state from `tensors`, which were read at the end of `epoch`. Unknown names are ignored."""
        self.model.load_state_dict(_of("model.", tensors))
        if self.average:
            self.average.model.load_state_dict(_of("average.", tensors))
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                states.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], tensor)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        self.epoch = epoch


def begin(model: Segmenter, hyperparameters: Hyperparameters, compute: Compute) -> State:
    """Moves the model to the device and creates its optimizer. Raises UserError for an unknown optimizer, and for a
    recipe that does not fit the architecture."""
    compute.forget_peak()
    model.to(compute.device)
    recipe = hyperparameters.recipe
    optimizers.freeze_norms(model, recipe)
    average = Average(model, recipe.ema) if recipe.ema else None
    if compute.record.compiled:
        model.compile()
    forward: Callable[[Tensor], Any] = model
    if process_group.size() > 1:
        global_batch.share_norms(model, compute.device)
        forward = global_batch.parallel(model)
    optimizer = optimizers.build(model, hyperparameters)
    return State(model, optimizer, compute, forward, hyperparameters, average)


def fit(state: State, train: Batches, val: Batches, *, epochs: int, seed: int) -> Iterator[EpochRecord]:
    """Trains until `epochs` epochs are finished and yields a record after each.

    Data order, dropout and sampling in epoch e depend on (seed, e) alone. If several processes train together, dropout
    also depends on the process, and all get the same records except for timings. Global generators are not changed.
    Raises Diverged at the end of the first epoch with a non-finite loss, UserError as `require_trainable`.
    """
    require_trainable(state.model, state.hyperparameters, train, epochs)
    _weigh_pixels(state, train)
    ended = time.perf_counter()
    while state.epoch < epochs:
        record = _epoch(state, train, val, epochs, seed, ended)
        ended = time.perf_counter()
        yield record


def require_trainable(model: Segmenter, hyperparameters: Hyperparameters, train: Batches, epochs: int) -> None:
    """Raises UserError if the batches are too small for the model's BatchNorm, or if the recipe does not fit the
    architecture or the number of steps."""
    recipe = hyperparameters.recipe
    _require_batches(model, recipe, train)
    try:
        schedule.require_steps(recipe, epochs * train.steps)
    except ValueError as error:
        raise UserError(f"[recipe] {error}") from error
    optimizers.groups(model, hyperparameters)
    if recipe.weighs_pixels:
        model.use(PixelLoss())


def _require_batches(model: Segmenter, recipe: Recipe, train: Batches) -> None:
    smallest = min(train.batch_size, train.images)
    if smallest < model.smallest_batch and recipe.batchnorm == "train":
        raise UserError(
            "the network normalises over the batch and needs batch_size and train_images of at least "
            f"{model.smallest_batch}, not {smallest}; raise batch_size in the architecture's TOML"
        )


def _weigh_pixels(state: State, train: Batches) -> None:
    """Gives the model, and its average, the loss of a pixel that the recipe describes."""
    recipe = state.hyperparameters.recipe
    if recipe.weighs_pixels:
        counts = train.class_counts() if recipe.class_weights != "none" else None
        loss = PixelLoss.of(recipe, counts)
        for model in {state.model, state.evaluated}:
            model.use(loss)


def _epoch(state: State, train: Batches, val: Batches, epochs: int, seed: int, ended: float) -> EpochRecord:
    """`ended`: time.perf_counter() at the end of the previous epoch."""
    bookkeeping = time.perf_counter() - ended
    device = state.compute.device
    watch = Stopwatch(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + state.epoch + (process_group.rank() << 40))
        trained = _pass(state, train, epochs, seed, watch)
        with watch.part("evaluation"):  # in which some networks of transformers draw numbers too, to no effect
            evaluation = evaluate_together(state.evaluated, val, state.compute)
    state.epoch, state.evaluation = state.epoch + 1, evaluation
    losses = {"train loss": trained.loss, "validation loss": evaluation.loss, "gradient norm": trained.grad_norm_max}
    _require_finite(losses, state.epoch)
    scores = evaluation.scores
    seconds = EpochSeconds(**watch.seconds(), bookkeeping=bookkeeping, total=time.perf_counter() - ended)
    return EpochRecord(
        epoch=state.epoch,
        train_loss=trained.loss,
        val_loss=evaluation.loss,
        val_nll=evaluation.nll,
        pixel_accuracy=scores.pixel_accuracy,
        miou=scores.miou,
        miou_official=scores.miou_official,
        iou=scores.iou,
        seconds=seconds,
        images_per_second=train.images / (seconds.total - seconds.evaluation - seconds.bookkeeping),
        peak_memory_gb=state.compute.peak_memory_gb(),
        lr=trained.lr,
        grad_norm=trained.grad_norm,
        grad_norm_max=trained.grad_norm_max,
        panoptic=evaluation.quality,
    )


class _Trained(NamedTuple):
    """One pass over the training images."""

    loss: float  # mean per image
    lr: float  # of the last step
    grad_norm: float  # mean over the steps
    grad_norm_max: float


def _pass(state: State, train: Batches, epochs: int, seed: int, watch: Stopwatch) -> _Trained:
    """One pass over the training images. The host waits for the device only at the end."""
    model, optimizer, processes = state.model.train(), state.optimizer, process_group.size()
    chosen, recipe = state.hyperparameters, state.hyperparameters.recipe
    optimizers.hold_norms(model, recipe)
    total, seen, lr = torch.zeros((), device=state.compute.device), 0, chosen.lr
    norms: list[Tensor] = []
    batches = train.shuffled(seed, state.epoch, model.normalisation)
    while True:
        with watch.part("data"):
            batch = next(batches, None)
        if batch is None:
            mean, largest = optimizers.mean_and_max(norms)
            return _Trained(sum(process_group.gather(float(total))) / train.images, lr, mean, largest)
        step = state.epoch * train.steps + len(norms)
        lr = chosen.lr * schedule.factor(recipe, step, epochs * train.steps)
        model.progress((state.epoch + seen / train.images) / epochs)
        seen += batch.global_batch_size
        with global_batch.sharded(model, batch.is_sharded):
            with watch.part("forward"), state.compute.autocast():
                outputs = state.forward(batch.images)
            with watch.part("loss"):
                loss = torch.stack(list(losses.of_batch(model, outputs, batch, train.label_set).values())).sum()
                if not train.label_set.is_complete:  # a mean over no pixel would be NaN
                    loss = torch.where((batch.labels != NO_CLASS).any(), loss, 0.0)
        with watch.part("backward"):
            optimizer.zero_grad(set_to_none=True)
            weighted = loss * (batch.loss_weight * processes)  # the processes' gradients are averaged, not summed
            weighted.backward()  # type: ignore[no-untyped-call]
        with watch.part("optimizer"):
            norms.append(optimizers.clipped_norm(model.parameters(), recipe.clip_norm))
            optimizers.set_rate(optimizer, lr)
            optimizer.step()
            if state.average:
                state.average.update(model, step)
        total += loss.detach() * (batch.loss_weight * batch.global_batch_size)


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy of `tensor` in the parameter's memory order, such as channels_last: fused optimizers iterate over both as
    flat arrays."""
    if tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter, device=tensor.device, dtype=tensor.dtype).copy_(tensor)


def _require_finite(values: Mapping[str, float], epoch: int) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} in epoch {epoch}")
