"""Promoted models on disk, and back in memory.

<storage>/models/<study>/seed<k>/card.json          what it is; written last
                                /best.safetensors   the epoch with the highest miou
                                /last.safetensors
                                /confusions.npz     raw confusion of each final validation image, and their names
                                /masks/<name>.png   predicted categories, in the legend's colours
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from segbench.core import artefacts, files, paths
from segbench.core.errors import UserError
from segbench.core.records import ModelCard, from_json, to_json


class Promoted(NamedTuple):
    folder: Path
    card: ModelCard

    @property
    def weights(self) -> Path:
        """The epoch with the highest mIoU."""
        return self.folder / artefacts.WEIGHTS


def promoted(protocol: str | None = None) -> list[Promoted]:
    """All promoted models, or one protocol's, in order of study and seed."""
    study = "*" if protocol is None else f"{protocol}-*"  # another protocol's broken card is not asked
    folders = sorted(paths.models().glob(study))
    found = [Promoted(path.parent, read_card(path)) for folder in folders for path in cards(folder)]
    return [one for one in found if protocol is None or one.card.protocol == protocol]


def cards(folder: Path) -> list[Path]:
    """Those of a study's finished promotions, in order of seed; a killed one leaves a .partial or .old beside them."""
    return sorted(path for path in folder.glob(f"seed*/{artefacts.CARD}") if not path.parent.suffix)


def read_card(path: Path) -> ModelCard:
    """Raises UserError where the card cannot be read."""
    try:
        return from_json(ModelCard, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no readable model card ({error!r}); promote again to replace it") from error


def write_card(path: Path, card: ModelCard) -> None:
    """Written whole or not at all."""
    with files.replaced(path) as partial:
        partial.write_text(json.dumps(to_json(card), indent=1, ensure_ascii=False), encoding="utf-8")
