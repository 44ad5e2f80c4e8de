"""A study and its trials as the ledger stores them: the protocol, the configurations tried, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import Device, EpochRecord, Scalar, WeightsOrigin, best_epoch

FRUITLESS_TRIALS = 10  # a search by device-hours gives up if all of its first trials end without an epoch


class TrialState(StrEnum):
    """The state of a trial. Optuna's states are those of a single attempt."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the trial will not run again."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study."""

    study: str
    index: int  # which planned configuration, 0, 1, …; -1 for the baseline
    attempt: int  # the number of the last Optuna trial that tried it: a killed attempt is followed by another
    state: TrialState
    value: float | None  # best epoch's value: PQ of a panoptic protocol, else mIoU
    params: Mapping[str, Scalar]
    epochs: tuple[EpochRecord, ...]
    reason: str  # why it did not complete, else ""
    seconds: float  # wall-clock, including epochs restored after a kill; 0 until it has ended
    startup_seconds: float  # part of `seconds`: from the last start to the first epoch (model, checkpoint, MLflow run)
    device: Device | None  # None before it has begun
    run_id: str  # its MLflow run, "" without one
    owner: str  # the process that runs or ran it, host:pid:start, "" without one
    ended: str  # when its last attempt ended, UTC, ISO 8601; "" before that
    charged_seconds: float = 0.0  # of a budget in device-hours; see ledger/device_hours.py

    @property
    def baseline(self) -> bool:
        """True for the note's retained hyperparameters, run beside the plan and never promoted by the search."""
        return self.index < 0

    @property
    def best_epoch(self) -> EpochRecord | None:
        """The epoch whose value is the trial's; None before the first has ended."""
        return best_epoch(self.epochs)


@dataclass(frozen=True)
class StudyRecord:
    """One study: the protocol and architecture it was created with, and its trials."""

    name: str
    id: str  # distinguishes it from a study of the same name in another database; "" if an earlier version created it
    protocol: Protocol
    architecture: Architecture
    fingerprint: str
    data_fingerprint: str
    weights: WeightsOrigin | None
    subset: str  # how the selection images were drawn, in words
    run_id: str  # its MLflow run, "" where none was made
    trials: tuple[TrialRecord, ...]
    final_scores: Mapping[int, float] = field(default_factory=dict)  # trial → value on the final images, if scored
    # Trial → where its configuration comes from, if it was not drawn: "baseline", or a study and its trial.
    starts: Mapping[int, str] = field(default_factory=dict)

    @property
    def planned(self) -> tuple[TrialRecord, ...]:
        """Its trials without the baseline."""
        return tuple(trial for trial in self.trials if not trial.baseline)

    @property
    def used_seconds(self) -> float:
        """Of a budget in device-hours; 0 if the budget is a number of trials."""
        return sum(trial.charged_seconds for trial in self.planned)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run: no planned trial, and no device-hour that another one may be planned with."""
        seconds = self.protocol.search.seconds
        over = seconds is None or self.used_seconds >= seconds or self.hopeless
        return over and all(trial.state.ended for trial in self.trials)

    @property
    def hopeless(self) -> bool:
        """Whether so many trials ended without an epoch that a search by device-hours plans no more."""
        ended = sum(trial.state.ended for trial in self.planned)
        return ended >= FRUITLESS_TRIALS and not any(trial.epochs for trial in self.trials)
