"""The attempts of a study in its database: one query per question, one transaction per step of a trial.

Optuna's own methods would read all trials of a study with all their attributes at every step of every trial.

    waiting → running → complete | pruned | failed with an outcome       the trial has ended
                      → failed without outcome → continued_by N          attempt N continues the trial

An attempt's user attributes hold its trial (`trial`), its end (`outcome`, `reason`, `stopped`, `withdrawn`,
`continued_by`) and its process (`owner`). Its epochs are system attributes `epoch:1`, `epoch:2`, …, one row each,
because the dashboard shows a column for every user attribute.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState as AttemptState
from sqlalchemy import Connection, and_, delete, func, insert, literal, or_, select, update

from segbench.core.study_record import TrialState
from segbench.ledger.optuna_private import (
    ATTEMPTS,
    HEARTBEATS,
    INTERMEDIATE_VALUES,
    PARAMS,
    STUDIES,
    SYSTEM_ATTRIBUTES,
    USER_ATTRIBUTES,
    finite,
)

_RUNG = "completed_rung_"  # prefix of the attributes by which Optuna's successive halving compares trials
EPOCH = "epoch:"  # prefix of an epoch's attribute, before its number
_OF_ONE_ATTEMPT = ("owner", "device", "stopped", "withdrawn", "outcome", "reason", "continued_by")
_SETTLED = ("outcome", "withdrawn", "continued_by")  # a failed attempt with one of these needs no further action
_ENDED = (AttemptState.COMPLETE, AttemptState.PRUNED)
_ID = ATTEMPTS.c.trial_id


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial, with the user attributes that were queried."""

    id: int
    number: int  # Optuna's, within the study
    state: AttemptState
    started: datetime | None  # UTC, naive
    ended: datetime | None  # likewise
    attributes: Mapping[str, Any]

    @property
    def index(self) -> int:
        """The index of its trial."""
        return int(self.attributes["trial"])

    @property
    def trial_state(self) -> TrialState:
        """The state of its trial, if this is the trial's last attempt."""
        if self.state == AttemptState.FAIL:
            return TrialState(self.attributes.get("outcome", TrialState.FAILED))
        return TrialState(self.state.name.lower())

    @property
    def unfinished(self) -> bool:
        """Whether its trial has not ended: a failed attempt without an outcome will be continued."""
        return self.state not in _ENDED and "outcome" not in self.attributes


@dataclass(frozen=True)
class Planned:
    """A configuration to queue."""

    index: int
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


def every(connection: Connection, study: int, keys: Collection[str] | None = None) -> list[Attempt]:
    """All attempts at planned trials, oldest first, with the user attributes in `keys`; None: with all."""
    attributes: dict[int, dict[str, Any]] = {}
    query = select(USER_ATTRIBUTES.c["trial_id", "key", "value_json"]).join(ATTEMPTS).where(_in(study))
    if keys is not None:
        query = query.where(USER_ATTRIBUTES.c.key.in_({"trial", *keys}))
    for attempt, key, value in connection.execute(query):
        attributes.setdefault(attempt, {})[key] = json.loads(value)
    columns = ATTEMPTS.c["trial_id", "number", "state", "datetime_start", "datetime_complete"]
    rows = connection.execute(select(columns).where(_in(study)).order_by(_ID))
    return [_attempt(row, known) for row in rows if "trial" in (known := attributes.get(row.trial_id, {}))]


def unsettled(connection: Connection, study: int) -> list[tuple[Attempt, float | None]]:
    """The running attempts, and the failed ones that are not continued yet, each with the seconds since its last
    heartbeat by the database's clock; None without a heartbeat."""
    trial, owner = USER_ATTRIBUTES.alias(), USER_ATTRIBUTES.alias()
    settled = select(literal(1)).where(USER_ATTRIBUTES.c.trial_id == _ID, USER_ATTRIBUTES.c.key.in_(_SETTLED))
    open_ends = or_(
        ATTEMPTS.c.state == AttemptState.RUNNING, and_(ATTEMPTS.c.state == AttemptState.FAIL, ~settled.exists())
    )
    columns = ATTEMPTS.c["trial_id", "number", "state", "datetime_start", "datetime_complete"]
    query = (
        select(*columns, trial.c.value_json, owner.c.value_json, HEARTBEATS.c.heartbeat, func.now())
        .join(trial, and_(trial.c.trial_id == _ID, trial.c.key == "trial"))
        .outerjoin(owner, and_(owner.c.trial_id == _ID, owner.c.key == "owner"))
        .outerjoin(HEARTBEATS, HEARTBEATS.c.trial_id == _ID)
        .where(_in(study), open_ends)
        .order_by(_ID)
    )
    attempts = []
    for row in connection.execute(query):
        *_, index, owned_by, beat, now = row
        attributes = {"trial": json.loads(index)} | ({"owner": json.loads(owned_by)} if owned_by else {})
        silence = (now.replace(tzinfo=None) - beat).total_seconds() if beat else None
        attempts.append((_attempt(row, attributes), silence))
    return attempts


