"""Search spaces: what a search may choose for each hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segbench.core import tables
from segbench.core.records import Scalar
from segbench.core.tables import is_number, is_scalar, require, shown


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both included; on a log scale where `log`; whole where `integer`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        require(math.isfinite(self.low) and math.isfinite(self.high), "bounds must be finite")
        require(self.low <= self.high, f"low {self.low:g} is above high {self.high:g}")
        require(math.isfinite(self.high - self.low), "the bounds are too far apart")
        require(self.low > 0 or not self.log, f"a log scale needs low above 0, not {self.low:g}")


@dataclass(frozen=True)
class Choice:
    """One of several values; a fixed value is a choice of one."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        require(len(self.values) > 0, "choice needs at least one value")
        odd = next((value for value in self.values if not is_scalar(value)), None)
        require(odd is None, f"a value must be a number, a text, true or false, not {shown(odd)}")
        require(len(set(self.values)) == len(self.values), f"choice repeats a value: {shown(list(self.values))}")


Space = Mapping[str, Range | Choice]


def distribution(value: Any, where: str) -> Range | Choice:
    """log_uniform = [low, high], uniform = [low, high], integer = [low, high], choice = [a, b, …], or a fixed value.

    Raises UserError that begins with `where` for anything else."""
    with tables.located(where):
        if not isinstance(value, dict):
            return Choice((value,))
        kinds = ("log_uniform", "uniform", "integer", "choice")
        found = ", ".join(map(shown, value)) or "nothing"
        require(len(value) == 1 and next(iter(value)) in kinds, f"expected one of {', '.join(kinds)}, found {found}")
        kind, content = next(iter(value.items()))
        require(isinstance(content, list), f"{kind} needs a list, found {shown(content)}")
        if kind == "choice":
            return Choice(tuple(content))
        numbers = len(content) == 2 and all(map(is_number, content))
        require(numbers, f"{kind} needs two numbers [low, high], found {shown(content)}")
        if kind == "integer":
            whole = all(isinstance(bound, int) for bound in content)
            require(whole, f"integer needs two whole numbers [low, high], found {shown(content)}")
            return Range(content[0], content[1], integer=True)
        return Range(float(content[0]), float(content[1]), log=kind == "log_uniform")


def contains(values: Range | Choice, value: Scalar) -> bool:
    """Whether a search may choose the value."""
    if isinstance(values, Choice):
        return value in values.values
    fits = is_number(value) and values.low <= float(value) <= values.high
    return fits and (isinstance(value, int) or not values.integer)


def extremes(values: Range | Choice) -> tuple[Scalar, ...]:
    """The values of a choice, or the smallest of a range."""
    return values.values if isinstance(values, Choice) else (values.low,)
