"""Which study the folders of the storage belong to, and removing one study's alone.

Two databases may hold studies of the same name over one storage, and anybody may put files there. So each study has an
id, which its folders, MLflow runs and model cards carry, and only what carries it is removed with the study.

<storage>/trials/<study>/study-id               the id
                        /trial<k>/, /baseline/
<storage>/models/<study>/study-id
                        /seed<k>/, and while it is made /seed<k>.partial/, /seed<k>.old/, /seed<k>.lock
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
_OURS = re.compile(r"trial\d+|baseline|seed\d+(\.partial|\.old)?")
_LOCK = re.compile(r"(seed\d+|registry|best)\.lock")


class Removal(NamedTuple):
    removed: list[Path]
    kept: list[Path]  # what does not carry the study's id


def claim(study: str, study_id: str, adopt: bool = False) -> None:
    """Marks the study's two folders, made if need be, as its own.

    Raises UserError where one belongs to another study of that name. So does one with trials or models but without a
    mark, unless `adopt`: a study that an earlier version made has such folders.
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
            file.write(study_id)  # FileExistsError: another process of the same study was first


@contextlib.contextmanager
def unused(study: str) -> Iterator[None]:
    """Keeps promotions of the study from starting inside. Raises UserError where one is under way."""
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
    """The folders that `remove` would remove from."""
    return [folder for folder in _folders(study) if folder.is_dir() and study_id and _owner(folder) == study_id]


def remove(study: str, study_id: str) -> Removal:
    """Removes the study's trials and models. What is not the study's stays, and so do the folders that hold it."""
    mine = owned(study, study_id)
    kept = [folder for folder in _folders(study) if folder not in mine and folder.is_dir() and any(folder.iterdir())]
    removed = []
    for folder in mine:
        for entry in _entries(folder):
            if _is_of_another(entry, study_id):
                continue
            if entry.is_symlink():
                entry.unlink()  # what it leads to is not ours
            else:
                shutil.rmtree(entry)
        for file in [path for path in folder.iterdir() if _LOCK.fullmatch(path.name)]:
            file.unlink()
        left = [path for path in folder.iterdir() if path.name != _MARKER]
        (folder / _MARKER).unlink()  # last: a removal that is cut short can be done again
        if left or folder.is_symlink():
            kept.append(folder)
        else:
            folder.rmdir()
            removed.append(folder)
    return Removal(removed, kept)


def _folders(study: str) -> list[Path]:
    """None where the name cannot be a folder's: a study that another program has put into the database."""
    return [] if names.refusal(study) else [paths.trials_folder(study), paths.models_folder(study)]


def _owner(folder: Path) -> str:
    try:
        return (folder / _MARKER).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name) and path.is_dir())


def _is_of_another(entry: Path, study_id: str) -> bool:
    """Whether this is a model whose card names another study."""
    try:
        return models.read_card(entry / artefacts.CARD).study_id != study_id
    except UserError:  # a trial, an unfinished promotion, or a damaged card in a folder that is marked as ours
        return False
