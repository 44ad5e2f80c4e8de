"""The searches in numbers: what was tried, what came of it, what mattered."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Collection
from typing import NamedTuple

from segbench.core import space as spaces
from segbench.core.augment import Augment
from segbench.core.space import Choice, Range
from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.ledger import samplers
from segbench.report.numbers.comparison import Candidate
from segbench.report.text.i18n import decimals, duration, percent, scalar, text

TRIALS_FOR_IMPORTANCE = 10  # below, the top quarter is one or two trials
_AT_BOUND = 0.05  # of a range, on its scale
_TOP = 0.25  # the quantile of trials that PED-ANOVA contrasts with all; Optuna's 0.1 would leave one of ten


BEST_SHOWN, OTHERS_SHOWN = 20, 30  # of more trials than both together, so many are drawn and listed


class Budget(NamedTuple):
    """What a search was given and what it used."""

    asked: int | None  # trials; None: device-hours are the budget
    ended: int  # trials that will not run again, however they ended
    complete: int
    epochs: int  # per trial
    seconds: float  # wall-clock of all trials, the baseline included
    hours: tuple[float, float] | None  # seconds of device time used and given, if they are the budget
    finished: bool
    pruned: int  # trials
    saved: int  # epochs that the pruner left out of those of all ended trials


class Step(NamedTuple):
    """One point of a search's history."""

    trial: TrialRecord
    best: float | None  # the highest value so far, the baseline left out


class Axis(NamedTuple):
    """One vertical axis of the parallel coordinates."""

    name: str
    low: str  # what stands at its foot and its head; both empty where `ticks` says it all
    high: str
    ticks: tuple[tuple[float, str], ...]  # (0..1, text) of a choice's values
    positions: tuple[float | None, ...]  # 0..1, one per trial


class AtBound(NamedTuple):
    """A value of the best trial that lies at a bound of its searched range."""

    name: str
    value: float
    range: Range
    upper: bool  # which bound


class Importance(NamedTuple):
    """PED-ANOVA's shares, which add up to 1; or why there are none."""

    shares: tuple[tuple[str, float], ...]  # largest first
    trials: int
    missing: str  # "", "few" or "fixed"


def budget(study: StudyRecord) -> Budget:
    """The plan's trials; the baseline runs beside it and counts in `seconds` only."""
    search, ended = study.protocol.search, sum(t.state.ended for t in study.planned)
    pruned = [t for t in study.planned if t.state == TrialState.PRUNED]
    return Budget(
        asked=search.trials,
        ended=ended,
        complete=sum(t.state == TrialState.COMPLETE for t in study.planned),
        epochs=study.protocol.search.epochs,
        seconds=sum(t.seconds for t in study.trials),
        hours=None if search.seconds is None else (study.used_seconds, search.seconds),
        finished=study.finished if search.trials is None else ended >= search.trials,
        pruned=len(pruned),
        saved=sum(search.epochs - len(t.epochs) for t in pruned),
    )


def said(used: Budget, by_trials: str, by_hours: str, **values: object) -> str:
    """The text of one of two keys, for a budget of trials or of device-hours."""
    if used.hours is None:
        return text(by_trials, asked=used.asked, ended=used.ended, complete=used.complete, epochs=used.epochs, **values)
    device, given = map(duration, used.hours)
    values |= {"device": device, "given": given}
    return text(by_hours, ended=used.ended, complete=used.complete, epochs=used.epochs, **values)


def history(study: StudyRecord) -> list[Step]:
    """The planned trials by trial, with the best so far."""
    steps: list[Step] = []
    best: float | None = None
    for trial in study.planned:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if best is None else max(best, trial.value)
        steps.append(Step(trial, best))
    return steps


def thinned(study: StudyRecord, promoted: Collection[int] = ()) -> StudyRecord:
    """The study with the trials that are drawn and listed: itself where these are all.

    Of more than BEST_SHOWN + OTHERS_SHOWN planned trials: the best, the promoted ones, and of the others those that
    are evenly spaced by rank, the ones without a value last. The baseline is always there.
    """
    trials = study.planned
    if len(trials) <= BEST_SHOWN + OTHERS_SHOWN:
        return study
    ranked = sorted(trials, key=rank)
    others = ranked[BEST_SHOWN:]
    spaced = [others[round(i * (len(others) - 1) / (OTHERS_SHOWN - 1))] for i in range(OTHERS_SHOWN)]
    shown = {trial.index for trial in (*ranked[:BEST_SHOWN], *spaced)} | set(promoted)
    return dataclasses.replace(study, trials=tuple(t for t in study.trials if t.baseline or t.index in shown))


def rank(trial: TrialRecord) -> tuple[bool, float, int]:
    """Sorts trials from the best to the worst, those without a value last."""
    return trial.value is None, -(trial.value or 0.0), trial.index


def valued(study: StudyRecord) -> list[TrialRecord]:
    """Trials with a value, worst first, so that the best are drawn over the others."""
    trials = [t for t in study.trials if t.value is not None]
    return sorted(trials, key=lambda t: (t.value or 0.0, -t.index))


