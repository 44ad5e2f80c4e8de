"""What the databases and folders hold about one protocol, side by side. It only reads; what is missing is noted."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segbench import stats
from segbench.core import artefacts, paths, protocol, urls
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.core.panoptic import PANOPTIC, stuff, things
from segbench.core.protocol import Protocol, Published
from segbench.core.records import EpochRecord, ModelCard
from segbench.core.study_record import StudyRecord, TrialState
from segbench.ledger import database, models, runs, studies, tracking
from segbench.stats import Statistic, panoptic

CONTENDERS = 50  # so many of a search's best trials are asked which is the best; another one hardly ever is

Counts = NDArray[Any]


@dataclass(frozen=True)
class Model:
    """One promoted model: one seed of one architecture."""

    folder: Path
    card: ModelCard
    epochs: tuple[EpochRecord, ...]  # from MLflow; where it lost the run, only the card's best and last epoch
    confusions: Counts | None  # (N, R, C), one per final validation image; None where the file is unusable
    names: tuple[str, ...]  # N scenes, in the same order
    segments: panoptic.Counts | None = None  # of panoptic protocols, of the same images


@dataclass(frozen=True)
class Candidate:
    """One architecture of the comparison."""

    name: str
    title: str
    index: int  # its place in the protocol, which decides its colour
    study: StudyRecord | None
    models: tuple[Model, ...]  # in order of seed
    labels: LabelSet  # what it was trained on
    trial_runs: Mapping[int, Counts]  # of each contender, as `value_runs`, of the same N selection images
    published: Published | None = None  # a score from the literature

    @property
    def promoted_trials(self) -> set[int]:
        """The trials whose configuration was trained fully."""
        return {model.card.trial for model in self.models}

    @property
    def scored(self) -> tuple[Model, ...]:
        """The models whose per-image confusions are there."""
        return tuple(m for m in self.models if m.confusions is not None)

    @property
    def counted(self) -> list[panoptic.Counts]:
        """The segments of these models; none unless they are there of all of them."""
        known = [m.segments for m in self.scored if m.segments is not None]
        return known if len(known) == len(self.scored) else []

    @property
    def is_panoptic(self) -> bool:
        """Whether its value is PQ."""
        tasks = [model.card.task for model in self.models] or [self.study.protocol.data.task if self.study else ""]
        return tasks[0] == PANOPTIC

    @property
    def value_runs(self) -> list[Counts]:
        """What the value is computed from, of each of these models: confusions, or of panoptic protocols (N, C, 4)."""
        return [each.segments for each in self.counted] if self.is_panoptic else self.runs

    @property
    def value(self) -> Statistic:
        """From such counts to what the search maximised: mIoU or PQ."""
        if not self.is_panoptic:
            return stats.miou(self.labels)
        return panoptic.pq((*things(self.labels), *stuff(self.labels)))

    @property
    def runs(self) -> list[Counts]:
        """The confusions of these models, each (N, R, C)."""
        return [m.confusions for m in self.models if m.confusions is not None]


@dataclass(frozen=True)
class Problem:
    """Something that is missing or damaged. `key` names its text under [problems]."""

    key: str
    values: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """All there is about one protocol."""

    protocol: Protocol
    protocol_option: str  # "--protocol NAME" as the user gave it, quoted for a shell, for commands to suggest
    options: str  # that, and "--study-db URL" without its password where it was given
    candidates: tuple[Candidate, ...]
    problems: tuple[Problem, ...]

    @property
    def labels(self) -> LabelSet:
        """The protocol's label set."""
        return self.protocol.data.labels

    @property
    def promoted(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.models)

    @property
    def newest(self) -> str:
        """When the newest row was written, UTC; the report's own time would make equal reports differ."""
        studies = [candidate.study for candidate in self.candidates if candidate.study]
        ends = [trial.ended for study in studies for trial in study.trials if trial.ended]
        ends += [model.card.created for candidate in self.candidates for model in candidate.models]
        stamps = [datetime.fromisoformat(end) for end in ends]
        return max(stamps).strftime("%Y-%m-%d %H:%M UTC") if stamps else "—"


