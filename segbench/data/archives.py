"""Datasets in archives: the .zip files in a dataset's root are read as if they had been unpacked there.

Nothing is unpacked: a picture is read from its archive when it is decoded, so the download is all the disk it needs.
A folder that is there is read itself; archives hold what is not.
"""

from __future__ import annotations

import functools
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from segbench.core.errors import UserError

_ENCRYPTED = 0x1  # a bit of a member's flags
_LARGEST = 1 << 29  # bytes of a member: more than any picture that is read, see pictures.LARGEST_MEGAPIXELS


class Damaged(Exception):
    """A member cannot be read; the message is a few words on one line."""


@dataclass(frozen=True)
class Member:
    """A file in an archive, with what of `Path` finding and reading a dataset needs."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def __reduce__(self) -> tuple[Callable[[str, str], Member], tuple[str, str]]:
        """Another process opens the archive itself."""
        return _member, (str(self.archive.filename), self.info.filename)

    @property
    def path(self) -> PurePosixPath:
        """Where it would lie once unpacked, relative to the dataset's root."""
        return PurePosixPath(self.info.filename)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> PurePosixPath:
        return self.path.parent

    def relative_to(self, root: Path) -> PurePath:
        """For people: the archive's name, and the path in it."""
        return Path(str(self.archive.filename)).relative_to(root) / self.path

    def read(self) -> bytes:
        """Its content, checked against the archive's checksum. Raises Damaged."""
        if self.info.file_size > _LARGEST:
            raise Damaged(f"it has {self.info.file_size:,} bytes, more than any picture")
        try:
            return self.archive.read(self.info)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise Damaged(f"the archive is damaged there ({what}); download it again") from error


File = Path | Member


def stamp(file: File) -> list[int]:
    """Two numbers that change with the content: the size, and the time of change or, in an archive, the checksum."""
    if isinstance(file, Member):
        return [file.info.file_size, file.info.CRC]
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def files(root: Path, folder: str) -> Iterator[tuple[str, File]]:
    """Every file below root/folder with its path relative to `root`: from disk if that is a folder, else from the
    archives in `root`, in no order. Raises UserError for archives that cannot be used."""
    base = root / folder
    if not base.is_dir():
        for member in members(root, folder):
            yield str(member.path), member
        return
    for place, _, names in os.walk(base, followlinks=True):
        for name in names:
            path = Path(place, name)
            yield path.relative_to(root).as_posix(), path


def members(root: Path, folder: str) -> list[Member]:
    """Every file below `folder` in the archives in `root`, in order of path; none if no archive has it.

    Raises UserError for an archive that is damaged, encrypted there, or unsafe, and for a file that is there twice.
    """
    prefix = "" if folder in ("", ".") else f"{folder.rstrip('/')}/"
    found: dict[str, Member] = {}
    for path in listed(root):
        archive = _opened(path, tuple(stamp(path)))
        for info in archive.infolist():
            if not info.filename.startswith(prefix) or info.is_dir():
                continue
            if info.flag_bits & _ENCRYPTED:
                raise UserError(f"{path} is encrypted ({info.filename}); unpack it with its password, and remove it")
            if other := found.get(info.filename):
                both = dict.fromkeys((str(other.archive.filename), str(path)))
                raise UserError(f"{info.filename} is twice in {' and '.join(both)}; keep one archive of it")
            found[info.filename] = Member(archive, info)
    return [found[name] for name in sorted(found)]


def listed(root: Path) -> list[Path]:
    """The archives in a dataset's root."""
    return sorted(path for path in root.glob("*.zip") if path.is_file())


def searched(root: Path) -> str:
    """What an error adds where neither a folder nor an archive holds what is missing: ", nor in a.zip, b.zip"."""
    names = ", ".join(path.name for path in listed(root))
    return f", nor in {names}" if names else ""


def _member(archive: str, name: str) -> Member:
    path = Path(archive)
    opened = _opened(path, tuple(stamp(path)))
    return Member(opened, opened.getinfo(name))


@functools.lru_cache(maxsize=16)
def _opened(path: Path, unchanged: tuple[int, ...]) -> zipfile.ZipFile:
    """The archive, whose list of members is read once. `unchanged`: its stamp, so that another file is opened anew.

    It is given an open file, which it never closes: several threads read from it, and its count of who does is not
    exact then.
    """
    try:
        archive = zipfile.ZipFile(open(path, "rb"))  # noqa: SIM115 (as long as its members are in use)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} cannot be read as a .zip archive ({what}), such as after an interrupted download; download it "
            "again, or move it elsewhere if it is not part of the dataset"
        ) from error
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0]:
            raise UserError(
                f"{path} holds a file that would be written outside of its folder, {info.filename[:100]!r}; such an "
                "archive is not the dataset's own: move it elsewhere"
            )
    return archive
