"""Scenes on disk: pairs of an image and its label ids, in Cityscapes folders as downloaded.

<root>/leftImg8bit/<split>/<city>/<name>_leftImg8bit.png|.jpg
<root>/gtFine/<split>/<city>/<name>_gtFine_labelIds.png
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from segbench.core.errors import UserError

SPLITS = ("train", "val")
_IMAGES = ("_leftImg8bit.png", "_leftImg8bit.jpg", "_leftImg8bit.jpeg")
_LABELS = "_gtFine_labelIds.png"


class Scene(NamedTuple):
    name: str  # <city>/<city>_<seq>_<frame>
    city: str
    image: Path
    labels: Path


class Problem(NamedTuple):
    file: str  # relative to the dataset's root
    what: str


def find(root: Path, split: str) -> tuple[list[Scene], list[Problem]]:
    """The scenes of one split in order of name, and the files that lack their other half.

    Raises UserError where the folders are missing or hold no scene at all.
    """
    images = _by_name(root / "leftImg8bit" / split, _IMAGES)
    labels = _by_name(root / "gtFine" / split, (_LABELS,))
    if not images and not labels:
        raise UserError(
            f"no scenes in {root / 'leftImg8bit' / split}: expected <city>/<name>_leftImg8bit.png there and "
            f"gtFine/{split}/<city>/<name>{_LABELS}. Draw a set to try: python -m segbench.streets --out streets"
        )
    problems = [
        Problem(str(images[name].relative_to(root)), f"image without labels: expected gtFine/{split}/{name}{_LABELS}")
        for name in images.keys() - labels.keys()
    ] + [
        Problem(str(labels[name].relative_to(root)), f"labels without image: expected leftImg8bit/{split}/{name}_…")
        for name in labels.keys() - images.keys()
    ]
    both = sorted(images.keys() & labels.keys())
    return [Scene(name, name.split("/")[0], images[name], labels[name]) for name in both], sorted(problems)


def _by_name(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}: a Cityscapes root holds leftImg8bit/ and gtFine/, each with train/ and val/"
        )
    found = {}
    for path in folder.glob("*/*"):
        ending = next((e for e in endings if path.name.endswith(e)), None)
        if ending:
            found[f"{path.parent.name}/{path.name.removesuffix(ending)}"] = path
    return found
