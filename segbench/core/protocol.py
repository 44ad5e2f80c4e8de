"""What is asked: a folder of TOML files, read strictly, and its fingerprint.

studies/<name>/protocol.toml          the data, the budget and the seeds that every architecture of the folder obeys
studies/<name>/<architecture>.toml    what is the architecture's own: weights, batch size, space, known-good values
studies/<name>/<architecture>.py      only where it is the user's own architecture: the code that builds it
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbench.core import code as sources
from segbench.core import names
from segbench.core.errors import UserError
from segbench.core.records import Code, Scalar, to_json

DRAWN = "These are drawn streets: no number here is a Cityscapes result."
OPTIMIZERS = ("adam", "adamw", "sgd")
SAMPLERS = ("random", "tpe", "qmc", "gp")
PRUNERS = ("none", "median", "halving", "hyperband")
SELECT_ON = ("train", "val")
SMALLEST_SIDE = 32  # pixels: the coarsest feature map of the networks is a 32nd of the image
LARGEST_SIDE = 4096


@dataclass(frozen=True)
class Streets:
    """Drawn streets instead of a dataset: how many, how large, which seed."""

    train: int
    val: int
    size: tuple[int, int]  # (height, width) as drawn, before packing
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.train >= 1 and self.val >= 1, "train and val must be at least 1")
        _require(min(self.size) >= SMALLEST_SIDE, f"size must be at least {SMALLEST_SIDE} a side")


@dataclass(frozen=True)
class Data:
    """The table [data]."""

    size: tuple[int, int]  # (height, width) everything is packed, trained and scored at
    streets: Streets | None = None

    def __post_init__(self) -> None:
        fits = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in self.size)
        _require(fits, f"size must be {SMALLEST_SIDE}..{LARGEST_SIDE} pixels a side")


@dataclass(frozen=True)
class Search:
    """The table [search]."""

    trials: int  # finished trials in total, whatever the number of runs or workers
    epochs: int
    train_images: int
    val_images: int
    select_on: str = "train"  # where the selection images come from; "train" never looks at the final images
    seed: int = 0
    sampler: str = "random"
    pruner: str = "none"

    def __post_init__(self) -> None:
        for name in ("trials", "epochs", "train_images", "val_images"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        _choice("select_on", self.select_on, SELECT_ON)
        _choice("sampler", self.sampler, SAMPLERS)
        _choice("pruner", self.pruner, PRUNERS)


@dataclass(frozen=True)
class Final:
    """The table [final]. Left-out image counts mean all there are."""

    epochs: int
    train_images: int | None = None
    val_images: int | None = None
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        for name in ("train_images", "val_images"):
            count = getattr(self, name)
            _require(count is None or count >= 1, f"{name} must be at least 1, not {count}")
        _require(0 < len(self.seeds) == len(set(self.seeds)), "seeds must be distinct, and at least one")


@dataclass(frozen=True)
class Augment:
    """The table [augment]: how training images vary from epoch to epoch, for every architecture alike."""

    flip: float = 0.0  # share of images mirrored left to right
    scale: tuple[float, float] = (1.0, 1.0)  # log-uniform; above 1 a random crop, below 1 a border of void around it
    colour: float = 0.0  # brightness, contrast and saturation each times 1 - colour … 1 + colour

    def __post_init__(self) -> None:
        _require(0 <= self.flip <= 1, f"flip is a share, 0..1, not {self.flip:g}")
        low, high = self.scale
        _require(0 < low <= high, f"scale must be [low, high] with 0 < low <= high, not {list(self.scale)}")
        _require(0 <= self.colour < 1, f"colour must be 0 or more and below 1, not {self.colour:g}")


@dataclass(frozen=True)
class Protocol:
    """A whole protocol.toml. `name` is its folder's."""

    name: str
    title: str
    data: Data
    search: Search
    final: Final
    augment: Augment | None = None

    @property
    def drawn(self) -> bool:
        """True where the images are drawn, so that no result is one about real photographs."""
        return self.data.streets is not None


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both included; on a log scale where `log`; whole where `integer`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        _require(math.isfinite(self.low) and math.isfinite(self.high), "bounds must be finite")
        _require(self.low <= self.high, f"low {self.low:g} is above high {self.high:g}")
        _require(self.low > 0 or not self.log, f"a log scale needs low above 0, not {self.low:g}")


