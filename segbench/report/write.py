"""One report as one HTML file: what `python -m segbench.report` and the Python API call. It prints nothing."""

from __future__ import annotations

from pathlib import Path

from segbench.core import files, paths
from segbench.core.errors import UserError


def write(protocol: str | Path, *, study_db: str | None = None, out: Path | None = None, lang: str = "en") -> Path:
    """Writes the report of a protocol (a name under studies/, or a folder) and returns the file.

    `study_db`: as --study-db; `out`: the file, default reports/<protocol>.html (.fr.html in French), in which case
    reports/index.html lists it; `lang`: one of i18n.LANGUAGES. Files are written whole or not at all.
    Raises UserError where there is nothing to report, for broken databases, and where the file cannot be written.
    """
    from segbench.report import assemble
    from segbench.report.numbers import comparison
    from segbench.report.page import index, render
    from segbench.report.text import i18n

    if lang not in i18n.LANGUAGES:
        raise UserError(f"no language '{lang}': the report speaks {', '.join(i18n.LANGUAGES)}")
    if out is not None and not out.name:
        raise UserError("--out names no file: give one, such as --out report.html")
    asked = str(protocol)
    compared = comparison.read(paths.protocol_folder(asked), asked, study_db)
    ending = "html" if lang == "en" else f"{lang}.html"
    path = out or paths.reports() / f"{compared.protocol.name}.{ending}"
    with i18n.speaking(lang), i18n.measuring(compared.protocol.data.value_name):
        whole(path, render.render(assemble.page(compared), compared.protocol.name))
        if out is None:
            whole(path.with_name("index.html"), index.render(path.parent))
    return path


def whole(path: Path, html: str) -> None:
    """Writes a page whole or not at all. Raises UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replaced(path) as partial:
            partial.write_bytes(html.encode("utf-8", "replace"))  # a path it names may hold bytes that are no UTF-8
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another file with --out") from error
