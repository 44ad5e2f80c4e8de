"""Protocols: what is compared and on which budget, as a folder of TOML files, read strictly; and its fingerprint.

studies/<name>/protocol.toml          the data, the budget and the seeds that every architecture of the folder obeys
studies/<name>/<architecture>.toml    what belongs to one architecture: weights, batch size, space, known-good values
studies/<name>/<architecture>@<variant>.toml   the same architecture once more, trained or built in another way
studies/<name>/<architecture>.py      only for an architecture of the user's: the code that builds it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segbench.core import code as sources
from segbench.core import crops, labels, names, panoptic, space, tables
from segbench.core.augment import Augment
from segbench.core.crops import PACKED, UNCUT, WHOLE, Passes, Train
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.core.layout import LAYOUTS, Split, require_patterns
from segbench.core.limits import require_count, require_rate, require_seed, require_size
from segbench.core.panoptic import PANOPTIC, SEMANTIC, TASKS, VALUE_NAMES
from segbench.core.recipe import OFF, Recipe
from segbench.core.records import Code, Scalar
from segbench.core.space import Choice, Space
from segbench.core.tables import added, at_default, is_number, require, require_one_of, shown

DRAWN = "These are drawn streets: no number here is a Cityscapes result."
SAMPLERS = ("random", "tpe", "qmc", "gp")
PRUNERS = ("none", "median", "halving", "hyperband")
SELECT_ON = ("train", "val")
ENQUEUE = ("", "baseline")
MOST_HOURS = 100_000
KEEP = (BEST_ON_SELECTION, LAST, BEST_ON_FINAL) = ("best on selection", "last", "best on final")


@dataclass(frozen=True)
class Streets:
    """Drawn streets instead of a dataset: how many, how large, which seed."""

    train: int
    val: int
    size: tuple[int, int]  # (height, width) as drawn, before packing
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "val"):
            require_count(name, getattr(self, name))
        require_size(self.size)
        require_seed("seed", self.seed)


@dataclass(frozen=True)
class Data:
    """The table [data]."""

    size: tuple[int, int]  # (height, width) everything is packed, trained and scored at
    streets: Streets | None = None
    labels: LabelSet = tables.added(labels.DEFAULT)  # in the file: the name of one that ships, or FILE.labels.toml
    layout: str = tables.added("cityscapes")  # one of LAYOUTS
    # Of layout "pairs": patterns relative to the dataset's root, such as "images/*.png", and what is for validation.
    images: str = tables.added("")
    masks: str = tables.added("")
    split: Split | None = tables.added(None)
    task: str = tables.added(SEMANTIC)  # one of panoptic.TASKS: what is trained, scored and compared
    instances: str = tables.added("")  # of layout "pairs" and task "panoptic": a pattern, as `masks`

    @property
    def patterns(self) -> dict[str, str]:
        """Of layout "pairs": where its files lie."""
        given = {"images": self.images, "masks": self.masks}
        return {**given, "instances": self.instances} if self.task == PANOPTIC else given

    @property
    def value_name(self) -> str:
        """What searches and promotions maximise."""
        return VALUE_NAMES[self.task]

    def __post_init__(self) -> None:
        require_size(self.size)
        require_one_of("task", self.task, TASKS)
        require_one_of("layout", self.layout, LAYOUTS)
        if self.task == PANOPTIC:
            panoptic.require_things(self.labels)
        else:
            require(not self.instances, 'instances: only task = "panoptic" reads them; add it, or remove them')
        if self.layout == "pairs":
            require(self.streets is None, 'drawn streets lie in layout "cityscapes"; remove layout or [data.streets]')
            require_patterns(self.patterns, self.split)
        else:
            unused = [key for key in ("images", "masks", "instances", "split") if getattr(self, key)]
            require(not unused, f'{", ".join(unused)}: only layout = "pairs" has this; add it, or remove it')
        if self.streets is not None:
            drawn = {(row.label.id, row.name) for row in labels.DEFAULT.rows}
            fits = {(row.label.id, row.name) for row in self.labels.rows} <= drawn
            require(
                fits, f"streets are drawn with Cityscapes' label ids, which labels '{self.labels.name}' do not have"
            )


@dataclass(frozen=True)
class Search:
    """The table [search]."""

    trials: int | None  # finished trials in total, whatever the number of runs or workers; None: `hours` decides
    epochs: int
    train_images: int
    val_images: int
    select_on: str = "train"  # where the selection images come from; "train" never uses the final images
    seed: int = 0
    sampler: str = "random"
    pruner: str = "none"
    hours: float | None = tables.added(None)  # instead of trials; see ledger/device_hours.py
    enqueue: str = tables.added("")  # "baseline": the known-good values are the first trial of the plan
    warm_start: str = tables.added("")  # a protocol: the best trials of its study of the architecture come first

    def __post_init__(self) -> None:
        require(self.trials is not None or self.hours is not None, "'trials' is missing; it, or hours, sets the budget")
        both = f"trials = {self.trials} and hours = {self.hours} exclude each other; keep the one that sets the budget"
        require(self.trials is None or self.hours is None, both)
        for name in ("trials", "epochs", "train_images", "val_images"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        if self.hours is not None:
            require(0 < self.hours <= MOST_HOURS, f"hours must be above 0, at most {MOST_HOURS:,}, not {self.hours:g}")
        require_one_of("enqueue", self.enqueue, ENQUEUE)
        require_seed("seed", self.seed)
        require_one_of("select_on", self.select_on, SELECT_ON)
        require_one_of("sampler", self.sampler, SAMPLERS)
        require_one_of("pruner", self.pruner, PRUNERS)

    @property
    def budget(self) -> str:
        """The budget of one architecture, for people."""
        return f"{self.trials} trials" if self.hours is None else f"{self.hours:g} device-hours"

    @property
    def seconds(self) -> float | None:
        """The budget in seconds, if it is in hours."""
        return None if self.hours is None else self.hours * 3600


@dataclass(frozen=True)
class Final:
    """The table [final]. An image count that is left out means all images."""

    epochs: int
    train_images: int | None = None
    val_images: int | None = None
    seeds: tuple[int, ...] = (0,)
    keep: str = BEST_ON_SELECTION  # which epoch's weights; only BEST_ON_FINAL lets the final images choose it
    # What scores an image, in the search too: see `Protocol.passes`.
    window: tuple[int, int] | None = tables.added(None)  # None: [train] crop, if there is one
    stride: tuple[int, int] | None = tables.added(None)  # None: two thirds of the window
    flip: bool = tables.added(False)
    scales: tuple[float, ...] = tables.added((1.0,))
    score_at: str = tables.added(PACKED)  # ORIGINAL: the promoted model also at the photographs' own size

    def __post_init__(self) -> None:
        crops.require_passes(self.window, self.stride, self.scales)
        require_one_of("score_at", self.score_at, crops.SCORE_AT)
        require_count("epochs", self.epochs)
        require_one_of("keep", self.keep, KEEP)
        for name in ("train_images", "val_images"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        for seed in self.seeds:
            require_seed("seeds", seed)
        require(0 < len(self.seeds) == len(set(self.seeds)), "seeds must be distinct, and at least one")


@dataclass(frozen=True)
class Protocol:
    """A whole protocol.toml. `name` is its folder's."""

    name: str
    title: str
    data: Data
    search: Search
    final: Final
    augment: Augment | None = None
    recipe: Recipe = added(OFF)  # of every architecture, unless its [recipe] differs
    train: Train = added(UNCUT)

    def __post_init__(self) -> None:
        crops.require_fitting(self.data.size, self.train.crop, self.final.window, self.final.stride)
        # The mean of several passes has classes, but no objects: each pass finds and numbers its own.
        require(
            self.data.task != PANOPTIC or self.passes == WHOLE,
            f"task = 'panoptic' scores whole images in one pass; give [final] window = {list(self.data.size)}, and "
            "neither flip nor scales",
        )

    @property
    def passes(self) -> Passes:
        """How the networks see an image when they are scored, in the search as at the end, and used."""
        final = self.final
        window = final.window or self.train.crop
        return Passes.of(self.data.size, window, final.stride, final.flip, final.scales)

    def recipe_of(self, architecture: Architecture) -> Recipe:
        """What the architecture is trained by: its own fields over the protocol's."""
        return self.recipe.changed(architecture.recipe)

    def augment_of(self, architecture: Architecture) -> Augment | None:
        """How this architecture's training images vary: as its own table says, else as this protocol's."""
        return self.augment if architecture.augment is None else architecture.augment

    @property
    def drawn(self) -> bool:
        """True if the images are drawn: results then say nothing about real photographs."""
        return self.data.streets is not None


