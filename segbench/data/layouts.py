"""Scenes of any dataset: in Cityscapes' folders, or wherever two patterns find images and masks.

layout = layouts.of(protocol.data)
scenes, problems = layout.find(root, "val")
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segbench.core import names
from segbench.core.errors import UserError
from segbench.core.layout import SPLIT, Split
from segbench.core.panoptic import PANOPTIC
from segbench.core.protocol import Data
from segbench.data import archives, scenes
from segbench.data.archives import File
from segbench.data.scenes import Problem, Scene

Found = tuple[list[Scene], list[Problem]]


class Layout(NamedTuple):
    """How a dataset lies on disk."""

    find: Callable[[Path, str], Found]  # root and split to scenes, in order of name, and the problems of other files
    identity: str = ""  # what distinguishes it: the same root may be read in several ways
    panoptic: bool = False  # whether scenes have instances


CITYSCAPES = Layout(scenes.find)


def of(data: Data) -> Layout:
    """The layout of a protocol's dataset."""
    if data.layout == "cityscapes":
        find = functools.partial(scenes.find, panoptic=True)
        return Layout(find, PANOPTIC, panoptic=True) if data.task == PANOPTIC else CITYSCAPES
    colours = [(row.label.id, row.label.mask) for row in data.labels.rows]
    identity = (data.images, data.masks, data.split, colours, *([data.instances] if data.instances else []))
    return Layout(functools.partial(_pairs, data), repr(identity), panoptic=data.task == PANOPTIC)


class _Pair(NamedTuple):
    scene: Scene
    path: str  # of the image, relative to the root


def _pairs(data: Data, root: Path, split: str) -> Found:
    """The scenes of layout "pairs": an image and a mask, and instances if asked for, belong together if the wildcards
    of their patterns match the same. Raises UserError if there are none, for a list that does not fit, and if two
    splits share a group."""
    if SPLIT in data.images:
        found = {each: _matched(data, root, each) for each in scenes.SPLITS}
    else:
        assert data.split
        pairs, problems = _matched(data, root, "")
        if not pairs and not problems:
            raise UserError(f"no image in {root} matches {data.images}")
        chosen = _listed(data.split, root, pairs) if data.split.train else _drawn(data.split, pairs)
        found = {each: (chosen[each], problems if each == scenes.SPLITS[0] else []) for each in scenes.SPLITS}
    if data.split and data.split.group:
        _require_apart({each: pairs for each, (pairs, _) in found.items()})
    pairs, problems = found[split]
    if not pairs and not problems:
        raise UserError(f"no {split} image in {root}: none matches {data.images.replace(SPLIT, split)}")
    return sorted(pair.scene for pair in pairs), problems


def _matched(data: Data, root: Path, split: str) -> tuple[list[_Pair], list[Problem]]:
    files = {kind: _by_key(root, pattern.replace(SPLIT, split)) for kind, pattern in data.patterns.items()}
    images, masks = files["images"], files["masks"]
    group = data.split.group if data.split else ""
    made: dict[str, _Pair] = {}
    problems = []
    for key in sorted(images.keys() | masks.keys()):
        path = images.get(key, masks.get(key, root))
        file, name = str(path.relative_to(root)), "/".join(key)
        city = _group(key, file, group)
        stem = "_".join(part.replace("/", "_") for part in (key if group else key[1:] or key))
        if what := _refusal(key, files, city, stem, group):
            problems.append(Problem("".join(c if c.isprintable() else "?" for c in file), what, name))
        elif f"{city}/{stem}" in made:
            problems.append(Problem(file, f"{made[f'{city}/{stem}'].path} would be the same scene; rename one", name))
        else:
            scene = Scene(f"{city}/{stem}", city, *(by_key[key] for by_key in files.values()))
            made[scene.name] = _Pair(scene, file)
    return list(made.values()), problems


def _refusal(
    key: tuple[str, ...], files: Mapping[str, Mapping[tuple[str, ...], File]], city: str, stem: str, group: str
) -> str:
    """Why a pair cannot be used; "" if it can. files: of each kind, by key."""
    if key not in files["masks"]:
        return "image without mask"
    if key not in files["images"]:
        return "mask without image"
    if lacking := [kind for kind, by_key in files.items() if key not in by_key]:
        return f"image without {lacking[0]}"
    if not city:
        return f"its path does not match [data.split] group '{group}'"
    if rule := names.refusal(city) or names.refusal(stem):
        return f"its name {rule}"
    own = [by_key[key] for by_key in files.values()]
    odd = [file.name for file in own if isinstance(file, Path) and not os.path.isfile(file)]
    return f"{odd[0]} is not a regular file" if odd else ""


