"""A page as one HTML file that needs nothing else: style, scripts, figures and images are inside."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from segbench.report.blocks import Page
from segbench.report.texts import text

_HERE = Path(__file__).parent
# JSON stays JSON, but no text in it can end the script element it lies in.
_INSIDE_SCRIPT = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def render(page: Page) -> str:
    """The HTML. Equal pages give equal bytes."""
    from plotly.offline import get_plotlyjs

    template = _environment().get_template("page.html")
    # These three are the project's and plotly's own files; all other text is escaped by the template.
    return template.render(
        page=page,
        text=text,
        plotly=Markup(get_plotlyjs()),
        style=Markup(_read("style.css")),
        script=Markup(_read("page.js")),
    )


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
    made.filters["typed"] = _typed
    return made


def _typed(words: str) -> Markup:
    """Text in which `…` becomes a code element."""
    parts = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(words.split("`"))
    ]
    return Markup("").join(parts)


def _embedded(figure: object) -> Markup:
    """A plotly figure as JSON to stand inside a script element."""
    content = str(figure.to_json())  # type: ignore[attr-defined]
    return Markup(content.translate(_INSIDE_SCRIPT))


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
