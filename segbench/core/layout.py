"""Where a dataset's images and masks lie, and which are for validation: the keys `layout`, `images`, `masks` and the
table [data.split] of [data]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from segbench.core.limits import require_seed
from segbench.core.tables import require, shown

LAYOUTS = ("cityscapes", "pairs")
SPLIT = "{split}"  # in a pattern: "train" or "val"
_STARS = r"\*\*|\*"


@dataclass(frozen=True)
class Split:
    """The table [data.split], of layout "pairs": two lists, or a share of whole groups; or, where the patterns say
    {split}, only what a group is, so that groups in both splits are refused."""

    train: str = ""  # a list file, relative to the dataset's root: an image's path, name or stem on each line
    val: str = ""
    share: float = 0.0  # of all images for validation, as whole groups
    seed: int = 0  # which groups
    group: str = ""  # a regular expression for what of an image's path names its sequence or city; "": its folder

    def __post_init__(self) -> None:
        lists = bool(self.train), bool(self.val)
        require(lists[0] == lists[1], "train and val must both name a list file, or neither")
        require(0 <= self.share < 1, f"share must be 0 or more and below 1, not {self.share:g}")
        require(not (lists[0] and self.share), "give either the list files train and val, or a share")
        require_seed("seed", self.seed)
        try:
            groups = re.compile(self.group).groups
        except re.error as error:
            raise ValueError(f"group {shown(self.group)} is not a regular expression: {error}") from None
        require(groups <= 1, f"group {shown(self.group)} has {groups} parenthesised parts; expected at most one")


def require_patterns(patterns: Mapping[str, str], split: Split | None) -> None:
    """Raises ValueError unless the patterns of layout "pairs", by key, fit each other and the split."""
    for key, pattern in patterns.items():
        expected = f'layout "pairs" needs {key}, a pattern such as "{key}/*.png"'
        require("*" in pattern, f"{expected}, found {shown(pattern)}")
        require(not re.search(r"[?\[\]]|\*\*[^/]|[^/]\*\*|\*\*$", pattern), f"{key}: the wildcards are * and **/")
        inside = not pattern.startswith("/") and ".." not in pattern.split("/")
        require(inside, f"{key} must be relative to the dataset's root, inside of it, not {shown(pattern)}")
    (images, first), *others = patterns.items()
    stars, says = len(re.findall(_STARS, first)), SPLIT in first
    for key, other in others:
        own = len(re.findall(_STARS, other))
        found = f"found {stars} in {shown(first)} and {own} in {shown(other)}"
        what = f"what the wildcards of {images} and {key} match pairs them: expected as many, {found}"
        require(stars == own, what)
        require(says == (SPLIT in other), f"{images} and {key} must both say {SPLIT}, or neither")
    named = split is not None and (bool(split.train) or split.share > 0)
    expected = f"say what is for validation either by {SPLIT} in the patterns or by lists or a share in [data.split]"
    require(says != named, f"{expected}, found {'both' if says else 'neither'}")
