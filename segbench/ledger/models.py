"""Promoted models on disk: their list and their cards.

<storage>/models/<study>/seed<k>/card.json          the ModelCard; written last
                                /best.safetensors   the epoch with the highest value
                                /last.safetensors
                                /confusions.npz     raw confusion of each final validation image, and their names;
                                                    of panoptic protocols also the counts of its segments
                                /errors.npz         the kinds of errors, and
                                /reliability.npz    how sure it was: see ledger/measured.py
                                /masks/<name>.png   predicted categories, in the legend's colours
                                /entropy/<name>.png how unsure it was of each pixel
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import artefacts, files, paths
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.core.records import ModelCard, from_json, to_json

if TYPE_CHECKING:  # which imports SciPy, and predict has no use for it
    from segbench.stats.panoptic import Counts

_LONGEST_SIDE = 16_384  # pixels
_SEED = re.compile(r"seed\d+")  # the folder of a finished promotion, as paths.model_folder names it


class Promoted(NamedTuple):
    folder: Path
    card: ModelCard

    @property
    def weights(self) -> Path:
        """Of the kept epoch."""
        return self.folder / artefacts.WEIGHTS


class Listing(NamedTuple):
    """The finished promotions."""

    promoted: list[Promoted]
    unreadable: list[Path]  # folders whose card cannot be read


def listing(protocol: str | None = None) -> Listing:
    """The finished promotions of all protocols, or of the protocol of this name, in order of study and seed.

    Folders seed<k>.partial and seed<k>.old of a killed or running promotion never count. A model whose card cannot be
    read belongs to the protocol that its folder's name begins with.
    """
    root = paths.models()
    studies = sorted(root.iterdir()) if root.is_dir() else []
    promoted: list[Promoted] = []
    unreadable: list[Path] = []
    for study in studies:
        if protocol is not None and not study.name.startswith(f"{protocol}-"):
            continue
        for card in cards(study):
            try:
                model = Promoted(card.parent, read_card(card))
            except UserError:
                unreadable.append(card.parent)
                continue
            if protocol is None or model.card.protocol == protocol:
                promoted.append(model)
    return Listing(promoted, unreadable)


def confusions(path: Path, labels: LabelSet) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """(N, R, C) and the N scenes of a confusions.npz; nothing where it is missing, damaged or of other labels."""
    try:
        with np.load(path) as file:
            counts, names = file["confusions"].astype(np.int64), tuple(str(n) for n in file["names"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None, ()
    if counts.shape != (len(names), len(labels.rows), len(labels)) or not names:
        return None, ()
    return counts, names


def segments(path: Path) -> Counts | None:
    """What of the same file counts the segments of the N scenes; None where it has no such counts."""
    from segbench.stats.panoptic import Counts

    try:
        with np.load(path) as file:
            return Counts(*(file[name] for name in Counts._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_confusions(
    path: Path, names: Sequence[str], confusions: NDArray[np.integer], counts: Counts | None, **more: int
) -> None:
    """Writes what `confusions` and `segments` read, and `more`, atomically. Raises OSError."""
    content: dict[str, Any] = {"confusions": confusions.astype(np.int32), "names": np.array(names), **more}
    with files.replaced(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **content, **(counts._asdict() if counts else {}))


def promoted(protocol: str | None = None) -> list[Promoted]:
    """The promoted models of `listing`, without those whose card cannot be read."""
    return listing(protocol).promoted


def cards(study: Path) -> list[Path]:
    """The cards of a study's finished promotions, in order of seed; `study` is its folder under models/."""
    folders = [path for path in study.glob("seed*") if _SEED.fullmatch(path.name)]
    ordered = sorted(folders, key=lambda folder: int(folder.name.removeprefix("seed")))
    return [folder / artefacts.CARD for folder in ordered if (folder / artefacts.CARD).is_file()]


def read_card(path: Path) -> ModelCard:
    """The card in a file. Raises UserError if it cannot be read."""
    try:
        card = from_json(ModelCard, json.loads(path.read_text(encoding="utf-8")))
        _require_sound(card)
        return card
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a readable model card ({error!r}); promote again to replace it") from error


def _require_sound(card: ModelCard) -> None:
    """Raises ValueError for a card, perhaps edited by hand, from which no network can be built and run."""
    height, width = card.size
    if not (0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE):
        raise ValueError(f"size is {height}x{width}")
    normalisation = (*card.mean, *card.std)
    if not len(card.mean) == len(card.std) == 3 or not all(map(math.isfinite, normalisation)) or min(card.std) <= 0:
        raise ValueError(f"mean is {card.mean}, std {card.std}")
    if card.categories != card.labels.names:
        raise ValueError(f"categories are {card.categories}, those of its labels {card.labels.names}")


def write_card(path: Path, card: ModelCard) -> None:
    """Writes the card atomically. Raises OSError."""
    with files.replaced(path) as partial:
        partial.write_text(json.dumps(to_json(card), indent=1, ensure_ascii=False), encoding="utf-8")