def read(folder: Path, asked: str, study_db: str | None = None) -> Comparison:
    """`study_db` is what --study-db gives.

    Raises UserError where no architecture of the protocol has been searched or promoted, and for broken databases.
    """
    wanted = protocol.load(folder)
    options = protocol_option = f"--protocol {shlex.quote(asked)}"
    if study_db:
        options += f" --study-db {shlex.quote(urls.shown(study_db))}"
    cards, unreadable = models.listing(wanted.name)
    studies = _studies(wanted.name, paths.studies_database(study_db))
    names = dict.fromkeys(protocol.architecture_names(folder))
    names |= dict.fromkeys(study.architecture.name for study in studies)
    names |= dict.fromkeys(model.card.architecture for model in cards)
    problems = _unreadable(unreadable, wanted.name, names)
    if not studies and not cards and not problems:
        raise UserError(
            f"nothing to report: {paths.storage()} holds no study of protocol '{wanted.name}'; "
            f"search first: python -m segbench.search {options}"
        )
    client = tracking.client() if cards and tracking.is_there() else None
    candidates = []
    for index, name in enumerate(sorted(names)):
        study = next((study for study in studies if study.architecture.name == name), None)
        own = [_model(promoted, client, problems) for promoted in cards if promoted.card.architecture == name]
        own.sort(key=lambda m: m.card.seed)
        title = study.architecture.title if study else own[-1].card.title if own else name
        labels = own[-1].card.labels if own else study.protocol.data.labels if study else wanted.data.labels
        known = None if wanted.drawn else published(folder, name)  # nobody published scores of drawn streets
        candidates.append(Candidate(name, title, index, study, tuple(own), labels, _trial_runs(study), known))
    return Comparison(wanted, protocol_option, options, tuple(candidates), tuple(problems))


def _unreadable(folders: Sequence[Path], protocol: str, names: Collection[str]) -> list[Problem]:
    """Of promotions of this protocol's architectures: a card that cannot be read costs its model, not the report."""
    problems = []
    for folder in folders:
        architecture = folder.parent.name.removeprefix(f"{protocol}-")
        if architecture in names:  # else another protocol's, whose name begins with this one's
            values = {"model": f"{architecture}, {folder.name}", "architecture": architecture}
            problems.append(Problem("card", values))
    return problems


def published(folder: Path, name: str) -> Published | None:
    """A score from the literature, as the architecture's file says now: it may have been added after the search."""
    try:
        return protocol.load_architecture(folder, name).published
    except UserError:  # the file is gone, or has a mistake: the report needs nothing else of it
        return None


def _studies(name: str, where: str) -> list[StudyRecord]:
    """Every study made under the protocol of this name."""
    if not database.is_there(where):
        return []
    storage = database.connect(where)
    made = [studies.record(storage, each) for each in studies.names(storage) if each.startswith(f"{name}-")]
    return [study for study in made if study.protocol.name == name and study.trials]


def _model(promoted: models.Promoted, client: Any, problems: list[Problem]) -> Model:
    card = promoted.card
    who = {"model": f"{card.architecture}, seed {card.seed}", "architecture": card.architecture}
    try:
        epochs = runs.epochs(client, card.run_id, card.categories) if client else ()
    except (UserError, KeyError, TypeError):  # no such run, or one that was cut short
        epochs = ()
    if not epochs:
        problems.append(Problem("epochs", who))
        epochs = tuple(dict.fromkeys((card.best, card.last)))
    confusions, names = models.confusions(promoted.folder / artefacts.CONFUSIONS, card.labels)
    if confusions is None:
        problems.append(Problem("confusions", who))
    counts = models.segments(promoted.folder / artefacts.CONFUSIONS) if card.task == PANOPTIC else None
    return Model(promoted.folder, card, epochs, confusions, names, counts)


def contenders(study: StudyRecord) -> list[int]:
    """The complete trials with the highest values, CONTENDERS at most, best first. The baseline is no candidate."""
    complete = [t for t in study.planned if t.state == TrialState.COMPLETE and t.value is not None]
    ranked = sorted(complete, key=lambda t: (-(t.value or 0.0), t.index))
    return [trial.index for trial in ranked[:CONTENDERS]]


def _trial_runs(study: StudyRecord | None) -> dict[int, Counts]:
    """What the search kept of its contenders; none where they are not all of the same images."""
    if study is None:
        return {}
    data = study.protocol.data
    kept: dict[int, Counts] = {}
    scenes = set()
    for index in contenders(study):
        path = paths.trial_folder(study.name, index) / artefacts.CONFUSIONS
        confusions, names = models.confusions(path, data.labels)
        segments = models.segments(path) if data.task == PANOPTIC else None
        counts = segments.segments if segments else None if data.task == PANOPTIC else confusions
        if counts is not None:
            kept[index] = counts
            scenes.add(names)
    return kept if len(scenes) == 1 else {}
