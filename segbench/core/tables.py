"""TOML files, read strictly into records: every key is known, every value has the declared type and a size that all
libraries accept. A mistake is one line that names file, table and key.

A field with metadata {"toml": False} is not a key. A record checks its own values in its `__post_init__`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import reprlib
import tomllib
import types
import typing
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segbench.core.errors import UserError

Scalar = bool | int | float | str
LARGEST_NUMBER = 2**53  # up to here, doubles represent every whole number; JSON and SQL may convert to doubles
LARGEST_FILE = 1_000_000  # bytes
LONGEST_TEXT = 1000  # characters
_NOT_TEXT = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control characters, surrogates, line and paragraph ends
_SCALARS = (bool, int, float, str)


def added(default: Any) -> Any:
    """A field added after the first release. At its default it stays out of the fingerprint, so that older studies keep
    their fingerprint."""
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata={"added": True})
    return dataclasses.field(default=default, metadata={"added": True})


def at_default(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether `value` is the default of a field that was `added`."""
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return "added" in field.metadata and bool(value == default)


def read(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises UserError if it cannot be read or holds a number or text out of bounds."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is not a file; expected a TOML file")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} is larger than {LARGEST_FILE // 1000} kB; expected a short TOML file")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        with located(str(path)):
            _require_bounds(content, "")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except RecursionError:
        raise UserError(f"{path} is nested too deeply; expected tables of values") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid TOML: {' '.join(str(error).split())}") from error
    return content


def record(kind: type, content: Any, path: str, table: str = "") -> Any:
    """The dataclass `kind` from a `table` of the file at `path`. Raises UserError if it does not fit."""
    where = f"{path}: [{table}]" if table else path
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a table, found {shown(content)}")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.metadata.get("toml", True)}
    hints = typing.get_type_hints(kind)
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected {', '.join(k for k in fields if k != 'name')}"
            raise UserError(f"{where}: unknown key {shown(key)}; {hint}")
    values = {}
    for name, field in fields.items():
        if name in content:
            values[name] = _value(hints[name], content[name], path, f"{table}.{name}".lstrip("."))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if types.NoneType in typing.get_args(hints[name]):
                values[name] = None  # the record says whether it must be there
                continue
            raise UserError(f"{where}: '{name}' is missing")
    with located(where):
        return kind(**values)


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Turns a record's ValueError into a UserError that begins with `where`: file, table and key."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def require(truth: bool, rule: str) -> None:
    """Raises ValueError with `rule` unless `truth` holds."""
    if not truth:
        raise ValueError(rule)


def require_one_of(name: str, value: Any, known: Sequence[Scalar]) -> None:
    """Raises ValueError if `value` is not among `known`."""
    require(value in known, f"{name} must be one of {', '.join(map(str, known))}, not {shown(value)}")


def is_number(value: Any) -> bool:
    """Whether it is an integer or a float; true and false are not numbers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_scalar(value: Any) -> bool:
    """Whether it is a number, a text, true or false, not a list, a table or a date."""
    return isinstance(value, _SCALARS)


def shown(value: Any) -> str:
    """A value on one line, shortened if long."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 60
    return shortener.repr(value)


def _value(hint: Any, value: Any, path: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # X | None: a TOML value is never None
        return _value(next(a for a in arguments if a is not types.NoneType), value, path, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else record(hint, value, path, key)  # the caller may have read it
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            keys = [_entry(key, item, n) for n, item in enumerate(value, 1)]
            return tuple(_value(k, item, path, e) for k, item, e in zip(kinds, value, keys, strict=True))
    if hint in _SCALARS and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    if hint is float and is_number(value):
        return float(value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        for name, item in value.items() if arguments[1] == Scalar else ():
            if not is_scalar(item):
                expected = "a number, a text, true or false"
                raise UserError(f"{path}: [{key}] {name} must be {expected}, found {shown(item)}")
        return value
    raise UserError(f"{path}: {key} must be {_described(hint)}, found {shown(value)}")


def _entry(key: str, item: Any, number: int) -> str:
    """What a mistake in an entry of a list is said to be in: a table by its name or number, else the list."""
    if not isinstance(item, dict):
        return key
    return f"{key} '{item['name']}'" if isinstance(item.get("name"), str) else f"{key} {number}"


def _described(hint: Any) -> str:
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple[int, int]: "[height, width]",
        tuple[int, int, int]: "[red, green, blue]",
        tuple[float, float]: "[low, high]",
        tuple[int, ...]: "a list of whole numbers",
        tuple[str, ...]: "a list of texts",
    }
    return words.get(hint, "a list" if typing.get_origin(hint) is tuple else "a table")


def _require_bounds(value: Any, key: str) -> None:
    """Raises ValueError for values that TOML allows but no setting accepts: inf, nan, huge numbers, control
    characters."""
    if isinstance(value, dict):
        for name, item in value.items():
            _require_text(name, "a key")
            _require_bounds(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            _require_bounds(item, key)
    elif isinstance(value, str):
        _require_text(value, key)
    elif is_number(value):
        require(math.isfinite(value), f"{key} must be finite, found {value}")
        require(isinstance(value, float) or abs(value) <= LARGEST_NUMBER, f"{key} must be within ±2^53")


def _require_text(text: str, key: str) -> None:
    require(len(text) <= LONGEST_TEXT, f"{key} must be at most {LONGEST_TEXT} characters, found {len(text)}")
    odd = next((c for c in text if unicodedata.category(c) in _NOT_TEXT), None)
    require(odd is None, f"{key} must be one line of text, found {shown(text)}")
