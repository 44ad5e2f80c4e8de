"""Label sets: which raw ids, or colours of a mask, make which class; what classes are called and how they are drawn.

A label set is data. Those that ship are TOML files in `label_sets/`; one of your own is such a file beside your
protocol (docs/datasets.md). Pixels of a mask are *raw ids*, 0..255: as they are in a mask of ids, and the id that the
label set gives their colour in a colour-coded mask.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from segbench.core import tables
from segbench.core.errors import UserError
from segbench.core.tables import require, shown

ENDING = ".labels.toml"  # of the files of label sets: other TOML files beside a protocol are architectures
IGNORED = 255  # in a map of classes: a pixel of no class, which neither the loss nor a score counts
Colour = tuple[int, int, int]  # RGB, 0..255

_SHIPPED = Path(__file__).with_name("label_sets")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,49}")  # MLflow takes it as a part of a metric's name
_NAME_RULE = "must be letters, digits, spaces, '_', '.' and '-', at most 50"


@dataclass(frozen=True)
class Label:
    """What one value of a mask means."""

    id: int  # the raw id, 0..255
    name: str = ""  # "": its class's
    ignored: bool = False  # the official scores skip these pixels, which train and count as their class all the same
    mask: Colour | None = None  # its colour in a colour-coded mask

    def __post_init__(self) -> None:
        require(0 <= self.id <= 255, f"id must be 0..255, not {self.id}")
        if self.mask is not None:
            _require_colour("mask", self.mask)


@dataclass(frozen=True)
class Class:
    """One class that networks predict."""

    name: str
    colour: Colour  # in masks and legends
    labels: tuple[Label, ...]
    french: str = ""  # its French name; "": the same
    about: str = ""  # what it covers, in a few words
    about_french: str = ""
    parent: str = ""  # the category it belongs to: one of the set's `parents`
    thing: bool = False  # countable objects, such as cars; else stuff, such as sky
    void: bool = False  # of pixels without a meaning: it trains and counts in mIoU, but has no official score
    typical: int | None = None  # the raw id that stands for it in a label-id PNG; None: its first label's

    def __post_init__(self) -> None:
        require(bool(_NAME.fullmatch(self.name)), f"name {_NAME_RULE}, not {shown(self.name)}")
        _require_colour("colour", self.colour)
        own = [label.id for label in self.labels]
        require(bool(own), "labels must hold at least one id or colour of a mask")
        require(self.typical is None or self.typical in own, f"typical must be one of its ids, {own}")


@dataclass(frozen=True)
class Parent:
    """A category of classes, which has a score of its own."""

    name: str
    french: str = ""

    def __post_init__(self) -> None:
        require(bool(_NAME.fullmatch(self.name)), f"name {_NAME_RULE}, not {shown(self.name)}")


class Row(NamedTuple):
    """One label: a row of a raw confusion."""

    label: Label
    name: str
    class_index: int  # IGNORED where it has no class


@dataclass(frozen=True)
class LabelSet:
    """A whole label set. `name` is its file's. Classes are numbered 0, 1, … in their order."""

    name: str
    title: str
    classes: tuple[Class, ...]
    ignored: tuple[Label, ...] = ()  # labels of no class: neither the loss nor a score counts their pixels
    parents: tuple[Parent, ...] = ()

    def __post_init__(self) -> None:
        require(2 <= len(self.classes) < IGNORED, f"classes must be 2 to {IGNORED - 1}, not {len(self.classes)}")
        _require_once("the name", ((one.name, one.name) for one in self.classes))
        _require_once("the colour", ((list(one.colour), one.name) for one in self.classes))
        _require_once("the id", ((row.label.id, row.name) for row in self.rows))
        _require_once("the mask colour", ((list(r.label.mask), r.name) for r in self.rows if r.label.mask))
        known = [parent.name for parent in self.parents]
        _require_once("the name", ((name, name) for name in known))
        for one in self.classes:
            fits = one.parent in known if known and not one.void else not one.parent
            expected = f"one of [[parents]], {', '.join(known)}" if known else "left out, as there are no [[parents]]"
            require(fits, f"parent of class '{one.name}' must be {expected}, not {shown(one.parent)}")

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every label in order of its raw id: the rows of raw confusions."""
        of_classes = [Row(label, label.name or c.name, i) for i, c in enumerate(self.classes) for label in c.labels]
        of_none = [Row(label, label.name or "void", IGNORED) for label in self.ignored]
        return tuple(sorted(of_classes + of_none, key=lambda row: row.label.id))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The classes' names, in English."""
        return tuple(one.name for one in self.classes)

    @functools.cached_property
    def colours(self) -> tuple[Colour, ...]:
        """The classes' colours."""
        return tuple(one.colour for one in self.classes)

    @functools.cached_property
    def typical_ids(self) -> tuple[int, ...]:
        """The raw id that stands for each class in a label-id PNG."""
        return tuple(one.labels[0].id if one.typical is None else one.typical for one in self.classes)

    @functools.cached_property
    def raw_ids(self) -> tuple[int, ...]:
        """The raw id of each row."""
        return tuple(row.label.id for row in self.rows)

    @functools.cached_property
    def class_of_raw(self) -> tuple[int, ...]:
        """Raw id 0..255 to class; IGNORED where it has none or is not in the set."""
        known = {row.label.id: row.class_index for row in self.rows}
        return tuple(known.get(raw, IGNORED) for raw in range(256))

    @functools.cached_property
    def void(self) -> tuple[int, ...]:
        """The classes without a meaning, which have no official score."""
        return tuple(index for index, one in enumerate(self.classes) if one.void)

    @functools.cached_property
    def border(self) -> int:
        """The raw id of what lies outside of an image: of a void class, else one of no class."""
        if self.void:
            return self.typical_ids[self.void[0]]
        return self.ignored[0].id if self.ignored else next(i for i in range(256) if i not in self.raw_ids)

    @functools.cached_property
    def is_complete(self) -> bool:
        """Whether every pixel has a class: none is ignored."""
        return IGNORED not in (self.class_of_raw[raw] for raw in (*self.raw_ids, self.border))

    def unknown(self, raw_ids: Iterable[int]) -> list[int]:
        """Those that are not in the set."""
        return [raw for raw in raw_ids if raw not in self.raw_ids]

    @property
    def ids_in_words(self) -> str:
        """The set's raw ids, such as "0..33, 255"."""
        ends = [raw for raw in self.raw_ids if raw + 1 not in self.raw_ids]
        starts = [raw for raw in self.raw_ids if raw - 1 not in self.raw_ids]
        return ", ".join(f"{low}..{high}" if low < high else str(low) for low, high in zip(starts, ends, strict=True))

    @property
    def meaning(self) -> Any:
        """What a training's result depends on, as JSON: names beside it, French ones and colours do not."""
        classes = [
            [c.name, c.void, c.parent, sorted([label.id, label.ignored] for label in c.labels)] for c in self.classes
        ]
        return [classes, sorted(label.id for label in self.ignored)]


