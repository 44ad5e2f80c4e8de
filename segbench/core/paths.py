"""Where things lie. What is missing says how to make it.

SEGBENCH_STORAGE and SEGBENCH_REPORTS move `storage/` and `reports/`, which else lie in the current folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from segbench.core import names
from segbench.core.errors import UserError

STUDY_DB_VARIABLE = "SEGBENCH_STUDY_DB"
DATASET_VARIABLE = "CITYSCAPES_DATASET"  # the ecosystem's name for the root that holds leftImg8bit/ and gtFine/


def storage() -> Path:
    """What is kept. Made on first use; raises UserError where it cannot be."""
    return writable(Path(os.environ.get("SEGBENCH_STORAGE") or "storage"), "SEGBENCH_STORAGE")


def reports() -> Path:
    """What is read. Made on first use; raises UserError where it cannot be."""
    return writable(Path(os.environ.get("SEGBENCH_REPORTS") or "reports"), "SEGBENCH_REPORTS")


def studies_database(given: str | None = None) -> str:
    """Optuna's: the path or URL that --study-db or SEGBENCH_STUDY_DB gives, else a SQLite file."""
    return given or os.environ.get(STUDY_DB_VARIABLE) or str(storage() / "studies.db")


def tracking_database() -> Path:
    """MLflow's."""
    return storage() / "mlflow.db"


def artifacts() -> Path:
    """What the two databases point to."""
    return storage() / "artifacts"


def cache() -> Path:
    """What can be made again: packed datasets and drawn streets."""
    return storage() / "cache"


def models() -> Path:
    """The promoted models of all studies."""
    return storage() / "models"


def models_folder(study: str) -> Path:
    """Where the promoted models of a study lie, whether or not they are there yet."""
    return models() / names.part(study, "study")


def model_folder(study: str, seed: int) -> Path:
    """Where a promoted model lies, whether or not it is there yet."""
    return models_folder(study) / f"seed{seed}"


def trials_folder(study: str) -> Path:
    """What the trials of a study go on from, whether or not it is there yet."""
    return storage() / "trials" / names.part(study, "study")


def trial_folder(study: str, trial: int) -> Path:
    """Where a trial keeps its checkpoint while it trains, and its small files after; trial -1 is the baseline."""
    return trials_folder(study) / ("baseline" if trial < 0 else f"trial{trial}")


def writable(path: Path, source: str) -> Path:
    """The folder `path`, made if need be. Raises UserError, naming the `source` of the path, where it cannot be."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, but a folder is needed there; move it, or point {source} to another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {path} ({error.strerror}); point {source} to a folder you can write to"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {path}; point {source} to a folder you can write to")
    return path


def protocol_folder(name_or_path: str) -> Path:
    """The folder of a protocol: a path to one, or a name under `studies/`. Raises UserError where there is none."""
    path = Path(name_or_path)
    if os.path.isfile(path / "protocol.toml"):  # unlike Path's, false for a path that is too long
        return path
    if not names.refusal(name_or_path):
        for root in _studies_roots():
            if os.path.isfile(root / path / "protocol.toml"):
                return root / path
    if os.path.isdir(path):
        raise UserError(f"{path} holds no protocol.toml. Copy one: cp {_studies_roots()[-1]}/demo/*.toml {path}/")
    known = ", ".join(protocol_names())
    raise UserError(f"no protocol '{name_or_path}': studies/ holds {known}; or give a folder with a protocol.toml")


def default_protocol(data: str | None) -> str:
    """The protocol that is meant where none is named: the note's where a dataset is named, else the embedded demo."""
    return "cityscapes" if data or os.environ.get(DATASET_VARIABLE) else "demo"


def protocol_names() -> list[str]:
    """The protocols under `studies/`."""
    return sorted({toml.parent.name for root in _studies_roots() for toml in root.glob("*/protocol.toml")})


def dataset(given: str | None) -> Path | None:
    """The dataset root that --data or CITYSCAPES_DATASET names, if any. Raises UserError where it is no folder."""
    text = given or os.environ.get(DATASET_VARIABLE)
    if not text:
        return None
    source = "--data" if given else DATASET_VARIABLE
    path = Path(text)
    if not path.is_dir():
        raise UserError(f"{source} names {text}, which is no folder; it must hold leftImg8bit/ and gtFine/")
    return path


def _studies_roots() -> list[Path]:
    """Where protocols are looked for: beside the user, then those that came with the program."""
    package = Path(__file__).parent.parent
    shipped = [root for root in (package.parent / "studies", package / "studies") if root.is_dir()]
    return [Path("studies"), *shipped]
