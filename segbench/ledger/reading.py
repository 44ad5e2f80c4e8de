"""Reads a study from its database as a record, in a handful of queries."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, json_to_distribution
from sqlalchemy import Connection, select

from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import Device, EpochRecord, EpochSeconds, Quality, Scalar, WeightsOrigin, from_json
from segbench.core.space import resolved
from segbench.core.study_record import StudyRecord, TrialRecord
from segbench.ledger import attempts
from segbench.ledger.attempts import EPOCH, Attempt
from segbench.ledger.database import StudyStorage
from segbench.ledger.device_hours import CHARGE
from segbench.ledger.optuna_private import ATTEMPTS, PARAMS, STUDIES, STUDY_USER_ATTRIBUTES, SYSTEM_ATTRIBUTES, VALUES
from segbench.ledger.queue import STARTS, last

FINAL_SCORES = "final_scores"  # the study's attribute that `rescore` writes
NO_FINAL_SCORES: dict[str, Any] = {"images": "", "scores": {}}  # its initial value


class _Content(NamedTuple):
    """Parameters, values, epochs and charged seconds of a study's attempts, by attempt id."""

    params: dict[int, dict[str, Scalar]]
    values: dict[int, float]
    epochs: dict[int, list[EpochRecord]]
    charged: dict[int, float]


def record(storage: StudyStorage, name: str, search: str = "python -m segbench.search") -> StudyRecord:
    """The study as a record. Raises UserError if it does not exist; `search` is the command that would create it."""
    study = storage.reading(lambda connection: _read(connection, name))
    if study is None:
        known = ", ".join(names(storage)) or "no study"
        raise UserError(f"no study '{name}': the storage holds {known}. Search first: {search}")
    return study


def names(storage: StudyStorage) -> list[str]:
    """The studies that `open_study` created; those of other programs are left out."""
    ours = select(STUDIES.c.study_name).join(STUDY_USER_ATTRIBUTES).where(STUDY_USER_ATTRIBUTES.c.key == "protocol")
    return storage.reading(lambda connection: sorted(connection.scalars(ours)))


def is_there(storage: StudyStorage, study_id: int) -> bool:
    """Whether the study has not been deleted."""
    row = select(STUDIES.c.study_id).where(STUDIES.c.study_id == study_id)
    return storage.reading(lambda connection: connection.scalar(row)) is not None


def _read(connection: Connection, name: str) -> StudyRecord | None:
    study = connection.scalar(select(STUDIES.c.study_id).where(STUDIES.c.study_name == name))
    if study is None:
        return None
    rows = select(STUDY_USER_ATTRIBUTES.c["key", "value_json"]).where(STUDY_USER_ATTRIBUTES.c.study_id == study)
    known = {key: json.loads(value) for key, value in connection.execute(rows)}
    try:
        protocol = from_json(Protocol, known["protocol"])
        architecture = from_json(Architecture, known["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"study '{name}' cannot be read ({error!r}): another program or version created it; search under a new "
            "name, or give another database with --study-db"
        ) from error
    content, latest = _content(connection, study), last(attempts.every(connection, study))
    return StudyRecord(
        name=name,
        id=known.get("id", ""),
        protocol=protocol,
        architecture=architecture,
        fingerprint=known.get("fingerprint", ""),
        data_fingerprint=known.get("data_fingerprint", ""),
        weights=from_json(WeightsOrigin, known["weights"]) if "weights" in known else None,
        subset=known.get("subset", ""),
        run_id=known.get("run_id", ""),
        trials=tuple(
            _trial(name, attempt, content)
            for _, attempt in sorted(latest.items())
            if "withdrawn" not in attempt.attributes
        ),
        final_scores={int(index): v for index, v in known.get(FINAL_SCORES, NO_FINAL_SCORES)["scores"].items()},
        starts={index: source for index, (source, _) in enumerate(known.get(STARTS, []))},
    )


def _content(connection: Connection, study: int) -> _Content:
    params: dict[int, dict[str, Scalar]] = {}
    for attempt, name, value, distribution in _rows(
        connection, study, PARAMS, ("param_name", "param_value", "distribution_json"), PARAMS.c.param_id
    ):
        params.setdefault(attempt, {})[name] = _distribution(distribution).to_external_repr(value)
    values = dict(_rows(connection, study, VALUES, ("value",)))
    epochs: dict[int, list[EpochRecord]] = {}
    charged: dict[int, float] = {}
    for attempt, key, value in _rows(connection, study, SYSTEM_ATTRIBUTES, ("key", "value_json")):
        if key.startswith(EPOCH):
            epochs.setdefault(attempt, []).append(_epoch(json.loads(value)))
        elif key.startswith(CHARGE):
            charged[attempt] = charged.get(attempt, 0.0) + float(value)
    return _Content(params, values, epochs, charged)


def _epoch(content: dict[str, Any]) -> EpochRecord:
    """Like `from_json`, in a tenth of its time: a study may have ten thousand epochs."""
    parts = {"iou": tuple(content["iou"]), "seconds": EpochSeconds(**content["seconds"])}
    if quality := content.get("panoptic"):
        parts["panoptic"] = Quality(**{**quality, "pq_classes": tuple(quality["pq_classes"])})
    return EpochRecord(**{**content, **parts})


def _rows(connection: Connection, study: int, table: Any, names: tuple[str, ...], order: Any = None) -> Iterator[Any]:
    columns = table.c[("trial_id", *names)]
    query = select(columns).join(ATTEMPTS, ATTEMPTS.c.trial_id == table.c.trial_id).where(ATTEMPTS.c.study_id == study)
    return iter(connection.execute(query.order_by(order)))


@functools.lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _trial(study: str, attempt: Attempt, content: _Content) -> TrialRecord:
    known, seconds = attempt.attributes, 0.0
    if attempt.started and attempt.ended:
        seconds = (attempt.ended - attempt.started).total_seconds() + known.get("earlier_seconds", 0.0)
    return TrialRecord(
        study=study,
        index=attempt.index,
        attempt=attempt.number,
        state=attempt.trial_state,
        value=content.values.get(attempt.id),
        params=resolved(content.params.get(attempt.id, {})),
        epochs=tuple(sorted(content.epochs.get(attempt.id, []), key=lambda record: record.epoch)),
        reason=known.get("reason", ""),
        seconds=seconds,
        startup_seconds=known.get("startup_seconds", 0.0),
        device=from_json(Device, known["device"]) if "device" in known else None,
        run_id=known.get("run_id", ""),
        owner=known.get("owner", ""),
        ended=attempt.ended.replace(tzinfo=UTC).isoformat() if attempt.ended else "",
        charged_seconds=content.charged.get(attempt.id, 0.0),
    )
