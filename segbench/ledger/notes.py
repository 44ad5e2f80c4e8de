"""Notes and plots in the form in which optuna-dashboard reads them: a study's system attributes, in pieces.

optuna-dashboard has functions for this, `save_note` and `save_plotly_graph_object`, but importing it imports
scikit-learn: seconds for every worker of a search. A test reads back through the dashboard what is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna
from sqlalchemy import Connection, delete, insert, select

from segbench.ledger import database, optuna_private
from segbench.ledger.optuna_private import STUDY_SYSTEM_ATTRIBUTES as _ATTRIBUTES

_LONGEST_PIECE = 2045  # characters; what a system attribute can hold in any database


def note(study: optuna.Study) -> str:
    """A study's note, Markdown; empty where there is none."""
    pieces = read(study, "dashboard:note_str:")
    return "".join(pieces[f"dashboard:note_str:{index}"] for index in range(len(pieces)))


def write_note(study: optuna.Study, text: str, attempt: optuna.Trial | None = None) -> None:
    """Replaces the note of a study, or of one of its attempts. `text`: Markdown."""
    start = f"dashboard:{optuna_private.attempt_id(attempt)}:" if attempt else "dashboard:"
    version = int(read(study, f"{start}note_ver").get(f"{start}note_ver", 0))
    _write(study, f"{start}note_str:", text, {f"{start}note_ver": version + 1})  # the page saves over no newer one


def write_plot(study: optuna.Study, name: str, figure: dict[str, Any], marks: Mapping[str, Any]) -> None:
    """Replaces a plot of a study. `name`: letters, digits, -, _ and .; `figure`: what plotly draws, as JSON; `marks`:
    system attributes that are set together with it."""
    _write(study, f"dashboard:plot_data:{name}:", json.dumps(figure), marks)


def read(study: optuna.Study, prefix: str) -> dict[str, Any]:
    """The study's system attributes of names that begin so. There are some of every trial: all would be too many."""
    study_id = optuna_private.study_id(study)
    return database.storage_of(study).reading(lambda connection: _read(connection, study_id, prefix))


def _read(connection: Connection, study: int, prefix: str) -> dict[str, Any]:
    begins = _ATTRIBUTES.c.key.startswith(prefix, autoescape=True)
    query = select(_ATTRIBUTES.c["key", "value_json"]).where(_ATTRIBUTES.c.study_id == study, begins)
    return {key: json.loads(value) for key, value in connection.execute(query)}


def _write(study: optuna.Study, prefix: str, text: str, marks: Mapping[str, Any]) -> None:
    """Replaces a text that lies in pieces, and sets `marks`: all in one transaction."""
    study_id = optuna_private.study_id(study)
    pieces = [text[start : start + _LONGEST_PIECE] for start in range(0, len(text), _LONGEST_PIECE)]

    def work(connection: Connection) -> None:
        known = _read(connection, study_id, prefix)
        rest = [""] * (len(known) - len(pieces))  # of a longer text before
        wanted = {f"{prefix}{index}": piece for index, piece in enumerate(pieces + rest)} | dict(marks)
        changed = {key: value for key, value in wanted.items() if key not in known or known[key] != value}
        for key in changed:
            own = _ATTRIBUTES.c
            connection.execute(delete(_ATTRIBUTES).where(own.study_id == study_id, own.key == key))
        rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(v)} for key, v in changed.items()]
        if rows:
            connection.execute(insert(_ATTRIBUTES), rows)

    database.storage_of(study).writing(work)