def shipped_names() -> list[str]:
    """The label sets that ship."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


@functools.cache
def shipped(name: str) -> LabelSet:
    """A label set that ships, by name."""
    return read(_SHIPPED / f"{name}.toml")


def chosen(text: str, folder: Path) -> LabelSet:
    """What a protocol in `folder` asks for: a set that ships, by name, or a file, relative to that folder. Raises
    UserError if there is none, or if the file holds a mistake."""
    if text.endswith(ENDING):
        return read(folder / text)
    if text not in shipped_names():
        known = ", ".join(shipped_names())
        raise UserError(f"labels {shown(text)} is no label set: expected {known}, or your own FILE{ENDING} in {folder}")
    return shipped(text)


def read(path: Path) -> LabelSet:
    """Reads a label set. Raises UserError that names file, table and key of a mistake."""
    content, name = tables.read(path), path.name.removesuffix(".toml").removesuffix(".labels")
    if "name" in content:
        raise UserError(f"{path}: unknown key 'name'; the name is the file's, here '{name}': remove that line")
    return cast(LabelSet, tables.record(LabelSet, {"name": name, **_numbered(content)}, str(path)))


def _numbered(content: dict[str, Any]) -> dict[str, Any]:
    """The content with every label as a table: `7` and `[128, 64, 128]` are short for an id and for a colour of a mask.
    A colour without an id gets the lowest free one."""
    classes = content.get("classes")
    holders = [one for one in classes if isinstance(one, dict)] if isinstance(classes, list) else []
    keys = [(content, "ignored"), *((one, "labels") for one in holders)]
    for holder, key in keys:
        if isinstance(holder.get(key), list):
            holder[key] = [_label(entry) for entry in holder[key]]
    entries = [
        e for holder, key in keys if isinstance(holder.get(key), list) for e in holder[key] if isinstance(e, dict)
    ]
    taken = {entry["id"] for entry in entries if isinstance(entry.get("id"), int)}
    free = (raw for raw in range(256) if raw not in taken)
    for entry in entries:
        if "id" not in entry and "mask" in entry:
            entry["id"] = next(free, 256)  # which is refused: there are too many labels
    return content


def _label(entry: Any) -> Any:
    if isinstance(entry, int) and not isinstance(entry, bool):
        return {"id": entry}
    return {"mask": entry} if isinstance(entry, list) else entry


def _require_colour(name: str, colour: Colour) -> None:
    require(
        all(0 <= part <= 255 for part in colour), f"{name} must be [red, green, blue], 0..255 each, not {[*colour]}"
    )


def _require_once(what: str, entries: Iterable[tuple[Any, str]]) -> None:
    """Raises ValueError if two of the (value, owner) have the same value."""
    owners: dict[str, str] = {}
    for value, owner in entries:
        other = owners.setdefault(str(value), "")
        require(not other, f"{what} {value} stands for '{other}' and for '{owner}'; each must be there once")
        owners[str(value)] = owner


DEFAULT = shipped("cityscapes-8")
