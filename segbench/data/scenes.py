"""Scenes on disk: pairs of an image and its label ids, in Cityscapes' folders as downloaded.

<root>/leftImg8bit/<split>/<city>/<name>_leftImg8bit.png|.jpg
<root>/gtFine/<split>/<city>/<name>_gtFine_labelIds.png
                                   /<name>_gtFine_instanceIds.png   read for panoptic protocols

or <root>/*.zip that hold these, see `archives`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from segbench.core import names
from segbench.core.errors import UserError
from segbench.data import archives
from segbench.data.archives import File

SPLITS = ("train", "val")
_IMAGES = ("_leftImg8bit.png", "_leftImg8bit.jpg", "_leftImg8bit.jpeg")
_LABELS, _INSTANCES = "_gtFine_labelIds.png", "_gtFine_instanceIds.png"


class Scene(NamedTuple):
    name: str  # <city>/<city>_<seq>_<frame>
    city: str
    image: File
    labels: File
    instances: File | None = None  # of panoptic protocols


class Problem(NamedTuple):
    file: str  # relative to the dataset's root, with ? for unprintable characters
    what: str
    scene: str
    unknown: tuple[tuple[str, int], ...] = ()  # values of a mask that the label set does not have, and their pixels


def find(root: Path, split: str, panoptic: bool = False) -> tuple[list[Scene], list[Problem]]:
    """The scenes of one split in order of name, and the problems of the others: a file lacks its partner, exists twice,
    is not a regular file, or has an unusable name. `panoptic`: each scene needs its instance file, too.

    Raises UserError if the folders are missing or hold no scene, and OSError if one cannot be read.
    """
    images, image_problems = _by_name(root, f"leftImg8bit/{split}", _IMAGES)
    labels, label_problems = _by_name(root, f"gtFine/{split}", (_LABELS,))
    instances, instance_problems = _by_name(root, f"gtFine/{split}", (_INSTANCES,)) if panoptic else ({}, [])
    problems = image_problems + label_problems + instance_problems
    if not images and not labels and not problems:
        raise UserError(
            f"no scenes in {root / 'leftImg8bit' / split}: expected <city>/<name>_leftImg8bit.png there and "
            f"gtFine/{split}/<city>/<name>{_LABELS}. Draw a set to try: python -m segbench.streets --out streets"
        )
    reported = {problem.scene for problem in problems}
    for name in (images.keys() ^ labels.keys()) - reported:
        if name in images:
            what = f"image without labels: expected gtFine/{split}/{name}{_LABELS}"
            problems.append(_problem(root, images[name], what, name))
        else:
            what = f"labels without image: expected leftImg8bit/{split}/{name}{_IMAGES[0]}"
            problems.append(_problem(root, labels[name], what, name))
    both = sorted((images.keys() & labels.keys()) - reported)
    if panoptic:
        lacking = [name for name in both if name not in instances]
        what = f"labels without instances: expected gtFine/{split}/{{}}{_INSTANCES}"
        problems += [_problem(root, labels[name], what.format(name), name) for name in lacking]
        both = [name for name in both if name in instances]
    found = [Scene(name, name.split("/")[0], images[name], labels[name], instances.get(name)) for name in both]
    return found, sorted(problems)


def _by_name(root: Path, folder: str, endings: tuple[str, ...]) -> tuple[dict[str, File], list[Problem]]:
    """The files of a folder by scene, and the problems of unusable files."""
    by_name: dict[str, File] = {}
    problems = []
    for path in _files(root, folder):
        ending = next((e for e in endings if path.name.endswith(e)), None)
        if not ending:
            continue
        city, stem = path.parent.name, path.name.removesuffix(ending)
        name = f"{city}/{stem}"
        if rule := names.refusal(city) or names.refusal(stem):
            problems.append(_problem(root, path, f"its name {rule}", name))
        elif isinstance(path, Path) and not os.path.isfile(path):  # reading a pipe would block
            kind = "a broken link" if path.is_symlink() and not os.path.exists(path) else "not a regular file"
            problems.append(_problem(root, path, f"it is {kind}", name))
        elif name in by_name:
            problems.append(_problem(root, path, f"{by_name[name].name} is the same scene; remove one of them", name))
        else:
            by_name[name] = path
    return by_name, problems


def _files(root: Path, folder: str) -> list[File]:
    """What lies in the folders in root/folder, on disk or in an archive, in order of path."""
    if (root / folder).is_dir():
        return [*sorted(file for city in (root / folder).iterdir() if city.is_dir() for file in city.iterdir())]
    found = archives.members(root, folder)
    if not found:
        raise UserError(
            f"no folder {root / folder}{archives.searched(root)}: a Cityscapes root holds leftImg8bit/ and "
            "gtFine/, each with train/ and val/, or the two archives as downloaded"
        )
    return [file for file in found if len(file.path.parts) == folder.count("/") + 3]


def _problem(root: Path, path: File, what: str, scene: str) -> Problem:
    shown = "".join(c if c.isprintable() else "?" for c in str(path.relative_to(root)))
    return Problem(shown, what, scene)