@dataclass(frozen=True)
class Published:
    """The table [published] of an architecture: a score from the literature, which the report sets ours beside."""

    miou: float  # 0..1
    source: str  # where it stands, and what was trained and scored differently

    def __post_init__(self) -> None:
        require(0 <= self.miou <= 1, f"miou is a share, 0..1, such as 0.801, not {self.miou:g}")
        require(bool(self.source.strip()), "source must say where the score was published")


@dataclass(frozen=True)
class Architecture:
    """A whole <architecture>.toml or <architecture>@<variant>.toml. `name` is its file's. Before "@" it is that of the
    module that builds it: `code`'s, or one in segbench/architectures/, or one that an installed package offers."""

    name: str
    title: str
    batch_size: int
    weights: str  # "pretrained", "random", a state-dict file or a save_pretrained folder
    space: Space
    model: Mapping[str, Scalar] = field(default_factory=dict)  # keyword arguments of the architecture's build
    baseline: Mapping[str, Scalar] = field(default_factory=dict)  # known-good values, one per name of the space
    code: Code | None = field(default=None, metadata={"toml": False})  # <name>.py beside the TOML, if any
    augment: Augment | None = added(None)  # in place of the protocol's
    recipe: Mapping[str, Scalar] = added({})  # the fields of Recipe in which it differs from the protocol's
    published: Published | None = added(None)  # for the report alone

    def __post_init__(self) -> None:
        require_count("batch_size", self.batch_size)
        odd = next((name for name in self.model if not name.isidentifier()), None)
        require(odd is None, f"[model] {shown(odd)} cannot be an argument of the architecture's build")
        space.check(self.space)
        OFF.changed(self.recipe)
        if self.baseline:
            self._check_baseline()

    def _check_baseline(self) -> None:
        entries = space.entries(self.space, str(self.baseline.get("optimizer")))
        differing = set(self.baseline) ^ set(entries)
        require(not differing, f"[baseline] and [space] must name the same things, but differ in {sorted(differing)}")
        OFF.changed({name: value for name, value in self.baseline.items() if name in Recipe.names()})
        for name, value in self.baseline.items():
            values = self.space[entries[name]]
            if isinstance(values, Choice):
                require_one_of(f"[baseline] {name}", value, values.values)
            else:
                fits = is_number(value) and (isinstance(value, int) or not values.integer)
                expected = "a whole number" if values.integer else "a number"
                require(fits, f"[baseline] {name} must be {expected}, not {shown(value)}")
        require_rate("[baseline] lr", self.baseline["lr"], above_zero=True)
        require_rate("[baseline] weight_decay", self.baseline["weight_decay"])


