"""Records which study a folder of the storage belongs to, and removes one study's folders.

Two databases with the same storage may hold studies of the same name, and anybody may put files there. So each study
has an id, which its folders, MLflow runs and model cards carry, and only what carries it is removed with the study.

<storage>/trials/<study>/study-id               the id
                        /trial<k>/, /baseline/
<storage>/models/<study>/study-id
                        /seed<k>/, and during its promotion /seed<k>.partial/, /seed<k>.old/, /seed<k>.lock
                        /fractions/
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from segbench.core import artefacts, names, paths
from segbench.core.errors import UserError
from segbench.ledger import models

_MARKER = "study-id"
_OURS = re.compile(r"trial\d+|baseline|fractions|seed\d+(\.partial|\.old)?")
_LOCK = re.compile(r"(seed\d+|registry|best)\.lock")


class Removal(NamedTuple):
    removed: list[Path]
    kept: list[Path]  # folders with files that do not carry the study's id


def claim(study: str, study_id: str, adopt: bool = False) -> None:
    """Creates the study's two folders if missing, and marks them with its id.

    Raises UserError if one belongs to another study of that name. A folder with trials or models but without a mark
    counts as another study's, unless `adopt`: studies of an earlier version have such folders.
    """
    for folder in _folders(study):
        folder.mkdir(parents=True, exist_ok=True)
        owner = _owner(folder)
        if owner == study_id:
            continue
        if owner or (not adopt and _entries(folder)):
            raise UserError(
                f"{folder} belongs to another study named '{study}', such as one of another database; move the folder "
                "away, set SEGBENCH_STORAGE to another one, or copy the protocol under a new name"
            )
        with contextlib.suppress(FileExistsError), open(folder / _MARKER, "x", encoding="ascii") as file:
            file.write(study_id)  # FileExistsError: another process of the same study marked it first


@contextlib.contextmanager
def unused(study: str) -> Iterator[None]:
    """Keeps promotions of the study from starting while the block runs. Raises UserError if one is running."""
    with contextlib.ExitStack() as held:
        for folder in _folders(study):
            for path in sorted(folder.glob("seed*.lock")):
                try:
                    held.enter_context(FileLock(path, blocking=False))
                except Timeout:
                    raise UserError(
                        f"study '{study}', {path.stem}, is being promoted by another process; stop it first"
                    ) from None
        yield


def owned(study: str, study_id: str) -> list[Path]:
    """The study's existing folders that carry its id."""
    return [folder for folder in _folders(study) if folder.is_dir() and study_id and _owner(folder) == study_id]


def remove(study: str, study_id: str) -> Removal:
    """Removes the study's trials and models. Foreign files, and the folders that hold them, are kept."""
    mine = owned(study, study_id)
    kept = [folder for folder in _folders(study) if folder not in mine and folder.is_dir() and any(folder.iterdir())]
    removed = []
    for folder in mine:
        for entry in _entries(folder):
            if _is_of_another(entry, study_id):
                continue
            if entry.is_symlink():
                entry.unlink()  # its target may not be the study's
            else:
                shutil.rmtree(entry)
        for file in [path for path in folder.iterdir() if _LOCK.fullmatch(path.name)]:
            file.unlink()
        foreign = [path for path in folder.iterdir() if path.name != _MARKER]
        (folder / _MARKER).unlink()  # last, so that an interrupted removal can be rerun
        if foreign or folder.is_symlink():
            kept.append(folder)
        else:
            folder.rmdir()
            removed.append(folder)
    return Removal(removed, kept)


def _folders(study: str) -> list[Path]:
    """The study's folders for trials and models; empty if the study's name, given by another program, cannot be a
    folder's."""
    return [] if names.refusal(study) else [paths.trials_folder(study), paths.models_folder(study)]


def _owner(folder: Path) -> str:
    try:
        return (folder / _MARKER).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name) and path.is_dir())


def _is_of_another(entry: Path, study_id: str) -> bool:
    """Whether this is a model whose card carries another study's id."""
    try:
        return models.read_card(entry / artefacts.CARD).study_id != study_id
    except UserError:  # a trial, an unfinished promotion, or a damaged card in a folder that is marked as ours
        return False
