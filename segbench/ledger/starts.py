"""The configurations that a plan begins with: the known-good values, and the best trials of another protocol's study.

They are trials of the plan like any other and count in its budget. They are stored with the study when it is created,
so that a plan does not change with the other study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from segbench.core import space as spaces
from segbench.core.errors import UserError
from segbench.core.names import part
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import Scalar
from segbench.core.space import Space
from segbench.core.study_record import TrialState
from segbench.ledger import reading
from segbench.ledger.database import StudyStorage
from segbench.ledger.queue import STARTS

WARM_STARTS = 3  # so many of another study's best trials


class Start(NamedTuple):
    """One of them. `source` is "baseline", or the other study and trial, "demo-deeplab 7"."""

    source: str
    params: Mapping[str, Scalar]


def of(storage: StudyStorage, protocol: Protocol, architecture: Architecture) -> list[Start]:
    """What [search] enqueue and warm_start ask for, without repetitions, in the order of the plan.

    Raises UserError for known-good values outside the space, if the other study is missing or none of its best trials
    lies in the space, and for more configurations than trials.
    """
    search, found = protocol.search, list[Start]()
    if search.enqueue:
        found.append(_baseline(protocol, architecture))
    if search.warm_start:
        found += _best_of_another(storage, protocol, architecture)
    distinct = [start for i, start in enumerate(found) if start.params not in [other.params for other in found[:i]]]
    if search.trials is not None and len(distinct) > search.trials:
        raise UserError(
            f"[search] trials of '{protocol.name}' is {search.trials}, but enqueue and warm_start begin the plan of "
            f"{architecture.name} with {len(distinct)} configurations; raise trials"
        )
    return distinct


def stored(attributes: Mapping[str, Any]) -> list[Start]:
    """Those of a study, from its user attributes."""
    return [Start(source, params) for source, params in attributes.get(STARTS, [])]


def _baseline(protocol: Protocol, architecture: Architecture) -> Start:
    where = f"{architecture.name}.toml of '{protocol.name}'"
    if not architecture.baseline:
        raise UserError(f'{where} has no table [baseline], which [search] enqueue = "baseline" needs; add one')
    if odd := _outside(architecture.space, architecture.baseline):
        raise UserError(
            f"{where}: [baseline] {odd} lies outside [space], so it cannot be a trial of the plan; widen the space, or "
            "remove enqueue and run it beside the plan with --baseline"
        )
    return Start("baseline", dict(architecture.baseline))


def _best_of_another(storage: StudyStorage, protocol: Protocol, architecture: Architecture) -> list[Start]:
    name = part(f"{protocol.search.warm_start}-{architecture.name}", "study")
    asked = f"[search] warm_start of '{protocol.name}'"
    if name not in reading.names(storage):
        raise UserError(
            f"{asked}: there is no study '{name}'; search it first (python -m segbench.search {architecture.name} "
            f"--protocol {protocol.search.warm_start}), or remove warm_start"
        )
    trials = [trial for trial in reading.record(storage, name).planned if trial.state == TrialState.COMPLETE]
    best = sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.index))[:WARM_STARTS]
    fitting = [trial for trial in best if not _outside(architecture.space, trial.params)]
    if not fitting:
        why = "; ".join(f"trial {t.index}: {_outside(architecture.space, t.params)}" for t in best)
        raise UserError(
            f"{asked}: no best trial of '{name}' lies in the space of {architecture.name} "
            f"({why or 'none is complete'}); widen the space, or remove warm_start"
        )
    return [Start(f"{name} {trial.index}", dict(trial.params)) for trial in fitting]


def _outside(space: Space, params: Mapping[str, Scalar]) -> str:
    """The first parameter that is not in the space, or that one of the two lacks; "" if all fit."""
    entries = spaces.entries(space, str(params.get("optimizer")))
    if differing := sorted(set(entries) ^ set(params)):
        return differing[0]
    odd = (name for name, value in params.items() if not spaces.contains(space[entries[name]], value))
    return next((f"{name} = {params[name]}" for name in odd), "")