def claim(connection: Connection, study: int, owner: str) -> int | None:
    """Starts the first queued attempt for `owner` and returns its id; None if the queue is empty."""
    is_ours = select(literal(1)).where(USER_ATTRIBUTES.c.trial_id == _ID, USER_ATTRIBUTES.c.key == "trial").exists()
    waiting = select(_ID).where(_in(study), ATTEMPTS.c.state == AttemptState.WAITING, is_ours).order_by(_ID).limit(1)
    while (attempt := connection.scalar(waiting)) is not None:
        still_waiting = update(ATTEMPTS).where(attempt == _ID, ATTEMPTS.c.state == AttemptState.WAITING)
        claimed = connection.execute(still_waiting.values(state=AttemptState.RUNNING, datetime_start=_now()))
        if claimed.rowcount:  # else another process claimed it first
            set_attributes(connection, attempt, {"owner": owner})
            connection.execute(delete(HEARTBEATS).where(HEARTBEATS.c.trial_id == attempt))
            connection.execute(insert(HEARTBEATS).values(trial_id=attempt, heartbeat=func.current_timestamp()))
            return int(attempt)
    return None


def end(connection: Connection, attempt: int, **attributes: Any) -> bool:
    """Ends an attempt without a value and sets `attributes`. Returns False if it had already ended."""
    open_states = (AttemptState.WAITING, AttemptState.RUNNING)
    ended = connection.execute(
        update(ATTEMPTS)
        .where(attempt == _ID, ATTEMPTS.c.state.in_(open_states))
        .values(state=AttemptState.FAIL, datetime_complete=_now())
    )
    if ended.rowcount:
        set_attributes(connection, attempt, attributes)
    return bool(ended.rowcount)


def requeue(connection: Connection, study: int, attempt: int, deaths: list[int] | None = None) -> None:
    """Queues a new attempt at the trial of a failed `attempt`, with its epochs and parameters, unless one exists.

    The trial continues in a new row, so that a process thought dead cannot write into it. `deaths`: the trial's deaths
    if there is a new one; see queue.deaths.
    """
    number, known = _next_number(connection, study), read_attributes(connection, attempt)
    follower = _follower(connection, study, attempt, known["trial"])
    if follower is None:
        row = {"study_id": study, "number": number, "state": AttemptState.WAITING}
        follower, new = number, connection.scalar(insert(ATTEMPTS).returning(_ID), row)
        inherited = {key: value for key, value in known.items() if key not in _OF_ONE_ATTEMPT}
        set_attributes(connection, new, inherited | ({"deaths": deaths} if deaths else {}))
        for table in (PARAMS, SYSTEM_ATTRIBUTES, INTERMEDIATE_VALUES):
            _copy(connection, table, attempt, new)
        rungs = and_(SYSTEM_ATTRIBUTES.c.trial_id == attempt, SYSTEM_ATTRIBUTES.c.key.like(f"{_RUNG}%"))
        connection.execute(delete(SYSTEM_ATTRIBUTES).where(rungs))  # else the trial would compete against itself
    set_attributes(connection, attempt, {"continued_by": follower})


def queue(connection: Connection, study: int, planned: Iterable[Planned]) -> None:
    """Queues an attempt at each planned trial."""
    plan = list(planned)
    if not plan:
        return
    first = _next_number(connection, study)
    rows = [{"study_id": study, "number": first + i, "state": AttemptState.WAITING} for i in range(len(plan))]
    _insert(connection, ATTEMPTS, rows)
    new = select(_ID).where(_in(study), ATTEMPTS.c.number >= first).order_by(ATTEMPTS.c.number)
    ids = connection.scalars(new).all()
    _insert(connection, USER_ATTRIBUTES, [
        {"trial_id": attempt, "key": "trial", "value_json": json.dumps(trial.index)}
        for attempt, trial in zip(ids, plan, strict=True)
    ])  # fmt: skip
    _insert(connection, PARAMS, [
        {"trial_id": attempt, "param_name": name, "param_value": distribution.to_internal_repr(trial.params[name]),
         "distribution_json": distribution_to_json(distribution)}
        for attempt, trial in zip(ids, plan, strict=True) for name, distribution in trial.distributions.items()
    ])  # fmt: skip


def report(connection: Connection, attempt: int, epoch: int, value: float, content: Any) -> None:
    """Stores an epoch's `content` and its `value`, which pruners compare, in place of an earlier version.

    Raises UpdateFinishedTrialError if the attempt has ended: its process was thought dead.
    """
    require_running(connection, attempt)
    _replace(connection, SYSTEM_ATTRIBUTES, attempt, {"key": f"{EPOCH}{epoch}"}, {"value_json": json.dumps(content)})
    _replace(connection, INTERMEDIATE_VALUES, attempt, {"step": epoch}, finite(value))


