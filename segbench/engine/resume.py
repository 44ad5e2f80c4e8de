"""A training that may be killed at any moment: what its folder keeps, and how it continues from there.

session = TrainingSession(folder, identity(fingerprint, params, seed))
session.restore(state)
for record in session.epochs(state, training.fit(state, ...)): ...    # those of before the kill come first

<folder>/training.safetensors   model, optimizer, best weights and their confusions, and the records; see checkpoint.py
<folder>/run.json               the MLflow run, known before the first epoch has ended
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
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

SHARE = 0.02  # of the training time, at most, goes into writing checkpoints
_ASSUMED_BYTES_PER_SECOND = 500e6  # until a write has been measured: a plain disk's
_RUN = "run.json"


class Best(NamedTuple):
    """The epoch with the highest miou; of equals the first."""

    record: EpochRecord
    weights: dict[str, Tensor]  # a state dict, on the model's device
    confusions: NDArray[np.int32]  # (N, 35, 8) raw confusion of each selection image


def identity(*parts: Any) -> str:
    """16 hexadecimal digits that change with any of the parts (records, scalars) and with what an EpochRecord holds:
    what a checkpoint must belong to to be used."""
    fields = [*EpochRecord.__dataclass_fields__, *EpochSeconds.__dataclass_fields__]
    return hashlib.sha256(json.dumps([to_json(parts), fields], sort_keys=True).encode()).hexdigest()[:16]


class TrainingSession:
    """What is kept of one training. `best` and `records` are those of all epochs so far.

    Of several processes that train together all read, and the main one writes.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        """`identity`: a checkpoint of another one is not used."""
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
    def best(self) -> Best:
        """Only after an epoch."""
        assert self._best is not None
        return self._best

    def restore(self, state: State) -> None:
        """Brings `state`, fresh from `training.begin`, to the newest checkpoint that is whole and of this training.

        Says in a line where there is one that cannot be used. Epochs after it are trained again, to the same bits on
        a CPU.
        """
        snapshot = checkpoint.read(self.folder)
        if snapshot is None:
            return
        if snapshot.content["identity"] != self._identity:
            terminal.warn(
                f"the checkpoint in {self.folder} is of another training (its protocol, data, parameters or device "
                "differ); this one starts over"
            )
            return
        self.records = [from_json(EpochRecord, record) for record in snapshot.content["epochs"]]
        self._written = len(self.records)
        state.restore(snapshot.tensors, self._written)
        weights = {n.removeprefix("best."): t for n, t in snapshot.tensors.items() if n.startswith("best.")}
        device = state.compute.device
        placed = {name: tensor.to(device) for name, tensor in weights.items()} or _copy(state)
        best = self.records[snapshot.content["best"] - 1]
        self._best = Best(best, placed, snapshot.tensors["confusions"].numpy())

    def epochs(self, state: State, fresh: Iterator[EpochRecord]) -> Iterator[EpochRecord]:
        """The restored records, then the fresh ones. Each of these is kept before it is yielded, unless writing would
        cost more than SHARE of the training time; what is not written is trained again after a kill.
        """
        yield from tuple(self.records)
        for record in fresh:
            self._add(state, record)
            cost = checkpoint.size(self._tensors(state)) / self._bytes_per_second
            if self._at_risk * SHARE >= cost:
                self.write(state)
            yield record

    def write(self, state: State) -> None:
        """Keeps what has not been kept yet. A full disk does not end the training: it warns once."""
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
                    f"no checkpoint could be written in {self.folder} ({error.strerror}); training continues without. "
                    "Free some space: a stop now would lose the epochs since the last checkpoint"
                )
            self._warned = True
            return
        self._bytes_per_second = checkpoint.size(tensors) / max(time.perf_counter() - started, 1e-6)
        self._at_risk, self._written = 0.0, state.epoch

    @property
    def run(self) -> str:
        """The MLflow run of this training, "" where none was made yet."""
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
        """Forgets the training, for it is finished; other files of the folder stay."""
        clear(self.folder)

    def _add(self, state: State, record: EpochRecord) -> None:
        self.records.append(record)
        self._at_risk += record.seconds.total - record.seconds.bookkeeping
        if self._best is None or record.miou > self._best.record.miou:
            assert state.evaluation is not None
            self._best = Best(record, _copy(state), state.evaluation.confusions.astype(np.int32))

    def _tensors(self, state: State) -> dict[str, Tensor]:
        best = {f"best.{name}": tensor for name, tensor in self.best.weights.items()}
        if self.best.record.epoch == state.epoch:
            best = {}  # they are the model's
        return {**state.tensors(), **best, "confusions": torch.from_numpy(self.best.confusions)}


def clear(folder: Path) -> None:
    """Removes what a TrainingSession has put into `folder`."""
    checkpoint.remove(folder)
    (folder / _RUN).unlink(missing_ok=True)


def _copy(state: State) -> dict[str, Tensor]:
    """Of the weights, on the device: there it costs a millisecond."""
    return {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}
