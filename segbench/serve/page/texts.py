"""Every text of the page, in the report's languages and in its way of writing numbers."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from segbench.report.text import i18n

NAMES = {"en": "English", "fr": "Français"}


def text(key: str, **values: Any) -> str:
    """The text of a dotted key with its {names} filled in. Raises KeyError where there is none."""
    entry: Any = table(i18n.language())
    for part in key.split("."):
        entry = entry[part]
    return str(entry).format(**values)


@functools.cache
def table(language: str) -> dict[str, Any]:
    """All texts of a language, by section and key."""
    content = (Path(__file__).parent / f"{language}.toml").read_text(encoding="utf-8")
    return tomllib.loads(i18n.typeset(content, language))
