"""A search's budget in device-hours: every epoch of a planned trial is charged once, in the order in which epochs end.

An epoch costs its wall-clock seconds without bookkeeping, that is data, training and evaluation, on the device of its
worker; several workers spend one budget together. A failed epoch (diverged, out of memory) costs what it took. Nothing
else is charged, for any architecture: not building the network, checkpoints and database entries, not an epoch that a
kill interrupted, not the baseline beside the plan.

An epoch is charged before it is stored. It is refused, and not stored, if the budget was spent meanwhile; so a study
holds its budget and at most one epoch more, whatever the number of workers. A charge is the attempt's system attribute
`seconds:<epoch>`. The next attempt at the trial inherits it: what is trained again after a kill has been paid for.
"""

from __future__ import annotations

import json

import optuna
from sqlalchemy import Connection, Float, cast, func, literal, select

from segbench.core.records import EpochRecord
from segbench.ledger import attempts, database, optuna_private
from segbench.ledger.optuna_private import ATTEMPTS, STUDIES, SYSTEM_ATTRIBUTES, USER_ATTRIBUTES

CHARGE = "seconds:"  # prefix of a charge's attribute, before the epoch's number


def cost(record: EpochRecord) -> float:
    """The seconds that an epoch is charged."""
    return record.seconds.total - record.seconds.bookkeeping


def affords(attempt: optuna.Trial, epoch: int, seconds: float) -> bool:
    """Whether the attempt may train this epoch: `seconds`, the study's budget, are not spent, or it has been paid."""
    study, number = optuna_private.study_id(attempt.study), optuna_private.attempt_id(attempt)

    def work(connection: Connection) -> bool:
        return _is_paid(connection, number, epoch) or used(connection, study) < seconds

    return database.storage_of(attempt.study).reading(work)


def charge(attempt: optuna.Trial, epoch: int, cost: float, seconds: float) -> bool:
    """Charges the epoch `cost` seconds, unless it has been paid. Returns False, and charges nothing, if `seconds`, the
    study's budget, were spent before. Raises UpdateFinishedTrialError if the trial was given to another process."""
    study, number = optuna_private.study_id(attempt.study), optuna_private.attempt_id(attempt)

    def work(connection: Connection) -> bool:
        lock(connection, study)
        attempts.require_running(connection, number)
        if _is_paid(connection, number, epoch):
            return True
        if used(connection, study) >= seconds:
            return False
        row = {"trial_id": number, "key": f"{CHARGE}{epoch}", "value_json": json.dumps(cost)}
        connection.execute(SYSTEM_ATTRIBUTES.insert(), row)
        return True

    return database.storage_of(attempt.study).writing(work)


def used(connection: Connection, study: int) -> float:
    """The seconds charged so far; of several attempts at a trial, the last one holds all charges."""
    replaced = select(literal(1)).where(
        USER_ATTRIBUTES.c.trial_id == ATTEMPTS.c.trial_id, USER_ATTRIBUTES.c.key == "continued_by"
    )
    charged = select(func.sum(cast(SYSTEM_ATTRIBUTES.c.value_json, Float))).join(ATTEMPTS)
    of_study = charged.where(ATTEMPTS.c.study_id == study, SYSTEM_ATTRIBUTES.c.key.like(f"{CHARGE}%"))
    return float(connection.scalar(of_study.where(~replaced.exists())) or 0.0)


def lock(connection: Connection, study: int) -> None:
    """Keeps other processes from charging and planning until the transaction ends."""
    connection.execute(select(STUDIES.c.study_id).where(STUDIES.c.study_id == study).with_for_update())


def _is_paid(connection: Connection, attempt: int, epoch: int) -> bool:
    columns = SYSTEM_ATTRIBUTES.c
    row = select(literal(1)).where(columns.trial_id == attempt, columns.key == f"{CHARGE}{epoch}")
    return connection.scalar(row) is not None