@dataclass(frozen=True)
class Choice:
    """One of several values; a fixed value is a choice of one."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        _require(len(self.values) > 0, "choice needs at least one value")
        _require(len(set(self.values)) == len(self.values), f"choice repeats a value: {list(self.values)}")


Space = Mapping[str, Range | Choice]


@dataclass(frozen=True)
class Architecture:
    """A whole <architecture>.toml. `name` is its file's, and that of the module that builds it: `code`'s, or one in
    segbench/architectures/, or one that an installed package offers."""

    name: str
    title: str
    batch_size: int
    weights: str  # "pretrained", "random", a state-dict file or a save_pretrained folder
    space: Space
    model: Mapping[str, Scalar] = field(default_factory=dict)  # keyword arguments of the architecture's build
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # known-good values, one per name of the space
    code: Code | None = field(default=None, metadata={"toml": False})  # <name>.py beside the TOML, where there is one

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, f"batch_size must be at least 1, not {self.batch_size}")
        for name in ("lr", "weight_decay", "optimizer"):
            _require(name in self.space, f"[space] lacks '{name}'")
        optimizers = self.space["optimizer"]
        _require(isinstance(optimizers, Choice), "[space] optimizer must be a name or a choice of names")
        for value in typing.cast(Choice, optimizers).values:
            _choice("[space] optimizer", value, OPTIMIZERS)
        if self.baseline:
            odd = set(self.baseline) ^ set(self.space)
            _require(not odd, f"[baseline] and [space] must name the same things, but differ in {sorted(odd)}")
            for name, value in self.baseline.items():
                values = self.space[name]
                if isinstance(values, Choice):
                    _choice(f"[baseline] {name}", value, values.values)
                else:
                    number = isinstance(value, (int, float)) and not isinstance(value, bool)
                    _require(number, f"[baseline] {name} must be a number, not {value!r}")


def load(folder: Path) -> Protocol:
    """Reads `<folder>/protocol.toml`. Raises UserError naming file, table and key of whatever is wrong."""
    path = folder / "protocol.toml"
    name = names.part(folder.resolve().name, "protocol")
    return typing.cast(Protocol, _table(Protocol, _named(name, "folder", path), str(path), ""))


def load_architecture(folder: Path, name: str) -> Architecture:
    """Reads `<folder>/<name>.toml`. Raises UserError as `load` does, and where the folder has no such file."""
    path = folder / f"{names.part(name, 'architecture')}.toml"
    if not path.is_file():
        known = ", ".join(architecture_names(folder)) or "none"
        raise UserError(f"no architecture '{name}' in {folder}: it holds {known}. Write {path} to add one")
    content = _named(name, "file", path)
    with located(f"{path}: [space]"):
        content["space"] = {key: _distribution(value) for key, value in content.get("space", {}).items()}
    architecture = typing.cast(Architecture, _table(Architecture, content, str(path), ""))
    return dataclasses.replace(architecture, code=sources.beside(path))


def architecture_names(folder: Path) -> list[str]:
    """The architectures a protocol folder compares, by name."""
    return sorted(toml.stem for toml in folder.glob("*.toml") if toml.name != "protocol.toml")


def fingerprint(protocol: Protocol, architecture: Architecture) -> str:
    """12 hexadecimal digits that change with whatever a search's outcome depends on.

    Titles and the baseline do not enter, nor [final], nor the number of trials: a longer search contains the shorter.
    """
    search = {k: v for k, v in to_json(protocol.search).items() if k != "trials"}
    own = {k: v for k, v in to_json(architecture).items() if k not in ("title", "baseline", "code")}
    if architecture.code:
        own["code"] = architecture.code.sha256
    content = json.dumps([to_json(protocol.data), to_json(protocol.augment), search, own], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Turns the ValueError of a record that refuses its values into a UserError that says where they stand."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _named(name: str, holder: str, path: Path) -> dict[str, Any]:
    """The content of a TOML file under the name that its `holder`, the file or its folder, gives it."""
    content = _toml(path)
    if "name" in content:
        raise UserError(f"{path}: unknown key 'name'; the name is the {holder}'s, here '{name}': remove that line")
    return {"name": name, **content}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid TOML: {error}") from error


def _distribution(value: Any) -> Range | Choice:
    """log_uniform = [low, high], uniform = [low, high], integer = [low, high], choice = [a, b, …], or a fixed value."""
    if not isinstance(value, dict):
        return Choice((value,))
    kinds = ("log_uniform", "uniform", "integer", "choice")
    if len(value) != 1 or next(iter(value)) not in kinds:
        raise ValueError(f"expected one of {', '.join(kinds)}, found {', '.join(value) or 'nothing'}")
    kind, content = next(iter(value.items()))
    if not isinstance(content, list):
        raise ValueError(f"{kind} needs a list, found {content!r}")
    if kind == "choice":
        return Choice(tuple(content))
    if len(content) != 2 or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in content):
        raise ValueError(f"{kind} needs two numbers [low, high], found {content!r}")
    if kind == "integer":
        return Range(int(content[0]), int(content[1]), integer=True)
    return Range(float(content[0]), float(content[1]), log=kind == "log_uniform")


def _table(kind: type, content: Any, path: str, table: str) -> Any:
    """A dataclass from a TOML table: every key known, every value of the declared type."""
    where = f"{path}: [{table}]" if table else path
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a table, found {content!r}")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.metadata.get("toml", True)}
    hints = typing.get_type_hints(kind)
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"it knows {', '.join(k for k in fields if k != 'name')}"
            raise UserError(f"{where}: unknown key '{key}'; {hint}")
    values = {}
    for name, own in fields.items():
        if name in content:
            values[name] = _value(hints[name], content[name], path, f"{table}.{name}".lstrip("."))
        elif own.default is dataclasses.MISSING and own.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: '{name}' is missing")
    with located(where):
        return kind(**values)


def _value(hint: Any, value: Any, path: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # X | None: a TOML value is never None
        return _value(next(a for a in arguments if a is not types.NoneType), value, path, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _table(hint, value, path, key)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_value(k, item, path, key) for k, item in zip(kinds, value, strict=True))
    if hint in (int, float, str) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is not None and origin is not tuple and isinstance(value, dict):  # mappings check their own content
        return value
    raise UserError(f"{path}: {key} must be {_in_words(hint)}, found {value!r}")


def _in_words(hint: Any) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple[int, int]: "[height, width]",
        tuple[float, float]: "[low, high]",
    }
    return words.get(hint, "a list of whole numbers" if typing.get_origin(hint) is tuple else "a table")


def _require(truth: bool, rule: str) -> None:
    if not truth:
        raise ValueError(rule)


def _choice(name: str, value: Any, known: Sequence[Scalar]) -> None:
    _require(value in known, f"{name} must be one of {', '.join(map(str, known))}, not {value!r}")