def load(folder: Path) -> Protocol:
    """Reads `<folder>/protocol.toml`. Raises UserError that names file, table and key of a mistake."""
    path = folder / "protocol.toml"
    name = names.part(folder.resolve().name, "protocol")
    content = _named(name, "folder", path)
    data = content.get("data")
    if isinstance(data, dict) and isinstance(data.get("labels"), str):  # else it is refused as any other wrong value
        with tables.located(f"{path}: [data]"):
            data["labels"] = labels.chosen(data["labels"], folder)
    return typing.cast(Protocol, tables.record(Protocol, content, str(path)))


def load_architecture(folder: Path, name: str) -> Architecture:
    """Reads `<folder>/<name>.toml`. Raises UserError like `load`, and if the folder has no such file."""
    path = folder / f"{names.part(name, 'architecture')}.toml"
    if not os.path.lexists(path):
        known = ", ".join(architecture_names(folder)) or "none"
        raise UserError(f"no architecture '{name}' in {folder}: it holds {known}. Write {path} to add one")
    content = _named(name, "file", path)
    if isinstance(content.get("space"), dict):  # else it is refused as any other value of a wrong type
        content["space"] = space.read(content["space"], str(path))
    if "recipe" in content:
        checked = tables.record(Recipe, content["recipe"], str(path), "recipe")
        content["recipe"] = {name: getattr(checked, name) for name in content["recipe"]}
    architecture = typing.cast(Architecture, tables.record(Architecture, content, str(path)))
    return dataclasses.replace(architecture, code=sources.beside(path))


def architecture_names(folder: Path) -> list[str]:
    """The architectures a protocol folder compares, by name."""
    tomls = (toml for toml in folder.glob("[!.]*.toml") if not toml.name.endswith(labels.ENDING))
    return sorted(toml.stem for toml in tomls if toml.name != "protocol.toml")


def fingerprint(protocol: Protocol, architecture: Architecture) -> str:
    """12 hexadecimal digits that change with everything a search's outcome depends on.

    Titles, [published], [final] but for what scores an image, the number of trials and a baseline that is not enqueued
    do not enter: a longer search contains the shorter one. A field that was added later does not enter at its default.
    """
    first = {"name", "title", "data", "search", "final", "augment"}
    later = {k: v for k, v in _entering(protocol).items() if k not in first}
    if protocol.passes != WHOLE:
        later["passes"] = _entering(protocol.passes)
    if protocol.data.task == PANOPTIC:
        later["things"] = panoptic.things(protocol.data.labels)
    search = {k: v for k, v in _entering(protocol.search).items() if k != "trials"}
    beside = {"title", "code", "published"} | (set() if protocol.search.enqueue else {"baseline"})
    differing = {k: v for k, v in _entering(architecture).items() if k not in beside}
    if architecture.code:
        differing["code"] = architecture.code.sha256
    content = [_entering(protocol.data), _entering(protocol.augment), search, differing, *([later] if later else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _entering(record: Any) -> Any:
    """Like `to_json`, without fields that were added later and have their default, and without what is only shown."""
    if isinstance(record, LabelSet):
        return record.meaning
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        fields = [(f, getattr(record, f.name)) for f in dataclasses.fields(record)]
        return {f.name: _entering(value) for f, value in fields if not at_default(f, value)}
    if isinstance(record, Mapping):
        return {str(key): _entering(value) for key, value in record.items()}
    return [_entering(item) for item in record] if isinstance(record, (tuple, list)) else record


def _named(name: str, holder: str, path: Path) -> dict[str, Any]:
    """The content of a TOML file with the `name` of its `holder`: "file" or "folder"."""
    content = tables.read(path)
    if "name" in content:
        raise UserError(f"{path}: unknown key 'name'; the name is the {holder}'s, here '{name}': remove that line")
    return {"name": name, **content}
