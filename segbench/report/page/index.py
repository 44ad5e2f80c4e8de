"""The page that lists the reports made so far. It reads them from the reports themselves, so it cannot disagree."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from segbench.report.page.render import read, template
from segbench.report.text.i18n import LANGUAGES, MISSING, language, text

_HEAD = 16_000  # characters of a page that hold what it says of itself; those after are style


class Made(NamedTuple):
    """One report, as its own head describes it."""

    file: str
    title: str
    language: str
    newest: str  # when the newest row in its databases was written, UTC
    verdict: str

    @property
    def link(self) -> str:
        return quote(self.file)


def render(folder: Path) -> str:
    """The HTML, in the language spoken. Equal reports give equal bytes."""
    return template("index.html").render(
        made=list(reports(folder)), text=text, language=language(), style=Markup(read("style.css"))
    )


def reports(folder: Path) -> list[Made]:
    """The reports in a folder, newest first; other HTML is passed over."""
    by_file = sorted(_described(folder), key=lambda made: made.file)
    return sorted(by_file, key=lambda made: made.newest.removeprefix(MISSING), reverse=True)


def _described(folder: Path) -> Iterator[Made]:
    for path in folder.glob("*.html"):
        try:
            with path.open(encoding="utf-8") as file:
                head = _Head(file.read(_HEAD))
        except (OSError, UnicodeDecodeError):
            continue
        if {"title", "newest", "verdict"} <= head.described.keys() and head.language in LANGUAGES:
            yield Made(
                path.name, head.described["title"], head.language, head.described["newest"], head.described["verdict"]
            )


class _Head(HTMLParser):
    """Collects the meta elements whose names begin with segbench-."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.language = ""
        self.described: dict[str, str] = {}
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = known.get("lang", "")
        if tag == "meta" and known.get("name", "").startswith("segbench-"):
            self.described[known["name"].removeprefix("segbench-")] = known.get("content", "")