def _by_key(root: Path, pattern: str) -> dict[tuple[str, ...], File]:
    """The files that match, by what the wildcards match."""
    # "**/" matches any number of folders, none among them.
    parts = (
        r"((?:[^/]+/)*)" if part == "**/" else "([^/]*)" if part == "*" else re.escape(part)
        for part in re.split(r"(\*\*/|\*)", pattern)
    )
    expression = re.compile("".join(parts))
    base = "/".join(pattern.split("*")[0].split("/")[:-1])
    found = {}
    for path, file in archives.files(root, base):
        if match := expression.fullmatch(path):
            found[tuple(part.strip("/") for part in match.groups())] = file
    if not found and not (root / base).is_dir():
        raise UserError(f"no folder {root / base}{archives.searched(root)}, where {pattern} would be")
    return found


def _group(key: tuple[str, ...], file: str, group: str) -> str:
    """The sequence or city of an image."""
    if not group:
        return key[0].replace("/", "_") or "root" if len(key) > 1 else "all"
    match = re.search(group, file)
    return match[match.re.groups] or "" if match else ""


def _listed(split: Split, root: Path, pairs: list[_Pair]) -> dict[str, list[_Pair]]:
    """By the two list files."""
    known: dict[str, list[_Pair]] = {}
    for pair in pairs:
        path = Path(pair.path)
        for name in {pair.path, path.name, path.stem}:
            known.setdefault(name, []).append(pair)
    chosen = {"train": _on_list(root / split.train, known), "val": _on_list(root / split.val, known)}
    if both := {pair.path for pair in chosen["train"]} & {pair.path for pair in chosen["val"]}:
        raise UserError(f"{split.train} and {split.val} share {len(both)} images, such as {min(both)}; expected none")
    return chosen


def _on_list(path: Path, known: Mapping[str, list[_Pair]]) -> list[_Pair]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"{path} cannot be read ({reason}); expected a list of images") from error
    chosen = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        matching = known.get(name.removeprefix("./"), [])
        if len(matching) != 1:
            what = f"{len(matching)} images have this name; give the path" if matching else "no pair has this name"
            raise UserError(f"{path}:{number}: '{name[:100]}': {what}")
        chosen[matching[0].path] = matching[0]
    return list(chosen.values())


def _drawn(split: Split, pairs: list[_Pair]) -> dict[str, list[_Pair]]:
    """Whole groups for validation: in random order, each that brings the images nearer to the share; if none does, the
    smallest. At least one is left for training."""
    sizes = Counter(pair.scene.city for pair in pairs)
    order = np.random.default_rng([split.seed, 3]).permutation(sorted(sizes)).tolist()
    if len(order) < 2:
        found = f"the images form {len(order)} group{'s' * (not order)}, {', '.join(order) or 'none'}"
        raise UserError(f"{found}; expected at least two to split: give [data.split] group, or list files")
    held: list[str] = []
    missing = split.share * len(pairs)
    for group in order:
        if abs(missing - sizes[group]) < missing and len(held) < len(order) - 1:
            held.append(group)
            missing -= sizes[group]
    held = held or [min(order, key=lambda group: sizes[group])]
    val = [pair for pair in pairs if pair.scene.city in held]
    return {"train": [pair for pair in pairs if pair.scene.city not in held], "val": val}


def _require_apart(chosen: Mapping[str, Iterable[_Pair]]) -> None:
    """Raises UserError if a group is in both splits."""
    train, val = (Counter(pair.scene.city for pair in chosen[split]) for split in scenes.SPLITS)
    if both := sorted(train.keys() & val.keys()):
        raise UserError(
            f"train and val share {len(both)} group{'s' * (len(both) > 1)}, such as '{both[0]}' ({train[both[0]]} and "
            f"{val[both[0]]} images), whose images may resemble each other; split whole groups, see [data.split] share"
        )
