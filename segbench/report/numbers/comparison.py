"""What the ledgers hold about one protocol, side by side. Reads only; what is missing is None or empty, and noted."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core import paths, protocol
from segbench.core.errors import UserError
from segbench.core.labels import CATEGORIES, LABELS
from segbench.core.protocol import Protocol
from segbench.core.records import EpochRecord, ModelCard
from segbench.core.study_record import StudyRecord
from segbench.ledger import database, models, runs, studies, tracking


@dataclass(frozen=True)
class Model:
    """One promoted model: one seed of one architecture."""

    folder: Path
    card: ModelCard
    epochs: tuple[EpochRecord, ...]  # from MLflow; where it lost the run, only the card's best and last epoch
    confusions: NDArray[np.int64] | None  # (N, 35, 8), one per final validation image; None where the file is unusable
    names: tuple[str, ...]  # N scenes, in the same order


@dataclass(frozen=True)
class Candidate:
    """One architecture of the comparison."""

    name: str
    title: str
    index: int  # its place in the protocol, which decides its colour
    study: StudyRecord | None
    models: tuple[Model, ...]  # in order of seed
    trials: Mapping[int, NDArray[np.int64]]  # trial to (N, 35, 8), of the same selection images; what the search kept

    @property
    def scored(self) -> tuple[Model, ...]:
        """The models whose per-image confusions are there."""
        return tuple(m for m in self.models if m.confusions is not None)

    @property
    def runs(self) -> list[NDArray[np.int64]]:
        """Their confusions."""
        return [m.confusions for m in self.models if m.confusions is not None]


@dataclass(frozen=True)
class Problem:
    """Something the ledgers lack. `key` names its text under [problems]."""

    key: str
    values: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """All there is about one protocol."""

    protocol: Protocol
    asked: str  # how the user names the protocol on the command line
    candidates: tuple[Candidate, ...]
    problems: tuple[Problem, ...]

    @property
    def promoted(self) -> tuple[Candidate, ...]:
        return tuple(side for side in self.candidates if side.models)

    @property
    def newest(self) -> str:
        """When the newest row was written, UTC; the report's own time would make equal reports differ."""
        studies = [side.study for side in self.candidates if side.study]
        ends = [trial.ended for study in studies for trial in study.trials if trial.ended]
        ends += [model.card.created for side in self.candidates for model in side.models]
        stamps = [datetime.fromisoformat(end) for end in ends]
        return max(stamps).strftime("%Y-%m-%d %H:%M UTC") if stamps else "—"


def read(folder: Path, asked: str, study_db: str | None = None) -> Comparison:
    """`study_db` is what --study-db gives.

    Raises UserError where no architecture of the protocol has been searched or promoted, and for broken ledgers.
    """
    wanted = protocol.load(folder)
    problems: list[Problem] = []
    cards = _cards(wanted.name, problems)
    studies = _studies(wanted.name, paths.studies_database(study_db))
    names = dict.fromkeys(protocol.architecture_names(folder))
    names |= dict.fromkeys(study.architecture.name for study in studies) | dict.fromkeys(
        one.card.architecture for one in cards
    )
    if not studies and not cards and not problems:
        raise UserError(
            f"nothing to report: {paths.storage()} holds no study of protocol '{wanted.name}'; "
            f"search first: python -m segbench.search --protocol {asked}"
        )
    client = tracking.client() if cards and tracking.is_there() else None
    candidates = []
    for index, name in enumerate(sorted(names)):
        study = next((study for study in studies if study.architecture.name == name), None)
        own = [_model(one, client, problems) for one in cards if one.card.architecture == name]
        own.sort(key=lambda m: m.card.seed)
        title = study.architecture.title if study else own[-1].card.title if own else name
        candidates.append(Candidate(name, title, index, study, tuple(own), _trials(study)))
    return Comparison(wanted, asked, tuple(candidates), tuple(problems))


def _cards(name: str, problems: list[Problem]) -> list[models.Promoted]:
    """The protocol's promoted models. A card that cannot be read costs its model, not the report."""
    found = []
    for path in sorted((paths.storage() / "models").glob(f"{name}-*/seed*/card.json")):
        try:
            card = models.read_card(path)
        except UserError:
            study, seed = path.parent.parent.name, path.parent.name
            architecture = study.removeprefix(f"{name}-")
            problems.append(Problem("card", {"model": f"{architecture}, {seed}", "architecture": architecture}))
            continue
        if card.protocol == name:
            found.append(models.Promoted(path.parent, card))
    return found


def _studies(name: str, where: str) -> list[StudyRecord]:
    """Every study made under the protocol of this name."""
    if not database.is_there(where):
        return []
    storage = database.connect(where)
    found = [studies.record(storage, one) for one in studies.names(storage) if one.startswith(f"{name}-")]
    return [study for study in found if study.protocol.name == name and study.trials]


def _model(one: models.Promoted, client: Any, problems: list[Problem]) -> Model:
    card = one.card
    who = {"model": f"{card.architecture}, seed {card.seed}", "architecture": card.architecture}
    try:
        epochs = runs.epochs(client, card.run_id) if client else ()
    except (UserError, KeyError, TypeError):  # no such run, or one that was cut short
        epochs = ()
    if not epochs:
        problems.append(Problem("epochs", who))
        epochs = tuple(dict.fromkeys((card.best, card.last)))
    confusions, names = _confusions(one.folder / "confusions.npz")
    if confusions is None:
        problems.append(Problem("confusions", who))
    return Model(one.folder, card, epochs, confusions, names)


def _trials(study: StudyRecord | None) -> dict[int, NDArray[np.int64]]:
    """The confusions the search kept of its trials; none where they are not all of the same images."""
    if study is None:
        return {}
    folder = paths.storage() / "trials" / study.name
    indices = [trial.index for trial in study.trials if not trial.baseline]
    read = {index: _confusions(folder / f"trial{index}" / "confusions.npz") for index in indices}
    names = {names for confusions, names in read.values() if confusions is not None}
    return {index: one for index, (one, _) in read.items() if one is not None} if len(names) == 1 else {}


def _confusions(path: Path) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """(N, 35, 8) and the N scenes of a confusions.npz; nothing where it is missing or damaged."""
    try:
        with np.load(path) as file:
            confusions, names = file["confusions"].astype(np.int64), tuple(str(n) for n in file["names"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None, ()
    if confusions.shape != (len(names), len(LABELS), len(CATEGORIES)) or not names:
        return None, ()
    return confusions, names
