"""A training that may be killed at any moment: saves its state to a folder, and resumes from it.

session = TrainingSession(folder, identity(fingerprint, params, seed))
session.restore(state)
for record in session.epochs(state, training.fit(state, ...)): ...    # restored epochs come first

<folder>/training.safetensors   model, average, optimizer, best weights and their confusions, records; see checkpoint.py
<folder>/run.json               the MLflow run, written before the first epoch has ended
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.core import files
from segbench.core.records import EpochRecord, EpochSeconds, from_json, to_json
from segbench.engine import checkpoint
from segbench.engine.training import State
from segbench.runtime import process_group, terminal
from segbench.stats.panoptic import Counts

SHARE = 0.02  # the largest share of the training time for writing checkpoints
_ASSUMED_BYTES_PER_SECOND = 500e6  # of an ordinary disk, until a write has been measured
_RUN = "run.json"
_SEGMENTS = "segments."  # begins the names of a best epoch's counts


class Best(NamedTuple):
    """The epoch with the highest value, the first of equals."""

    record: EpochRecord
    weights: dict[str, Tensor]  # a state dict, on the model's device
    confusions: NDArray[np.int32]  # (N, R, C) raw confusion of each selection image
    segments: Counts | None  # of each, of panoptic protocols


def identity(*parts: Any) -> str:
    """16 hexadecimal digits that change with any of the parts (records, scalars) and with the fields of EpochRecord. A
    checkpoint is used only if its identity is the same."""
    fields = [*EpochRecord.__dataclass_fields__, *EpochSeconds.__dataclass_fields__]
    return hashlib.sha256(json.dumps([to_json(parts), fields], sort_keys=True).encode()).hexdigest()[:16]


class TrainingSession:
    """The saved state of one training. `best` and `records` cover all epochs so far.

    If several processes train together, all of them read, and the main one writes.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        """`identity`: see the function; checkpoints with another identity are not used."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.records: list[EpochRecord] = []
        self._identity = identity
        self._best: Best | None = None
        self._bytes_per_second = _ASSUMED_BYTES_PER_SECOND
        self._at_risk = 0.0  # seconds of training since the last checkpoint
        self._written = 0  # the epoch of the last checkpoint
        self._warned = False

    @property
    def has_best(self) -> bool:
        """Whether an epoch has ended."""
        return self._best is not None

    @property
    def best(self) -> Best:
        """The best epoch so far; there must be one."""
        assert self._best is not None
        return self._best

    def restore(self, state: State) -> None:
        """Restores `state`, fresh from `training.begin`, from the newest undamaged checkpoint of this training.

        Warns in a line of checkpoints that cannot be used. Later epochs are trained again, bit by bit the same on a
        CPU.
        """
        snapshot = checkpoint.read(self.folder)
        if snapshot is None:
            return
        if snapshot.content["identity"] != self._identity:
            terminal.warn(
                f"the checkpoint in {self.folder} belongs to another training (its protocol, data, parameters or "
                "device differ); this training starts over"
            )
            return
        self.records = [from_json(EpochRecord, record) for record in snapshot.content["epochs"]]
        self._written = len(self.records)
        state.restore(snapshot.tensors, self._written)
        weights = {n.removeprefix("best."): t for n, t in snapshot.tensors.items() if n.startswith("best.")}
        device = state.compute.device
        placed = {name: tensor.to(device) for name, tensor in weights.items()} or _copy(state)
        best = self.records[snapshot.content["best"] - 1]
        self._best = Best(best, placed, snapshot.tensors["confusions"].numpy(), _segments(snapshot.tensors))

    def epochs(self, state: State, fresh: Iterator[EpochRecord]) -> Iterator[EpochRecord]:
        """The restored records, then the `fresh` ones. A checkpoint is written before each fresh record is yielded,
        unless that would take more than SHARE of the training time; unsaved epochs are trained again after a kill.
        """
        yield from tuple(self.records)
        for record in fresh:
            self._add(state, record)
            cost = checkpoint.size(self._tensors(state)) / self._bytes_per_second
            if self._at_risk * SHARE >= cost:
                self.write(state)
            yield record

    def write(self, state: State) -> None:
        """Writes a checkpoint unless it is up to date. A full disk does not end the training; it warns once."""
        if self._written == state.epoch or not process_group.is_main():
            return
        tensors = self._tensors(state)
        content = {"identity": self._identity, "epochs": to_json(self.records), "best": self.best.record.epoch}
        started = time.perf_counter()
        try:
            checkpoint.write(self.folder, tensors, content)
        except OSError as error:
            if not self._warned:
                terminal.warn(
                    f"no checkpoint could be written in {self.folder} ({error.strerror}); training continues without "
                    "it. Free some space: stopping now would lose the epochs since the last checkpoint"
                )
            self._warned = True
            return
        self._bytes_per_second = checkpoint.size(tensors) / max(time.perf_counter() - started, 1e-6)
        self._at_risk, self._written = 0.0, state.epoch

    @property
    def run(self) -> str:
        """The MLflow run of this training, "" before it is created."""
        try:
            known = json.loads((self.folder / _RUN).read_text())
            return str(known["run"]) if known["identity"] == self._identity else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @run.setter
    def run(self, run: str) -> None:
        with files.replaced(self.folder / _RUN) as partial:
            partial.write_text(json.dumps({"identity": self._identity, "run": run}))

    def clear(self) -> None:
        """Removes the state of a finished training; other files of the folder stay."""
        clear(self.folder)

    def _add(self, state: State, record: EpochRecord) -> None:
        self.records.append(record)
        self._at_risk += record.seconds.total - record.seconds.bookkeeping
        if self._best is None or record.value > self._best.record.value:
            assert state.evaluation is not None
            confusions = state.evaluation.confusions.astype(np.int32)
            self._best = Best(record, _copy(state), confusions, state.evaluation.segments)

    def _tensors(self, state: State) -> dict[str, Tensor]:
        best = {f"best.{name}": tensor for name, tensor in self.best.weights.items()}
        if self.best.record.epoch == state.epoch:
            best = {}  # they are the evaluated model's current weights
        counts = self.best.segments._asdict() if self.best.segments else {}
        segments = {f"{_SEGMENTS}{name}": torch.from_numpy(part) for name, part in counts.items()}
        return {**state.tensors(), **best, **segments, "confusions": torch.from_numpy(self.best.confusions)}


def clear(folder: Path) -> None:
    """Removes the files of a TrainingSession from `folder`."""
    checkpoint.remove(folder)
    (folder / _RUN).unlink(missing_ok=True)


def _segments(tensors: Mapping[str, Tensor]) -> Counts | None:
    found = [tensors[f"{_SEGMENTS}{name}"].numpy() for name in Counts._fields if f"{_SEGMENTS}{name}" in tensors]
    return Counts(*found) if found else None


def _copy(state: State) -> dict[str, Tensor]:
    """A copy of the evaluated weights on the device, which takes a millisecond."""
    return {name: tensor.detach().clone() for name, tensor in state.evaluated.state_dict().items()}
