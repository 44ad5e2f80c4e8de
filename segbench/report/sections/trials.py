"""The table of a search's trials, and how a trial is called."""

from __future__ import annotations

from collections.abc import Mapping

from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.report.numbers import searches
from segbench.report.numbers.comparison import Candidate
from segbench.report.page.blocks import Cell, Table
from segbench.report.text.i18n import decimals, scalar, score, text

_PROMOTED, _BASELINE, _START = "◆", "○", "△"


def table(candidate: Candidate, study: StudyRecord) -> Table:
    """A row per trial; of many trials the page shows some, and the CSV holds all."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    scores = ("value", "official", *(("final",) if study.final_scores else ()), "last", "best_epoch")
    columns = [
        Cell(text("search.trial")),
        *(Cell(text(f"search.{key}"), number=True) for key in scores),
        *(Cell(name, number=True) for name in names),
        Cell(text("search.seconds"), number=True),
        Cell(text("search.state")),
    ]
    promoted = candidate.promoted_trials
    values = [t.value for t in study.trials if t.value is not None and not t.baseline]
    best = max(values, default=None)
    marks = dict.fromkeys(study.starts, _START) | dict.fromkeys(promoted, _PROMOTED)
    rows = {t.index: _row(t, names, marks.get(t.index, ""), best, study.final_scores) for t in study.trials}
    shown = searches.thinned(study, promoted)
    caption, listed = text("search.table_caption"), shown.trials
    if study.starts:
        caption = f"{caption} {text('search.table_starts')}"
    if shown is not study:
        caption = f"{caption} {text('search.table_thinned')} {thinned_note(candidate, study)}"
        listed = tuple(sorted(listed, key=searches.rank))
    return Table(
        f"trials-{candidate.name}",
        text("search.table", title=candidate.title),
        tuple(columns),
        tuple(rows[trial.index] for trial in listed),
        caption,
        dense=True,
        csv_rows=tuple(rows.values()),
    )


def thinned_note(candidate: Candidate, study: StudyRecord) -> str:
    """Which trials are shown where not all are; "" where all are."""
    if searches.thinned(study, candidate.promoted_trials) is study:
        return ""
    counts = {"best": searches.BEST_SHOWN, "others": searches.OTHERS_SHOWN}
    return text("search.thinned", title=candidate.title, trials=len(study.planned), **counts)


def title(trial: TrialRecord) -> str:
    """Its number, or that it is the baseline."""
    return text("search.baseline") if trial.baseline else str(trial.index)


def state(trial: TrialRecord) -> str:
    """What became of it."""
    return text(f"state.{trial.state}")


def _row(
    trial: TrialRecord, names: list[str], mark: str, best: float | None, final: Mapping[int, float]
) -> tuple[Cell, ...]:
    best_epoch = trial.best_epoch
    last = trial.epochs[-1].value if trial.epochs else None
    highest = trial.value is not None and trial.value == best and not trial.baseline
    return (
        Cell(f"{title(trial)} {_BASELINE if trial.baseline else mark}".rstrip()),
        _score(trial.value, highest),
        _score(best_epoch.miou_official if best_epoch else None),
        *([_score(final.get(trial.index))] if final else []),
        _score(last),
        Cell(str(best_epoch.epoch) if best_epoch else "", number=True),
        *(_param(trial.params.get(name, "")) for name in names),
        Cell(decimals(trial.seconds, 1) if trial.seconds else "", number=True, values=(trial.seconds,)),
        Cell(f"{state(trial)}: {trial.reason}" if trial.reason else state(trial)),
    )


def _score(value: float | None, best: bool = False) -> Cell:
    return Cell(score(value), best=best, number=True, values=() if value is None else (value,))


def _param(value: object) -> Cell:
    return Cell(scalar(value), number=True, values=(value,) if isinstance(value, float) else ())
