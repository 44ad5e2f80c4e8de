"""Notes and plots as optuna-dashboard stores them: in a study's system attributes, split into pieces.

optuna-dashboard has functions for this, `save_note` and `save_plotly_graph_object`, but importing it imports
scikit-learn, which takes each worker of a search seconds. A test reads these notes and plots through the dashboard.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna
from sqlalchemy import Connection, delete, insert, select

from segbench.ledger import database, optuna_private
from segbench.ledger.optuna_private import STUDY_SYSTEM_ATTRIBUTES as _ATTRIBUTES

_LONGEST_PIECE = 2045  # characters that a system attribute can hold in any database


def note(study: optuna.Study) -> str:
    """A study's note, Markdown; empty without one."""
    pieces = read(study, "dashboard:note_str:")
    return "".join(pieces[f"dashboard:note_str:{index}"] for index in range(len(pieces)))


def write_note(study: optuna.Study, text: str, attempt: optuna.Trial | None = None) -> None:
    """Replaces the note of a study, or of one of its attempts. `text`: Markdown."""
    start = f"dashboard:{optuna_private.attempt_id(attempt)}:" if attempt else "dashboard:"
    version = int(read(study, f"{start}note_ver").get(f"{start}note_ver", 0))
    _write(study, f"{start}note_str:", text, {f"{start}note_ver": version + 1})  # the page never overwrites a newer one


def write_plot(study: optuna.Study, name: str, figure: dict[str, Any], marks: Mapping[str, Any]) -> None:
    """Replaces a plot of a study. `name`: letters, digits, -, _ and .; `figure`: a plotly figure as JSON; `marks`:
    system attributes set in the same transaction."""
    _write(study, f"dashboard:plot_data:{name}:", json.dumps(figure), marks)


def read(study: optuna.Study, prefix: str) -> dict[str, Any]:
    """The study's system attributes whose names begin with `prefix`; all would be too many, as every trial has some."""
    study_id = optuna_private.study_id(study)
    return database.storage_of(study).reading(lambda connection: _read(connection, study_id, prefix))


def _read(connection: Connection, study: int, prefix: str) -> dict[str, Any]:
    begins = _ATTRIBUTES.c.key.startswith(prefix, autoescape=True)
    query = select(_ATTRIBUTES.c["key", "value_json"]).where(_ATTRIBUTES.c.study_id == study, begins)
    return {key: json.loads(value) for key, value in connection.execute(query)}


def _write(study: optuna.Study, prefix: str, text: str, marks: Mapping[str, Any]) -> None:
    """Replaces a text that is stored in pieces, and sets `marks`, in one transaction."""
    study_id = optuna_private.study_id(study)
    pieces = [text[start : start + _LONGEST_PIECE] for start in range(0, len(text), _LONGEST_PIECE)]

    def work(connection: Connection) -> None:
        known = _read(connection, study_id, prefix)
        rest = [""] * (len(known) - len(pieces))  # of an earlier, longer text
        values = {f"{prefix}{index}": piece for index, piece in enumerate(pieces + rest)} | dict(marks)
        changed = {key: value for key, value in values.items() if key not in known or known[key] != value}
        for key in changed:
            columns = _ATTRIBUTES.c
            connection.execute(delete(_ATTRIBUTES).where(columns.study_id == study_id, columns.key == key))
        rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(v)} for key, v in changed.items()]
        if rows:
            connection.execute(insert(_ATTRIBUTES), rows)

    database.storage_of(study).writing(work)
