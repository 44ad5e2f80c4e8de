"""A search in the terminal: its progress after each epoch, and the table at its end."""

from __future__ import annotations

import contextlib

from segbench.core.panoptic import PANOPTIC
from segbench.core.records import EpochRecord
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.ledger import device_hours, studies
from segbench.runtime import displays, terminal


def used(study: StudyRecord) -> str:
    """How much of its budget a search has used: "7 of 10 trials", or "58 min 12 s of 1 h 00 min, 7 trials"."""
    ended, seconds = sum(trial.state.ended for trial in study.planned), study.protocol.search.seconds
    if seconds is None:
        return f"{ended} of {study.protocol.search.trials} trials"
    return f"{displays.duration(study.used_seconds)} of {displays.duration(seconds)}, {ended} trials"


class HoursProgress:
    """The progress of a search by device-hours in this process, updated after each epoch."""

    def __init__(self, study: StudyRecord, epochs: int, show: terminal.Show) -> None:
        self._best = max((t.value for t in study.trials if t.value is not None), default=0.0)
        self._charged = {(trial.index, epoch.epoch) for trial in study.trials for epoch in trial.epochs}
        self._seconds, self._budget = study.used_seconds, study.protocol.search.seconds or 0.0
        self._epochs, self._show = epochs, show

    def __call__(self, index: int, record: EpochRecord) -> None:
        self._best = max(self._best, record.value)
        if index >= 0 and (index, record.epoch) not in self._charged:  # else restored, or beside the plan
            self._charged.add((index, record.epoch))
            self._seconds += device_hours.cost(record)
        used = f"{displays.duration(self._seconds)} of {displays.duration(self._budget)}, best {self._best:.3f}"
        row = terminal.Row(_name(index), record.epoch, self._epochs, f"{record.value_name} {record.value:.3f}")
        self._show(round(min(self._seconds, self._budget)), used, [row])


class Progress:
    """The progress of a search, and below it that of the current trial, updated after each epoch."""

    def __init__(self, record: StudyRecord, epochs: int, advance: terminal.Advance) -> None:
        self.best = max((t.value for t in record.trials if t.value is not None), default=0.0)
        self.epochs = epochs
        self.advance = advance
        self._index: int | None = None
        self._trial: terminal.Advance = advance
        self._display = contextlib.ExitStack()

    def __call__(self, index: int, record: EpochRecord) -> None:
        self.best = max(self.best, record.value)
        name = _name(index)
        text = f"{record.value_name} {record.value:.3f}, best {self.best:.3f}, {record.images_per_second:.1f} images/s"
        self.advance(f"{name}, epoch {record.epoch}/{self.epochs}: {text}")
        if index != self._index or record.epoch == 1:
            self.close()
            self._index, self._trial = index, self._display.enter_context(terminal.progress(name, self.epochs))
        self._trial(text)

    def close(self) -> None:
        """Ends the trial's part of the display."""
        self._display.close()


def _name(index: int) -> str:
    return "baseline" if index < 0 else f"trial {index}"


def table(study: StudyRecord) -> None:
    """Prints the trials of a study and marks the best."""
    best = studies.best(study)
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    value = study.protocol.data.value_name
    beside = "mIoU" if study.protocol.data.task == PANOPTIC else "official"
    columns = ["trial", value, beside, f"last {value}", "best epoch", *names, "seconds", "state"]
    rows = [_row(trial, names, trial is best) for trial in study.trials]
    terminal.table(study.name, columns, rows, right={1, 2, 3, 4, len(columns) - 2})


def _row(trial: TrialRecord, names: list[str], is_best: bool) -> list[str]:
    name = "baseline" if trial.baseline else str(trial.index)
    best_epoch = trial.best_epoch
    scores = ["", "", ""]
    if best_epoch:
        beside = best_epoch.miou if best_epoch.panoptic else best_epoch.miou_official
        scores = [f"{number:.4f}" for number in (best_epoch.value, beside, trial.epochs[-1].value)]
    values = [_text(trial.params.get(n, "")) for n in names]
    state = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
    return [
        name,
        *scores,
        str(best_epoch.epoch) if best_epoch else "",
        *values,
        f"{trial.seconds:.1f}",
        state + (" ◀ best" if is_best else ""),
    ]


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
