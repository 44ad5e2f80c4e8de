"""What `explain` measured of a promoted model, as one JSON file beside its card.

{"version": 1, "weights": sha256, "scenes": {name: {measure: values}}}

The values of each measure are documented where it is computed, in `explain/`. They are of one image each, so that the
report can resample images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from segbench.core import artefacts, files
from segbench.ledger.models import Promoted

VERSION = 1  # raise it when a measure changes: then it is measured again

Scenes = dict[str, dict[str, Any]]


def read(model: Promoted) -> Scenes:
    """The measures of each scene; none if the file is missing or damaged, or is of other weights or another version."""
    try:
        content = json.loads((model.folder / artefacts.EXPLANATIONS).read_text(encoding="utf-8"))
        if (content["version"], content["weights"]) != (VERSION, model.card.sha256):
            return {}
        return {str(name): dict(measures) for name, measures in content["scenes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def write(model: Promoted, scenes: Mapping[str, Mapping[str, Any]]) -> None:
    """Replaces the file atomically. Raises OSError."""
    content = {"version": VERSION, "weights": model.card.sha256, "scenes": scenes}
    with files.replaced(model.folder / artefacts.EXPLANATIONS) as partial:
        partial.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")
