"""The folders and databases. An error about a missing folder says how to create it.

SEGBENCH_STORAGE and SEGBENCH_REPORTS move `storage/` and `reports/`, which are in the current folder by default.
"""

from __future__ import annotations

import os
from pathlib import Path

from segbench.core import names
from segbench.core.errors import UserError

STUDY_DB_VARIABLE = "SEGBENCH_STUDY_DB"
DATASET_VARIABLE = "CITYSCAPES_DATASET"  # the ecosystem's name for the root that holds leftImg8bit/ and gtFine/


def storage() -> Path:
    """The root of everything that is stored. Made on first use; raises UserError where that is impossible."""
    return writable(_storage(), "SEGBENCH_STORAGE")


def _storage() -> Path:
    return Path(os.environ.get("SEGBENCH_STORAGE") or "storage")


def reports() -> Path:
    """The folder of the report pages. Created on first use; raises UserError if that fails."""
    return writable(Path(os.environ.get("SEGBENCH_REPORTS") or "reports"), "SEGBENCH_REPORTS")


def studies_database(given: str | None = None) -> str:
    """Optuna's database: the path or URL in --study-db or SEGBENCH_STUDY_DB, else a SQLite file in the storage."""
    return given or os.environ.get(STUDY_DB_VARIABLE) or str(storage() / "studies.db")


def tracking_database() -> Path:
    """MLflow's database."""
    return storage() / "mlflow.db"


def artifacts() -> Path:
    """The files that the two databases point to."""
    return storage() / "artifacts"


def cache() -> Path:
    """Packed datasets and drawn streets. Safe to delete: the commands recreate it."""
    return storage() / "cache"


def models() -> Path:
    """The promoted models of all studies. The folder need not exist, and one that is mounted read-only will do."""
    return _storage() / "models"


def models_folder(study: str) -> Path:
    """The promoted models of a study. The folder need not exist yet."""
    return models() / names.part(study, "study")


def model_folder(study: str, seed: int) -> Path:
    """A promoted model. The folder need not exist yet."""
    return models_folder(study) / f"seed{seed}"


def fractions_folder(study: str) -> Path:
    """The trainings of a study on fractions of the images. The folder need not exist yet."""
    return models_folder(study) / "fractions"


def trials_folder(study: str) -> Path:
    """The checkpoints and small files of a study's trials. The folder need not exist yet."""
    return storage() / "trials" / names.part(study, "study")


def trial_folder(study: str, trial: int) -> Path:
    """The checkpoint of a trial while it trains, and its small files afterwards; trial -1 is the baseline."""
    return trials_folder(study) / ("baseline" if trial < 0 else f"trial{trial}")


def writable(path: Path, source: str) -> Path:
    """The folder `path`, created if missing. Raises UserError, which names the `source` of the path, if it cannot be
    created or written to."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UserError(f"{path} is not a directory; move it, or point {source} to another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {path} ({error.strerror}); point {source} to a folder you can write to"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {path}; point {source} to a folder you can write to")
    return path


def protocol_folder(name_or_path: str) -> Path:
    """The folder of a protocol: a path to one, or a name under `studies/`. Raises UserError if there is none."""
    path = Path(name_or_path)
    if os.path.isfile(path / "protocol.toml"):  # unlike Path's, false for a path that is too long
        return path
    if not names.refusal(name_or_path):
        for root in _studies_roots():
            if os.path.isfile(root / path / "protocol.toml"):
                return root / path
    if os.path.isdir(path):
        raise UserError(
            f"{path} holds no protocol.toml. Copy a protocol: python -m segbench.study new NAME --from demo"
        )
    known = ", ".join(protocol_names())
    shown = repr(name_or_path[:200])  # on one line, whatever it holds
    raise UserError(f"no protocol {shown}: studies/ holds {known}; or give a folder with a protocol.toml")


def default_protocol(data: str | None) -> str:
    """The default protocol: the note's, cityscapes, if a dataset is given, else the embedded demo."""
    return "cityscapes" if data or os.environ.get(DATASET_VARIABLE) else "demo"


def protocol_names() -> list[str]:
    """The protocols under `studies/`."""
    return sorted({toml.parent.name for root in _studies_roots() for toml in root.glob("*/protocol.toml")})


def dataset(given: str | None) -> Path | None:
    """The dataset root in --data or CITYSCAPES_DATASET, if any. Raises UserError if it is not a directory."""
    text = given or os.environ.get(DATASET_VARIABLE)
    if not text:
        return None
    source = "--data" if given else DATASET_VARIABLE
    path = Path(text)
    if not os.path.isdir(path):
        raise UserError(
            f"{source}: {text} is not a directory; expected one that holds leftImg8bit/ and gtFine/, or their archives"
        )
    return path


def _studies_roots() -> list[Path]:
    """Where protocols are searched: in the current folder, then among those that ship with the program."""
    package = Path(__file__).parent.parent
    shipped = [root for root in (package.parent / "studies", package / "studies") if root.is_dir()]
    return [Path("studies"), *shipped]
