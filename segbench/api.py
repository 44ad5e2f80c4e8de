"""segbench from Python: the same as the commands, in the same storage, with the same errors.

from segbench import api

study  = api.search("deeplab", protocol="demo")         # → StudyRecord
models = api.promote("demo")                            # → list of Model
page   = api.report("demo", lang="fr")                  # → Path
masks  = api.load("demo-deeplab").predict(photographs)  # (N, H, W, 3) uint8 → (N, H, W) uint8
table  = api.trials("demo")                             # → pandas DataFrame; likewise api.epochs

Nothing is printed unless `verbose=True`, which prints what the commands print; a notebook shows progress. Errors raise
`UserError`, and problems that do not end the work are Python warnings. After Ctrl-C, or when the notebook's kernel is
interrupted, the epoch ends; called again, search and promote resume.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from segbench import predict
from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import ModelCard
from segbench.core.study_record import StudyRecord
from segbench.experiment.settings import SearchSettings, Settings
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from segbench.engine.predictor import Predictor
    from segbench.ledger.export import Row

__all__ = ["Model", "StudyRecord", "UserError", "epochs", "load", "promote", "report", "search", "trials"]


class Where(TypedDict, total=False):
    """Keyword arguments of `search` and `promote`: the data, the studies' database and the device."""

    data: str | Path | None  # a dataset's root; default: CITYSCAPES_DATASET, unless the protocol draws streets
    study_db: str | None  # URL or file of the studies' database; default: the one in storage/
    device: str  # auto, cpu, cuda, cuda:1, mps; default: auto
    precision: str  # auto, bf16, fp32; default: auto
    compiled: bool  # train through torch.compile (CUDA); default: False


class How(Where, total=False):
    """Keyword arguments of `search` alone, which override the protocol."""

    trials: int | None  # finished trials in total
    hours: float | None  # device-hours per architecture, instead of trials
    weights: str | None  # pretrained, random, a state-dict file or a save_pretrained folder
    sampler: str | None  # one of protocol.SAMPLERS
    pruner: str | None  # one of protocol.PRUNERS
    baseline: bool  # also run the [baseline] values, beside the plan
    keep_weights: bool  # keep every trial's best weights, so that `promote` scores them on the final images


