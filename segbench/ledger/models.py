"""Promoted models on disk, and back in memory.

<storage>/models/<study>/seed<k>/card.json          what it is; written last
                                /best.safetensors   the epoch with the highest miou
                                /last.safetensors
                                /confusions.npz     raw confusion of each final validation image, and their names
                                /masks/<name>.png   predicted categories, in the legend's colours
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.records import ModelCard, from_json, to_json


class Promoted(NamedTuple):
    folder: Path
    card: ModelCard

    @property
    def weights(self) -> Path:
        """The epoch with the highest mIoU."""
        return self.folder / "best.safetensors"


def promoted(protocol: str | None = None) -> list[Promoted]:
    """All promoted models, or one protocol's, in order of study and seed."""
    study = "*" if protocol is None else f"{protocol}-*"  # another protocol's broken card is not asked
    folders = sorted((paths.storage() / "models").glob(study))
    found = [Promoted(path.parent, read_card(path)) for folder in folders for path in cards(folder)]
    return [one for one in found if protocol is None or one.card.protocol == protocol]


def chosen(names: Sequence[str] | None) -> list[Promoted]:
    """The promoted models that `--model` names, by study or folder; all of them where it names none.

    Raises UserError where there is no such model, or none at all.
    """
    everything = promoted()
    if names is None:
        if not everything:
            raise UserError(f"no promoted model in {paths.storage()}: run python -m segbench.promote first")
        return everything
    found: list[Promoted] = []
    for name in names:
        card = Path(name) / "card.json"
        named = [Promoted(card.parent, read_card(card))] if card.is_file() else []
        named = named or [one for one in everything if one.card.study == name]
        if not named:
            known = ", ".join(sorted({one.card.study for one in everything})) or "none"
            raise UserError(f"no promoted model '{name}'; there are: {known}")
        found += named
    return found


def unique_name(one: Promoted, among: Sequence[Promoted]) -> str:
    """Its study, with its seed where several of `among` are of that study."""
    several = sum(other.card.study == one.card.study for other in among) > 1
    return f"{one.card.study}-seed{one.card.seed}" if several else one.card.study


def cards(folder: Path) -> list[Path]:
    """Those of a study's finished promotions, in order of seed; a killed one leaves a .partial or .old beside them."""
    return sorted(path for path in folder.glob("seed*/card.json") if not path.parent.suffix)


def read_card(path: Path) -> ModelCard:
    """Raises UserError where the card cannot be read."""
    try:
        return from_json(ModelCard, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no readable model card ({error!r}); promote again to replace it") from error


def write_card(path: Path, card: ModelCard) -> None:
    """Written whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(to_json(card), indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, path)