def require_running(connection: Connection, attempt: int) -> None:
    """Raises UpdateFinishedTrialError if the attempt has ended, and else locks its row."""
    running = update(ATTEMPTS).where(attempt == _ID, ATTEMPTS.c.state == AttemptState.RUNNING)
    if not connection.execute(running.values(state=AttemptState.RUNNING)).rowcount:
        raise UpdateFinishedTrialError(f"attempt {attempt} has ended")


def values(connection: Connection, study: int, states: Collection[AttemptState]) -> dict[int, dict[int, float]]:
    """For each attempt in one of these states, by id: the reported value of each epoch."""
    columns = INTERMEDIATE_VALUES.c["trial_id", "step", "intermediate_value"]
    query = select(columns).join(ATTEMPTS).where(_in(study), ATTEMPTS.c.state.in_(states))
    by_attempt: dict[int, dict[int, float]] = {}
    for attempt, epoch, value in connection.execute(query.order_by(INTERMEDIATE_VALUES.c.step)):
        by_attempt.setdefault(attempt, {})[epoch] = value
    return by_attempt


def best_value(connection: Connection, study: int) -> float:
    """The highest value of any epoch; 0 without epochs."""
    query = select(func.max(INTERMEDIATE_VALUES.c.intermediate_value)).join(ATTEMPTS).where(_in(study))
    return float(connection.scalar(query) or 0.0)


def epochs(connection: Connection, attempt: int) -> int:
    """How many epochs were reported."""
    query = select(func.count()).where(INTERMEDIATE_VALUES.c.trial_id == attempt)
    return int(connection.scalar(query) or 0)


def any_epoch(connection: Connection, study: int) -> bool:
    """Whether any attempt has reported an epoch."""
    query = select(INTERMEDIATE_VALUES.c.trial_id).join(ATTEMPTS).where(_in(study)).limit(1)
    return connection.scalar(query) is not None


def ended(connection: Connection, study: int) -> int:
    """How many trials have ended with a value."""
    query = select(func.count()).select_from(ATTEMPTS).where(_in(study), ATTEMPTS.c.state.in_(_ENDED))
    return int(connection.scalar(query) or 0)


def read_attributes(connection: Connection, attempt: int) -> dict[str, Any]:
    """All user attributes of an attempt."""
    query = select(USER_ATTRIBUTES.c["key", "value_json"]).where(USER_ATTRIBUTES.c.trial_id == attempt)
    return {key: json.loads(value) for key, value in connection.execute(query)}


def set_attributes(connection: Connection, attempt: int, attributes: Mapping[str, Any]) -> None:
    """Sets or replaces user attributes."""
    if not attributes:
        return
    columns = USER_ATTRIBUTES.c
    connection.execute(delete(USER_ATTRIBUTES).where(columns.trial_id == attempt, columns.key.in_(attributes)))
    rows = [{"trial_id": attempt, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    _insert(connection, USER_ATTRIBUTES, rows)


def _attempt(row: Any, attributes: Mapping[str, Any]) -> Attempt:
    return Attempt(row.trial_id, row.number, row.state, row.datetime_start, row.datetime_complete, attributes)


def _in(study: int) -> Any:
    return ATTEMPTS.c.study_id == study


def _is(table: Any, attempt: int, keys: Mapping[str, Any]) -> Any:
    return and_(table.c.trial_id == attempt, *(table.c[name] == value for name, value in keys.items()))


def _follower(connection: Connection, study: int, attempt: int, index: int) -> int | None:
    """The number of a later attempt at the same trial."""
    columns = USER_ATTRIBUTES.c
    same = and_(columns.trial_id == _ID, columns.key == "trial", columns.value_json == json.dumps(index))
    later = select(ATTEMPTS.c.number).join(USER_ATTRIBUTES, same).where(_in(study), attempt < _ID)
    return connection.scalar(later.limit(1))


def _next_number(connection: Connection, study: int) -> int:
    """The next attempt number, counted as Optuna does; locking the study's row keeps others from queueing meanwhile."""
    connection.execute(select(STUDIES.c.study_id).where(STUDIES.c.study_id == study).with_for_update())
    return int(connection.scalar(select(func.count()).select_from(ATTEMPTS).where(_in(study))) or 0)


def _insert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _replace(
    connection: Connection, table: Any, attempt: int, keys: Mapping[str, Any], content: Mapping[str, Any]
) -> None:
    replaced = connection.execute(update(table).where(_is(table, attempt, keys)).values(**content))
    if not replaced.rowcount:
        connection.execute(insert(table).values(trial_id=attempt, **keys, **content))


def _copy(connection: Connection, table: Any, old: int, new: int) -> None:
    """Copies all rows of the attempt `old` for the attempt `new`."""
    columns = [column for column in table.columns if not column.primary_key and column.name != "trial_id"]
    rows = select(literal(new), *columns).where(table.c.trial_id == old)
    primary = next(column for column in table.columns if column.primary_key)
    connection.execute(insert(table).from_select(["trial_id", *(c.name for c in columns)], rows.order_by(primary)))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