@dataclass(frozen=True)
class Model:
    """A promoted model. Its weights are read when it first predicts."""

    folder: Path  # with card.json, best.safetensors, masks/ and the other files of `promote`
    card: ModelCard  # its origin, scores and speed
    device: str = "auto"  # for predictions: auto, cpu, cuda, cuda:1, mps

    def predict(self, photographs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """photographs: (N, H, W, 3) uint8 RGB of any height and width. Returns (N, H, W) uint8 classes, 0..C-1, whose
        names are `card.categories`.

        Raises UserError for another array, for a missing device and for damaged weights.
        """
        with terminal.as_library(verbose=False):
            return self._predictor.predict(photographs)

    @functools.cached_property
    def _predictor(self) -> Predictor:
        from segbench.engine.predictor import Predictor

        return Predictor(self.card, self.folder / "best.safetensors", self.device)


@overload
def search(
    architectures: str, *, protocol: str | Path | None = None, verbose: bool = False, **settings: Unpack[How]
) -> StudyRecord: ...


@overload
def search(
    architectures: list[str] | None = None,
    *,
    protocol: str | Path | None = None,
    verbose: bool = False,
    **settings: Unpack[How],
) -> list[StudyRecord]: ...


def search(
    architectures: str | list[str] | None = None,
    *,
    protocol: str | Path | None = None,
    verbose: bool = False,
    **settings: Unpack[How],
) -> StudyRecord | list[StudyRecord]:
    """Searches until the protocol's budget is spent, like `python -m segbench.search` in one process.

    `architectures`: a name returns one study; a list of names, or None for all of the protocol, returns a list.
    `protocol`: a name under studies/, or a folder; default: cityscapes if CITYSCAPES_DATASET or `data` is given, else
    demo. `settings`: see `How` and `Where`. Raises UserError.
    """
    from segbench.experiment import searching

    names = [architectures] if isinstance(architectures, str) else list(architectures or ())
    with terminal.as_library(verbose):
        name, loaded, chosen = _chosen(protocol, names, settings)
        records = searching.run(loaded, chosen, SearchSettings(protocol=name, **_paths(settings)))
    return records[0] if isinstance(architectures, str) else records


def promote(
    protocol: str | Path | None = None,
    architectures: str | list[str] | None = None,
    *,
    verbose: bool = False,
    **settings: Unpack[Where],
) -> list[Model]:
    """Trains each study's best trial fully, like `python -m segbench.promote`, and skips finished promotions. Returns
    all models, one per architecture and seed of the protocol.

    `protocol` and `architectures`: as in `search`; `settings`: see `Where`. Raises UserError.
    """
    from segbench.experiment import promotion

    names = [architectures] if isinstance(architectures, str) else list(architectures or ())
    with terminal.as_library(verbose):
        name, loaded, chosen = _chosen(protocol, names, settings)
        promoted = promotion.run(loaded, chosen, Settings(protocol=name, **_paths(settings)))
    return [Model(model.folder, model.card, settings.get("device", "auto")) for model in promoted]


def report(
    protocol: str | Path | None = None, *, lang: str = "en", out: str | Path | None = None, study_db: str | None = None
) -> Path:
    """Writes the page that compares the protocol's architectures, and returns its file: `out`, by default
    reports/<protocol>.html, or .fr.html.

    `lang`: en or fr. Raises UserError if there is nothing to report.
    """
    from segbench.report.write import write

    name = protocol or paths.default_protocol(None)
    return write(name, study_db=study_db, out=None if out is None else Path(out), lang=lang)


def load(name: str | Path, *, device: str = "auto") -> Model:
    """The promoted model of a study, such as "demo-deeplab", or in a folder. Of several seeds, the one with the highest
    value, mIoU or PQ, like the registry's champion.

    `device`: for predictions. Raises UserError if there is no such model, or its card cannot be read.
    """
    best = max(predict.choose([str(name)]), key=lambda model: model.card.best.value)
    return Model(best.folder, best.card, device)


def trials(name: str | Path | None = None, *, study_db: str | None = None) -> pd.DataFrame:
    """One row per trial of a study, of all studies of a protocol, or, without `name`, of all studies.

    The columns are those of `python -m segbench.study export`. Raises UserError if there is no such study.
    """
    from segbench.ledger import export

    return _table(export.trial_rows, name, study_db)


def epochs(name: str | Path | None = None, *, study_db: str | None = None) -> pd.DataFrame:
    """One row per epoch of every trial; otherwise like `trials`."""
    from segbench.ledger import export

    return _table(export.epoch_rows, name, study_db)


def _table(
    rows: Callable[[Iterable[StudyRecord]], list[Row]], name: str | Path | None, study_db: str | None
) -> pd.DataFrame:
    import pandas as pd

    studies = _studies(None if name is None else str(name), study_db)
    return pd.DataFrame(rows(studies))


def _studies(name: str | None, study_db: str | None) -> list[StudyRecord]:
    """The study of this name, or the studies of the protocol with this name or folder."""
    from segbench.ledger import database, studies

    where = paths.studies_database(study_db)
    records = []
    if database.is_there(where):
        storage = database.connect(where)
        records = [studies.record(storage, each) for each in studies.names(storage)]
    if name is None:
        return records
    protocol = Path(name).resolve().name
    matching = [each for each in records if each.name == name]
    matching = matching or [each for each in records if each.protocol.name == protocol]
    if not matching:
        known = ", ".join(each.name for each in records) or "none"
        raise UserError(f"no study or protocol '{name}' was searched; studies: {known}. Search first: api.search")
    return matching


def _chosen(
    protocol: str | Path | None, architectures: Sequence[str], settings: Where
) -> tuple[str, Protocol, list[Architecture]]:
    """The protocol's name or folder as text, the protocol, and its chosen architectures."""
    data = settings.get("data")
    name = str(protocol or paths.default_protocol(str(data) if data else None))
    return name, *options.chosen(paths.protocol_folder(name), architectures)


def _paths(settings: How | Where) -> dict[str, Any]:
    """The fields of Settings."""
    data = settings.get("data")
    return {**settings, "data": Path(data) if data else None}
