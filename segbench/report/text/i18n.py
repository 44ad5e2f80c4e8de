"""Every text of the report, from <language>.toml, and how numbers are written in that language."""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.core.labels import Class, LabelSet
from segbench.core.panoptic import PANOPTIC, SEMANTIC, VALUE_NAMES

if TYPE_CHECKING:  # which imports SciPy, and the page to try a photograph on has none
    from segbench.stats import Interval

LANGUAGES = ("en", "fr")
MISSING = "—"
_spoken: ContextVar[str] = ContextVar("language", default="en")
_measure: ContextVar[str] = ContextVar("measure", default=VALUE_NAMES[SEMANTIC])
_FRENCH_DIGITS = str.maketrans({".": ",", ",": "\u202f"})  # 41,300.5 becomes 41 300,5
# French sets a space before these marks and inside guillemets; it must not break a line. Apostrophes are curly.
_FRENCH_TYPE = ((r"(?<=\w)'(?=\w)", "’"), (r" (?=[;!?×])", "\u202f"), (r" (?=[:%»])", "\u00a0"), (r"(?<=«) ", "\u00a0"))


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Texts and numbers are in one of LANGUAGES until the block ends."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def language() -> str:
    """The language spoken now."""
    return _spoken.get()


@contextmanager
def measuring(name: str) -> Iterator[None]:
    """Texts say what the comparison is by, such as "PQ", until the block ends."""
    token = _measure.set(name)
    try:
        yield
    finally:
        _measure.reset(token)


def measure() -> str:
    """What the comparison is by: "mIoU" unless `measuring` says otherwise."""
    return _measure.get()


def text(key: str, **values: Any) -> str:
    """The text of a dotted key with its {names} filled in, {measure} by itself. Raises KeyError where there is none."""
    entry: Any = table(language())
    for part in key.split("."):
        entry = entry[part]
    return str(entry).strip().format(**{"measure": measure(), **values})


def glossary() -> dict[str, tuple[str, str]]:
    """Key to (term, meaning), in the order of the file; those of panoptic scores where the comparison is by them."""
    entries = table(language())["glossary"]
    known = entries if measure() == VALUE_NAMES[PANOPTIC] else {k: v for k, v in entries.items() if "task" not in v}
    return {key: (text(f"glossary.{key}.term"), text(f"glossary.{key}.means")) for key in known}


def class_name(one: Class) -> str:
    """What a class is called in the language spoken, if its label set says."""
    return one.french or one.name if language() == "fr" else one.name


def class_names(labels: LabelSet) -> tuple[str, ...]:
    """The names of all classes, likewise."""
    return tuple(map(class_name, labels.classes))


def score(value: float | None) -> str:
    """A ratio such as an IoU: 0.453."""
    return MISSING if value is None or math.isnan(value) else _digits(f"{value:.3f}")


def score_range(value: Interval) -> str:
    """(0.431 to 0.474), or nothing where the ends are unknown."""
    return f"({text('common.range', low=score(value.low), high=score(value.high))})" if _has_ends(value) else ""


def points(value: float) -> str:
    """A difference of ratios, in points: 7.2, never -0.0."""
    if math.isnan(value):
        return MISSING
    return _digits(f"{abs(value) * 100:.1f}" if round(value * 100, 1) >= 0 else f"−{abs(value) * 100:.1f}")


def signed(value: float) -> str:
    """A difference of ratios in points, with its sign: +7.2."""
    written = points(value)
    return written if written[0] in "−—" or round(value * 100, 1) == 0 else f"+{written}"


def points_range(value: Interval) -> str:
    """−0.4 to 1.5, in points."""
    return text("common.range", low=points(value.low), high=points(value.high)) if _has_ends(value) else MISSING


def number(value: float, digits: int = 3) -> str:
    """A measured quantity with about three figures: 568, 11.1, 0.66, 41,300,000."""
    if not math.isfinite(value):
        return MISSING
    value = float(f"{value:.{digits - 1}e}")  # first, so that 0.9996 is written like 1
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return _digits(f"{value:,.0f}")
    return _digits(f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}")


def percent(value: float) -> str:
    """76 %; what rounds to all or nothing without being it says so: > 99 %."""
    if math.isnan(value):
        return MISSING
    rounded = min(max(round(value * 100), 1), 99) if 0 < value < 1 else round(value * 100)
    sign = "> " if 0.995 <= value < 1 else "< " if 0 < value < 0.005 else ""
    return f"{sign}{rounded}\u00a0%".replace(" ", "\u00a0")


def duration(seconds: float) -> str:
    """8.1 s, 3 min 05 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return _digits(f"{seconds:.1f}\u00a0s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min\u00a0{rest:02d}\u00a0s"
    return f"{minutes // 60}\u00a0h\u00a0{minutes % 60:02d}\u00a0min"


def scalar(value: object) -> str:
    """A hyperparameter's value: 0.00206, adam."""
    return _digits(f"{value:.3g}") if isinstance(value, float) else str(value)


def decimals(value: float, places: int) -> str:
    """With so many decimals."""
    return MISSING if math.isnan(value) else _digits(f"{round(value, places) + 0.0:,.{places}f}".replace("-", "−"))


def listed(parts: list[str]) -> str:
    """a, b and c."""
    return f"{', '.join(parts[:-1])} {text('common.and')} {parts[-1]}" if len(parts) > 1 else "".join(parts)


def clauses(parts: Iterable[str]) -> str:
    """a; b. French sets a space before the semicolon, too."""
    return ("\u202f; " if language() == "fr" else "; ").join(parts)


def separators() -> str:
    """The decimal mark and the one between thousands, as plotly takes them."""
    return ",\u202f" if language() == "fr" else ".,"


@functools.cache
def table(spoken: str) -> dict[str, Any]:
    """All texts of a language, by section and key."""
    content = (Path(__file__).parent / f"{spoken}.toml").read_text(encoding="utf-8")
    return tomllib.loads(typeset(content, spoken))


def typeset(content: str, spoken: str) -> str:
    """With the spaces and apostrophes that the language is printed with."""
    for pattern, mark in _FRENCH_TYPE if spoken == "fr" else ():
        content = re.sub(pattern, mark, content)
    return content


def _digits(written: str) -> str:
    return written.translate(_FRENCH_DIGITS) if language() == "fr" else written


def _has_ends(value: Interval) -> bool:
    return not math.isnan(value.low)
