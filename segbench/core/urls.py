"""Database URLs: parsed from user input, and shown without passwords."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from segbench.core.errors import UserError

_EXPECTED = "a SQLite file, or postgresql+psycopg://USER@HOST/DATABASE"

# "postgresql:/u:secret@h/db": as a file name, its password would be printed and written to disk.
_MEANT_AS_URL = re.compile(r"^[A-Za-z][\w+.-]*:|:[^/]*@")


def read(where: str | Path) -> URL:
    """The URL of a path or URL.

    Raises UserError for an invalid one, without repeating it: a password may be anywhere in it.
    """
    given = str(where)
    is_file = Path(given).is_absolute() and Path(given).parent.is_dir()
    if is_file or not ("://" in given or _MEANT_AS_URL.search(given)):
        return URL.create("sqlite", database=str(Path(given).resolve()))
    try:
        url = make_url(given)
        kind, driver = url.get_backend_name(), url.drivername
    except (ArgumentError, ValueError):
        raise UserError(
            f"the URL of the studies' database cannot be read; expected {_EXPECTED}; in a password, write :, /, @ and "
            "% as %3A, %2F, %40 and %25 (for a file with a colon in its name, write ./NAME)"
        ) from None
    if kind == "sqlite":
        if driver != "sqlite" or not url.database or url.database == ":memory:" or url.query:
            raise UserError("the studies' database must be a file, as in sqlite:///storage/studies.db")
        return url.set(database=str(Path(url.database).resolve()))
    if kind not in ("postgresql", "postgres"):
        raise UserError(f"studies cannot be kept in a database of kind '{kind}'; expected {_EXPECTED}")
    if not url.database:
        raise UserError(f"{shown(url)} names no database; expected {_EXPECTED}")
    return url if "+" in driver else url.set(drivername="postgresql+psycopg")


def shown(where: URL | str | Path) -> str:
    """A database as it may be printed: the file's path, or the URL without its password."""
    url = where if isinstance(where, URL) else read(where)
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    secret = {key: "***" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True).replace(quote("***"), "***")


def reason(error: BaseException, url: URL) -> str:
    """The driver's message, on one line, without the password."""
    while error.__cause__ and not getattr(error, "orig", None):
        error = error.__cause__
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    for secret in _secrets(url):
        words = words.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return words


def _secrets(url: URL) -> list[str]:
    in_query = (value for key in url.query if "password" in key.lower() for value in url.normalized_query[key])
    return [secret for secret in (url.password, *in_query) if secret]
