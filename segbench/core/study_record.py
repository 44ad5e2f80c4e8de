"""A study and its trials as the ledger keeps them: what was asked for, what was tried and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import Device, EpochRecord, Scalar, WeightsOrigin, best_epoch


class TrialState(StrEnum):
    """Where a trial stands. Optuna's states tell of one attempt at it."""

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
    attempt: int  # the number of the Optuna trial that tried it last: a killed attempt is followed by another
    state: TrialState
    value: float | None  # best epoch's miou
    params: Mapping[str, Scalar]
    epochs: tuple[EpochRecord, ...]
    reason: str  # why it did not complete, else ""
    seconds: float  # wall-clock, with the epochs that were kept from before a kill; 0 where it has not ended
    startup_seconds: float  # of these: before the first epoch, since the last start (model, checkpoint, MLflow run)
    device: Device | None  # None where it has not begun
    run_id: str  # its MLflow run, "" where none was made
    owner: str  # the process that runs or ran it, host:pid:start, "" where none did
    ended: str  # when its last attempt ended, UTC, ISO 8601; "" where it has not

    @property
    def baseline(self) -> bool:
        """True for the note's retained hyperparameters, run beside the plan and never promoted by the search."""
        return self.index < 0

    @property
    def best_epoch(self) -> EpochRecord | None:
        """The epoch that gives the trial its value; None before the first has ended."""
        return best_epoch(self.epochs)


@dataclass(frozen=True)
class StudyRecord:
    """One study: the intent it was made with, and its trials."""

    name: str
    id: str  # tells it from a study of that name in another database; "" where an earlier version made it
    protocol: Protocol
    architecture: Architecture
    fingerprint: str
    data_fingerprint: str
    weights: WeightsOrigin | None
    subset: str  # how the selection images were drawn, in words
    run_id: str  # its MLflow run, "" where none was made
    trials: tuple[TrialRecord, ...]
    final_scores: Mapping[int, float] = field(default_factory=dict)  # trial → mIoU on the final images, where kept

    @property
    def planned(self) -> tuple[TrialRecord, ...]:
        """Its trials without the baseline."""
        return tuple(trial for trial in self.trials if not trial.baseline)
