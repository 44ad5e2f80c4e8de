"""A page as one HTML file that needs nothing else: style, scripts, figures and images are inside."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from segbench.report.page import download
from segbench.report.page.blocks import Page
from segbench.report.page.glossary import Terms
from segbench.report.text.i18n import text

_HERE = Path(__file__).parent
# JSON stays JSON, but no text in it can end the script element it lies in.
_INSIDE_SCRIPT = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def render(page: Page, protocol: str) -> str:
    """The HTML, in the language spoken. Equal pages give equal bytes. `protocol` begins the names of its downloads."""
    from plotly.offline import get_plotlyjs

    # These are the project's and plotly's own files; all other text is escaped by the template.
    scripts = [Markup(content) for content in (get_plotlyjs(), read("page.js"), read("scenes.js"))]
    return template("page.html").render(
        page=page, text=text, style=Markup(read("style.css")), scripts=scripts, terms=Terms(), protocol=protocol
    )


def template(name: str) -> Template:
    """One of the HTML files beside this one, which escapes what it is given."""
    return _environment().get_template(name)


def read(name: str) -> str:
    """One of the files beside this one."""
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["embedded"] = _embedded
    made.globals["download"] = download
    return made


def _embedded(figure: object) -> Markup:
    """A plotly figure as JSON to stand inside a script element."""
    content = str(figure.to_json())  # type: ignore[attr-defined]
    return Markup(content.translate(_INSIDE_SCRIPT))
