"""The search's ledger: an Optuna study, its planned slots, and what became of them.

A *slot* is one planned configuration. It may take several Optuna trials to finish (a killed one is queued again), so
everything is keyed by the user attribute `slot`, never by the trial's number.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from segbench import sampling
from segbench.errors import UserError
from segbench.protocol import DRAWN, Architecture, Protocol, Search, Space, fingerprint
from segbench.records import EpochRecord, Scalar, StudyRecord, TrialRecord, WeightsOrigin, from_json, to_json

BASELINE = -1  # the slot of the known-good configuration that runs beside the plan
UNPLANNED = -2
_SECONDS_TO_WAIT_FOR_A_LOCK = 60
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class TrialFailed(Exception):
    """This configuration cannot be finished, here or on a retry. `outcome` is a TrialRecord state."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Stopped(Exception):
    """The trial was asked to stop and has kept all it did: its slot goes on where it stopped."""


def open_storage(database: Path) -> RDBStorage:
    """Opens the SQLite database, making its tables on first use. Raises UserError where it cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # the commands say what happens themselves
    logging.getLogger("alembic").setLevel(logging.ERROR)
    url = f"sqlite:///{database.resolve()}"
    advice = "move it away, or set SEGBENCH_STORAGE to another folder"
    try:
        with FileLock(database.with_suffix(".lock")):  # two first uses at once would make the tables twice
            storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _SECONDS_TO_WAIT_FOR_A_LOCK}})
            _make_transactions_atomic(storage.engine)
            with storage.engine.begin():
                pass  # takes the write lock: a read-only database is better known now
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error)
        raise UserError(f"{database} cannot be used as an Optuna database ({reason}); {advice}") from error
    except RuntimeError as error:  # Optuna's word for a schema it does not know
        raise UserError(f"{database} was made by another version of Optuna: {error} Or {advice}") from error
    return storage


def _make_transactions_atomic(engine: Engine) -> None:
    """SQLite as several processes need it. Stock, two of them can claim the same queued trial: a transaction there
    takes the write lock only at its first write, after both have read "waiting"."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # sqlite3 must not begin transactions of its own
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before these rules


def open_study(
    storage: RDBStorage, protocol: Protocol, architecture: Architecture, data_fingerprint: str, subset: str
) -> optuna.Study:
    """The study `<protocol>-<architecture>`, made on first use.

    Raises UserError where it was made under another protocol, space or dataset: its trials would not be comparable.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=study_name(protocol, architecture),
        direction="maximize",
        load_if_exists=True,
        sampler=sampling.sampler(protocol.search),
        pruner=sampling.pruner(protocol.search),
    )
    known = study.user_attrs
    identity = {"fingerprint": fingerprint(protocol, architecture), "data_fingerprint": data_fingerprint}
    for key, value in identity.items():
        if known.get(key, value) != value:
            what = "protocol or space" if key == "fingerprint" else "dataset"
            raise UserError(
                f"study '{study.study_name}' was made with another {what} (fingerprint {known[key]}, now {value}), so "
                "its trials would not be comparable: undo the change, or copy the protocol folder under a new name and "
                "give --protocol NEW, or set SEGBENCH_STORAGE to another folder"
            )
    description = {"protocol": to_json(protocol), "architecture": to_json(architecture), "subset": subset}
    for key, content in {**identity, **description}.items():
        if known.get(key) != content:
            study.set_user_attr(key, content)
    if not known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["mIoU"])
        _write_note(study, protocol, architecture, subset)
    return study


def study_name(protocol: Protocol, architecture: Architecture) -> str:
    """`<protocol>-<architecture>`."""
    return f"{protocol.name}-{architecture.name}"


def plan(study: optuna.Study, space: Space, search: Search, baseline: Mapping[str, Scalar] | None) -> None:
    """Queues every slot that is neither waiting, running nor ended, and mends trials whose process is gone.

    With the random sampler a slot's parameters come from (seed, slot) alone: the plan is the same whatever the number
    of runs, the order or the crashes. Other samplers choose when the trial starts.
    """
    _mend(study)
    _withdraw(study, search.trials)
    taken = {slot_of(t) for t in study.get_trials(deepcopy=False) if _holds_its_slot(t)}
    distributions = {name: sampling.distribution(values) for name, values in space.items()}
    for index in range(search.trials):
        if index not in taken:
            drawn = sampling.draw(distributions, search.seed, index) if search.sampler == "random" else {}
            _queue(study, index, drawn, {name: distributions[name] for name in drawn})
    if baseline and BASELINE not in taken:
        # Known-good values may lie outside the searched ranges, and then Optuna would refuse them.
        own = {name: sampling.around(value, distributions[name]) for name, value in baseline.items()}
        _queue(study, BASELINE, dict(baseline), own)


def run(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> None:
    """Runs queued slots until none is left. TrialFailed ends its slot; any other exception goes through."""
    while any(t.state == TrialState.WAITING for t in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))):
        study.optimize(lambda trial: _guarded(trial, objective), n_trials=1, catch=(TrialFailed,))


def report(trial: optuna.Trial, epochs: list[EpochRecord]) -> None:
    """Keeps all epochs so far, and reports the last to the pruner."""
    trial.set_user_attr("epochs", to_json(epochs))
    trial.report(epochs[-1].miou, epochs[-1].epoch)


def remember_weights(trial: optuna.Trial, origin: WeightsOrigin) -> None:
    """Keeps where the trial started from; the study tells it of its first trial, since all start from the same."""
    trial.set_user_attr("weights", to_json(origin))
    if "weights" not in trial.study.user_attrs:
        trial.study.set_user_attr("weights", to_json(origin))


def slot_of(trial: FrozenTrial | optuna.Trial) -> int:
    """Which planned configuration this is, or UNPLANNED for a trial that somebody else put into the study."""
    return int(trial.user_attrs.get("slot", UNPLANNED))


def record(storage: RDBStorage, name: str) -> StudyRecord:
    """The study as a record. Raises UserError where there is none."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        there = ", ".join(names(storage)) or "no study at all"
        raise UserError(
            f"no study '{name}': the storage holds {there}. Search first: python -m segbench.search"
        ) from None
    attributes = study.user_attrs
    latest: dict[int, TrialRecord] = {}
    for trial in study.get_trials(deepcopy=False):
        index = slot_of(trial)
        if index != UNPLANNED and "withdrawn" not in trial.user_attrs:
            latest[index] = _trial_record(name, trial, index)  # a slot's later trials replace its earlier ones
    return StudyRecord(
        name=name,
        protocol=attributes.get("protocol", {}),
        architecture=attributes.get("architecture", {}),
        fingerprint=attributes.get("fingerprint", ""),
        data_fingerprint=attributes.get("data_fingerprint", ""),
        weights=from_json(WeightsOrigin, attributes["weights"]) if "weights" in attributes else None,
        subset=attributes.get("subset", ""),
        run_id=attributes.get("run_id", ""),
        trials=tuple(latest[index] for index in sorted(latest)),
    )


