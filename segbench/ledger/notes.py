"""Notes and plots in the form in which optuna-dashboard reads them: a study's system attributes, in pieces.

optuna-dashboard has functions for this, `save_note` and `save_plotly_graph_object`, but importing it imports
scikit-learn: seconds for every worker of a search. A test reads back through the dashboard what is written here.
"""

from __future__ import annotations

import json
from typing import Any

import optuna

_LONGEST_PIECE = 2045  # characters; what a system attribute can hold in any database


def note(study: optuna.Study) -> str:
    """A study's note, Markdown; empty where there is none."""
    return _read(study, "dashboard:note_str:")


def write_note(study: optuna.Study, text: str, trial: optuna.Trial | None = None) -> None:
    """Replaces the note of a study, or of one of its trials. `text`: Markdown."""
    start = f"dashboard:{trial._trial_id}:" if trial else "dashboard:"
    _write(study, f"{start}note_str:", text)
    version = int(_attributes(study).get(f"{start}note_ver", 0))  # the page refuses to save over a newer one
    study._storage.set_study_system_attr(study._study_id, f"{start}note_ver", version + 1)


def write_plot(study: optuna.Study, name: str, figure: dict[str, Any]) -> None:
    """Replaces a plot of a study. `name`: letters, digits, -, _ and .; `figure`: what plotly draws, as JSON."""
    _write(study, f"dashboard:plot_data:{name}:", json.dumps(figure))


def _attributes(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def _read(study: optuna.Study, prefix: str) -> str:
    there = _attributes(study)
    return "".join(there[f"{prefix}{index}"] for index in range(sum(key.startswith(prefix) for key in there)))


def _write(study: optuna.Study, prefix: str, text: str) -> None:
    pieces = [text[start : start + _LONGEST_PIECE] for start in range(0, len(text), _LONGEST_PIECE)]
    there = {key: value for key, value in _attributes(study).items() if key.startswith(prefix)}
    pieces += [""] * (len(there) - len(pieces))  # of a longer text before
    for index, piece in enumerate(pieces):
        if there.get(f"{prefix}{index}") != piece:
            study._storage.set_study_system_attr(study._study_id, f"{prefix}{index}", piece)
