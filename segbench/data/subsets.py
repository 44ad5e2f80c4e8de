"""Draws the images of a search and of the final training, once and for all architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core.errors import UserError
from segbench.core.protocol import BEST_ON_SELECTION, Final, Protocol, Search
from segbench.data.packing import Dataset, Split

Indices = NDArray[np.int64]


class Subset(NamedTuple):
    """Indices into two splits, sorted."""

    train: Indices
    val: Indices
    val_split: str  # "train" or "val": the split that `val` indexes
    description: str  # how it was drawn, for people


def draw_search(dataset: Dataset, search: Search) -> Subset:
    """The search's images, determined by `search.seed`. With select_on = "train" the selection images come from whole
    cities that the training images avoid, or from other images of the same cities if there are too few cities.

    Raises UserError if the dataset has fewer images than the protocol needs.
    """
    generator = _search_generator(search)
    train, val = dataset.train, dataset.val
    if search.select_on == "val":
        _enough(len(train), search.train_images, "train", "[search] train_images")
        _enough(len(val), search.val_images, "val", "[search] val_images")
        description = (
            f"{search.train_images} train images; selection on {search.val_images} of the final validation images"
        )
        everything, rest = np.arange(len(train)), np.arange(len(val))
        return Subset(
            _some(everything, search.train_images, generator),
            _some(rest, search.val_images, generator),
            "val",
            description,
        )
    _enough(len(train), search.train_images + search.val_images, "train", "[search] train_images + val_images")
    held = _held_out_cities(train.cities, search.train_images, search.val_images, generator)
    if held:
        inside = np.isin(np.array(train.cities), held)
        pool, rest = np.flatnonzero(inside), np.flatnonzero(~inside)
        description = (
            f"{search.train_images} train images; selection on {search.val_images} from held-out {_cities(held)}"
        )
    else:
        order = generator.permutation(len(train))
        pool, rest = order[: search.val_images], order[search.val_images :]
        description = f"{search.train_images} train images; selection on {search.val_images} others of the same cities"
    return Subset(
        _some(rest, search.train_images, generator), _some(pool, search.val_images, generator), "train", description
    )


def draw_final(dataset: Dataset, final: Final) -> Subset:
    """The final training's images: all, or the numbers in `final`, drawn with a fixed seed.

    Raises UserError if the dataset has fewer images than the protocol needs.
    """
    generator = np.random.default_rng([0, 2])
    chosen = []
    for split, limit, key in (
        (dataset.train, final.train_images, "[final] train_images"),
        (dataset.val, final.val_images, "[final] val_images"),
    ):
        number = len(split) if limit is None else limit
        _enough(len(split), number, "train" if split is dataset.train else "val", key)
        chosen.append(_some(np.arange(len(split)), number, generator))
    description = f"{len(chosen[0])} train images, {len(chosen[1])} validation images"
    return Subset(chosen[0], chosen[1], "val", description)


def draw_full_training(dataset: Dataset, protocol: Protocol) -> Subset:
    """The images that the full training trains on, and those that choose its epoch: `draw_final`'s, unless [final] keep
    is "best on selection". Then whole cities of the train split are held out, the same as in a search with select_on =
    "train": all their images choose the epoch, and the training has those of `draw_final` outside these cities.

    With too few cities, the search's number of images is held out instead. Raises UserError like `draw_final`, and if
    no image is left to train on.
    """
    final = draw_final(dataset, protocol.final)
    if protocol.final.keep != BEST_ON_SELECTION:
        return final
    search, train = protocol.search, dataset.train
    generator = _search_generator(search)
    held = _held_out_cities(train.cities, search.train_images, search.val_images, generator)
    if held:
        chosen, where = np.flatnonzero(np.isin(np.array(train.cities), held)), f"held-out {_cities(held)}"
    else:
        chosen = np.sort(generator.permutation(len(train))[: search.val_images])
        where = "the same cities"
    left = np.setdiff1d(final.train, chosen)
    if not len(left):
        raise UserError(
            f'[final] keep = "{BEST_ON_SELECTION}" holds out {len(chosen)} train images and leaves none of '
            f'the {len(final.train)} to train on; give more images, or keep = "last" in protocol.toml'
        )
    cost = len(final.train) - len(left)
    description = (
        f"{len(left)} train images; the epoch is chosen on {len(chosen)} from {where}, which costs the training {cost} "
        f"images; {len(final.val)} validation images choose nothing"
    )
    return Subset(left, chosen, "train", description)


def fraction(whole: Subset, part: float) -> Subset:
    """A `part` (0..1) of the training images, always the same ones: a smaller part is inside of a larger one. Raises
    UserError for less than two images, which no network with BatchNorm can be trained on."""
    number = round(len(whole.train) * part)
    if number < 2:
        raise UserError(
            f"a fraction of {part:g} is {number} of {len(whole.train)} train images; expected at least 2, so give "
            f"--fractions {2 / len(whole.train):.2g} or more"
        )
    order = np.random.default_rng([0, 3]).permutation(len(whole.train))
    description = f"{number} of {len(whole.train)} train images, {len(whole.val)} validation images"
    return whole._replace(train=np.sort(whole.train[order[:number]]), description=description)


def split_of(dataset: Dataset, subset: Subset) -> Split:
    """The split that `subset.val` indexes."""
    return dataset.train if subset.val_split == "train" else dataset.val


def _search_generator(search: Search) -> np.random.Generator:
    return np.random.default_rng([search.seed, 1])


def _held_out_cities(cities: Sequence[str], train: int, val: int, generator: np.random.Generator) -> list[str]:
    """Cities in random order until they hold `val` images, skipping any that would leave fewer than `train`; empty if
    they do not suffice."""
    names, sizes = np.unique(np.array(cities), return_counts=True)
    held: list[str] = []
    inside = 0
    for index in generator.permutation(len(names)):
        if inside >= val:
            break
        if len(cities) - inside - sizes[index] >= train:
            held.append(str(names[index]))
            inside += int(sizes[index])
    return sorted(held) if inside >= val else []


def _cities(held: list[str]) -> str:
    return f"{'city' if len(held) == 1 else 'cities'} {', '.join(held)}"


def _some(pool: Indices, number: int, generator: np.random.Generator) -> Indices:
    return np.sort(generator.choice(pool, number, replace=False))


def _enough(available: int, needed: int, split: str, key: str) -> None:
    if available < needed:
        raise UserError(
            f"{key} is {needed}, but the dataset's {split} split holds {available} images; lower it in protocol.toml"
        )