def searched(study: StudyRecord) -> dict[str, Range | Choice]:
    """The part of the space that varies, one entry per hyperparameter."""
    space = spaces.merged(study.architecture.space)
    return {name: values for name, values in space.items() if _varies(values)}


def _varies(values: Range | Choice) -> bool:
    return len(values.values) > 1 if isinstance(values, Choice) else values.low != values.high


def at_bounds(study: StudyRecord) -> list[AtBound]:
    """Where the best trial's values lie within _AT_BOUND of a bound of their range, the one for its optimizer: beyond
    it better ones may lie."""
    best = min((t for t in study.planned if t.state == TrialState.COMPLETE), key=rank, default=None)
    if best is None:
        return []
    space, found = study.architecture.space, []
    for name, entry in spaces.entries(space, str(best.params.get("optimizer"))).items():
        values, value = space[entry], best.params.get(name)
        if isinstance(values, Range) and _varies(values) and isinstance(value, (int, float)):
            place = _place(value, values)
            if min(place, 1 - place) <= _AT_BOUND:
                found.append(AtBound(name, value, values, upper=place > 0.5))
    return found


def axes(study: StudyRecord, shown: list[TrialRecord]) -> list[Axis]:
    """One axis per searched hyperparameter, over the whole searched range."""
    return [_axis(name, values, shown) for name, values in searched(study).items()]


def importance(candidate: Candidate) -> Importance:
    """How much each searched hyperparameter decides whether a trial is among the best quarter.

    S. Watanabe, A. Bansal, F. Hutter: PED-ANOVA, IJCAI 2023, as Optuna computes it.
    """
    from optuna import create_study
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    space = searched(candidate.study) if candidate.study else {}
    complete = [t for t in candidate.study.planned if t.state == TrialState.COMPLETE] if candidate.study else []
    if len(space) < 2:
        return Importance((), len(complete), "fixed")
    if len(complete) < TRIALS_FOR_IMPORTANCE:
        return Importance((), len(complete), "few")
    copy = create_study(direction="maximize")  # without the baseline, whose values may lie outside the space
    distributions = {name: samplers.distribution(values) for name, values in space.items()}
    for trial in complete:
        params = {name: trial.params[name] for name in space}
        copy.add_trial(create_trial(value=trial.value, params=params, distributions=distributions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP)
        shares = get_param_importances(copy, evaluator=evaluator, params=list(space))
    ordered = sorted(shares.items(), key=lambda both: (-both[1], both[0]))
    return Importance(tuple((k, float(v)) for k, v in ordered), len(complete), "")


def _axis(name: str, values: Range | Choice, shown: list[TrialRecord]) -> Axis:
    params = [t.params.get(name) for t in shown]
    if isinstance(values, Choice):
        # A baseline may hold a value that was never to be chosen from.
        known = list(dict.fromkeys([*values.values, *(p for p in params if p is not None)]))
        places = {str(v): i / (len(known) - 1) for i, v in enumerate(known)}
        ticks = tuple((place, text) for text, place in places.items())
        return Axis(name, "", "", ticks, tuple(None if p is None else places[str(p)] for p in params))
    numbers = [values.low, values.high, *(float(p) for p in params if isinstance(p, (int, float)))]
    whole = dataclasses.replace(values, low=min(numbers), high=max(numbers))
    positions = tuple(_place(float(p), whole) if isinstance(p, (int, float)) else None for p in params)
    return Axis(name, scalar(whole.low), scalar(whole.high), (), positions)


def _place(value: float, values: Range) -> float:
    """Where a value lies in a range, on its scale: 0 at the lower bound, 1 at the upper one."""
    scale = math.log if values.log else float
    return (scale(value) - scale(values.low)) / (scale(values.high) - scale(values.low))


def augmentation(study: StudyRecord) -> str:
    """How its training images were augmented, in words; "" where they were not."""
    asked = study.protocol.augment_of(study.architecture)
    if asked is None or asked == Augment():
        return ""
    low, high = (decimals(bound, 2) for bound in asked.scale)
    values: dict[str, dict[str, str]] = {  # what each field that is on says
        "flip": {"flip": percent(asked.flip)},
        "scale": {"low": low, "high": high},
        "rotate": {"rotate": scalar(asked.rotate)},
        "colour": {"colour": percent(asked.colour)},
        "contrast": {"contrast": percent(asked.contrast)},
        "blur": {"blur": scalar(asked.blur)},
        "noise": {"noise": percent(asked.noise)},
    }
    on = [name for name in values if getattr(asked, name) != getattr(Augment, name)]
    said = [text(f"augmentation.{name}", **values[name]) for name in on]
    named = ("randaugment", "trivialaugment", "reflect")
    said += [text(f"augmentation.{each}") for each in named if each in (asked.policy, asked.border)]
    return ", ".join(said)


def recipe(study: StudyRecord) -> str:
    """What its protocol and its architecture's TOML say about training, in words; "" where that is the note's."""
    given = study.protocol.recipe_of(study.architecture).given()
    return ", ".join(f"{name} = {scalar(value)}" for name, value in given.items())
