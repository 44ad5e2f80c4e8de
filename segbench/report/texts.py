"""Every text of the report, from texts_en.toml, and how numbers are written in it."""

from __future__ import annotations

import functools
import math
import tomllib
from pathlib import Path
from typing import Any

from segbench.statistics import Interval

MISSING = "—"


def text(key: str, **values: Any) -> str:
    """The text of a dotted key with its {names} filled in. Raises KeyError where there is none."""
    found: Any = _table()
    for part in key.split("."):
        found = found[part]
    return str(found).strip().format(**values)


def glossary() -> dict[str, str]:
    """Term to meaning, in the order of the file."""
    return dict(_table()["glossary"])


def score(value: float | None) -> str:
    """A ratio such as an IoU: 0.453."""
    return MISSING if value is None or math.isnan(value) else f"{value:.3f}"


def score_interval(value: Interval) -> str:
    """0.453 (0.431 to 0.474)."""
    return score(value.estimate) + (f" ({score(value.low)} to {score(value.high)})" if _has_ends(value) else "")


def points(value: float) -> str:
    """A difference of ratios, in points: 7.2, never -0.0."""
    return f"{abs(value) * 100:.1f}" if round(value * 100, 1) >= 0 else f"−{abs(value) * 100:.1f}"


def points_interval(value: Interval) -> str:
    """−0.4 to 1.5."""
    return f"{points(value.low)} to {points(value.high)}" if _has_ends(value) else MISSING


def number(value: float, digits: int = 3) -> str:
    """A measured quantity with about three figures: 568, 11.1, 0.66, 41,300,000."""
    if math.isnan(value):
        return MISSING
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}"


def percent(value: float) -> str:
    """76 %."""
    return MISSING if math.isnan(value) else f"{value * 100:.0f}\u00a0%"


def listed(parts: list[str]) -> str:
    """a, b and c."""
    return f"{', '.join(parts[:-1])} {text('words.and')} {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _has_ends(value: Interval) -> bool:
    return not math.isnan(value.low)


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "texts_en.toml").read_text(encoding="utf-8"))
