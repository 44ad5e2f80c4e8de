"""Search spaces: what a search may choose for each hyperparameter.

`[space.sgd] lr = …` is the entry "sgd.lr": the range of `lr` where the optimizer is sgd, in place of `lr`'s. Optuna
needs a name for each range; everybody else sees one `lr`, which `resolved` gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segbench.core import tables
from segbench.core.limits import require_rate
from segbench.core.recipe import OFF, Recipe
from segbench.core.records import Scalar
from segbench.core.tables import is_number, is_scalar, require, require_one_of, shown

OPTIMIZERS = ("adam", "adamw", "sgd")
CONDITIONAL = ("lr", "weight_decay")  # what may have a range of its own for an optimizer
_CONDITIONAL = " and ".join(CONDITIONAL)


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


def read(table: Mapping[str, Any], where: str) -> dict[str, Range | Choice]:
    """The table [space]. `where`: the file. Raises UserError that names file, table and key of a mistake."""
    found: dict[str, Range | Choice] = {}
    for key, value in table.items():
        if key not in OPTIMIZERS:
            found[key] = distribution(value, f"{where}: [space] {key}")
            continue
        with tables.located(f"{where}: [space.{key}]"):
            require(isinstance(value, dict) and bool(value), f"expected {_CONDITIONAL}, found {shown(value)}")
            odd = next((name for name in value if name not in CONDITIONAL), None)
            require(odd is None, f"only {_CONDITIONAL} can depend on the optimizer, not {shown(odd)}")
        for name, own in value.items():
            found[f"{key}.{name}"] = distribution(own, f"{where}: [space.{key}] {name}")
    return found


def check(space: Space) -> None:
    """Raises ValueError where the entries of a space do not fit together, or hold a value that cannot be."""
    optimizers = space.get("optimizer")
    require(optimizers is not None, "[space] lacks 'optimizer'")
    require(isinstance(optimizers, Choice), "[space] optimizer must be a name or a choice of names")
    assert isinstance(optimizers, Choice)
    for optimizer in optimizers.values:
        require_one_of("[space] optimizer", optimizer, OPTIMIZERS)
        for name in CONDITIONAL:
            require(name in entries(space, str(optimizer)), f"[space] lacks '{name}'")
    for entry, values in space.items():
        optimizer, point, name = entry.rpartition(".")
        table = f"[space.{optimizer}]" if point else "[space]"
        if point:
            require(optimizer in optimizers.values, f"{table}: [space] optimizer is never {shown(optimizer)}")
            require(name in CONDITIONAL, f"only {_CONDITIONAL} can depend on the optimizer, not {shown(name)}")
        require(name.isidentifier(), f"[space] {shown(entry)} cannot be an argument of the architecture's build")
        for value in extremes(values):
            if name in CONDITIONAL:
                require_rate(f"{table} {name}", value, above_zero=name == "lr")
            elif name in Recipe.names():
                OFF.changed({name: value})


def entries(space: Space, optimizer: str) -> dict[str, str]:
    """For each hyperparameter, the entry of the space that it has with this optimizer: {"lr": "sgd.lr", …}."""
    own = {entry.partition(".")[2]: entry for entry in space if entry.startswith(f"{optimizer}.")}
    return {**{entry: entry for entry in space if "." not in entry}, **own}


def resolved(params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Parameters by hyperparameter: "sgd.lr" is the `lr` of a configuration with sgd."""
    return {entry.rpartition(".")[2]: value for entry, value in params.items()}


def merged(space: Space) -> dict[str, Range | Choice]:
    """One entry per hyperparameter: a range from the smallest to the largest bound, or all choices, whatever the
    optimizer."""
    together: dict[str, list[Range | Choice]] = {}
    for entry, values in space.items():
        together.setdefault(entry.rpartition(".")[2], []).append(values)
    return {name: _union(values) for name, values in together.items()}


def _union(several: list[Range | Choice]) -> Range | Choice:
    if len(several) == 1:
        return several[0]
    if all(isinstance(values, Choice) for values in several):
        return Choice(tuple(dict.fromkeys(value for values in several for value in extremes(values))))
    numbers = [float(value) for values in several for value in extremes(values)]
    logs = all(values.log for values in several if isinstance(values, Range))
    return Range(min(numbers), max(numbers), log=logs and min(numbers) > 0)


def extremes(values: Range | Choice) -> tuple[Scalar, ...]:
    """The values of a choice, or the bounds of a range."""
    return values.values if isinstance(values, Choice) else (values.low, values.high)