def names(storage: RDBStorage) -> list[str]:
    """The studies there are."""
    return sorted(optuna.get_all_study_names(storage))


def best(study: StudyRecord) -> TrialRecord | None:
    """The finished trial with the highest miou; of equals the first slot. The baseline is no candidate."""
    finished = [t for t in study.trials if t.state == "complete" and t.value is not None and not t.baseline]
    return max(finished, key=lambda t: (t.value or 0.0, -t.slot), default=None)


def _guarded(trial: optuna.Trial, objective: Callable[[optuna.Trial], float]) -> float:
    if slot_of(trial) == UNPLANNED:  # another process was first to the last slot, so Optuna made a trial of its own
        raise TrialFailed("failed", "no slot was left")
    trial.set_user_attr("owner", f"{os.uname().nodename}:{os.getpid()}")
    try:
        return objective(trial)
    except TrialFailed as failure:
        trial.set_user_attr("outcome", failure.outcome)
        trial.set_user_attr("reason", str(failure))
        raise


def _holds_its_slot(trial: FrozenTrial) -> bool:
    return trial.state in (*_ENDED, TrialState.WAITING, TrialState.RUNNING) or "outcome" in trial.user_attrs


def _write_note(study: optuna.Study, protocol: Protocol, architecture: Architecture, subset: str) -> None:
    """What optuna-dashboard shows above the study."""
    from optuna_dashboard import save_note

    banner = f"> **{DRAWN}**\n\n" if protocol.drawn else ""
    save_note(
        study,
        f"{banner}## {architecture.title}\n\n{protocol.title}: {protocol.search.trials} slots of "
        f"{protocol.search.epochs} epochs, {subset}. Initial weights: {architecture.weights}. A trial's value is its "
        f"best epoch's mIoU over the 8 categories.\n\n"
        f"Go on: `python -m segbench.search {architecture.name} --protocol {protocol.name}`, then "
        f"`python -m segbench.promote {architecture.name} --protocol {protocol.name}`.",
    )


def _mend(study: optuna.Study) -> None:
    """Fails running trials whose process on this machine is gone, so that their slots are queued again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, pid = trial.user_attrs.get("owner", "").partition(":")
        if host == os.uname().nodename and not _is_alive(int(pid)):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _withdraw(study: optuna.Study, trials: int) -> None:
    """Takes back queued slots beyond the budget, left by a longer search; the next longer one queues them again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if slot_of(trial) >= trials:
            study._storage.set_trial_user_attr(trial._trial_id, "withdrawn", True)
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # asks only
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and somebody else's
    return True


def _queue(
    study: optuna.Study, index: int, params: dict[str, Any], distributions: Mapping[str, BaseDistribution]
) -> None:
    study.add_trial(
        create_trial(
            state=TrialState.WAITING, params=params, distributions=dict(distributions), user_attrs={"slot": index}
        )
    )


def _trial_record(study: str, trial: FrozenTrial, index: int) -> TrialRecord:
    attributes = trial.user_attrs
    state = attributes.get("outcome") or {TrialState.FAIL: "failed"}.get(trial.state) or trial.state.name.lower()
    return TrialRecord(
        study=study,
        number=trial.number,
        slot=index,
        state=state,
        value=trial.value if trial.state in _ENDED else None,
        params=trial.params,
        epochs=tuple(from_json(EpochRecord, epoch) for epoch in attributes.get("epochs", [])),
        reason=attributes.get("reason", ""),
        seconds=trial.duration.total_seconds() + attributes.get("earlier_seconds", 0.0) if trial.duration else 0.0,
        startup_seconds=attributes.get("startup_seconds", 0.0),
        device=attributes.get("device", ""),
        run_id=attributes.get("run_id", ""),
    )
