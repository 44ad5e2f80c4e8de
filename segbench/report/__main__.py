"""Make the page that says which architecture wins, at what cost, and how sure that is.

    python -m segbench.report
    python -m segbench.report --protocol demo --lang fr --open

It reads the ledgers only (studies, runs, promoted models) and writes one HTML file that opens without a network, and
reports/index.html, which lists all reports made so far.
"""

from __future__ import annotations

import webbrowser
from pathlib import Path

from segbench.core import files, paths, protocol
from segbench.core.errors import UserError
from segbench.runtime import options, terminal


def main(argv: list[str] | None = None) -> int:
    """The command. Raises UserError where there is nothing to report."""
    parser = terminal.parser(__doc__)
    options.add_protocol(parser)
    options.add_study_db(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: reports/<protocol>.html, or .fr.html")
    parser.add_argument("--lang", choices=("en", "fr"), default="en", help="the page's language (default: en)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    arguments = options.parse(parser, argv)
    asked = arguments.protocol or paths.default_protocol(None)
    folder = paths.protocol_folder(asked)

    from segbench.report import assemble
    from segbench.report.numbers import comparison
    from segbench.report.page import index, render
    from segbench.report.text import i18n

    found = comparison.read(folder, asked, arguments.study_db)
    ending = "html" if arguments.lang == "en" else f"{arguments.lang}.html"
    path = arguments.out or paths.reports() / f"{found.protocol.name}.{ending}"
    with i18n.speaking(arguments.lang):
        _write(path, render.render(assemble.page(found), found.protocol.name))
        if arguments.out is None:
            _write(path.with_name("index.html"), index.render(path.parent))
    if found.protocol.drawn:
        terminal.banner(protocol.DRAWN)
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    if arguments.open:
        webbrowser.open(path.resolve().as_uri())
    terminal.next_command("python -m segbench.predict IMAGE --out DIR")
    return 0


def _write(path: Path, content: str) -> None:
    """Whole or not at all. Raises UserError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replaced(path) as partial:
            partial.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another file with --out") from error


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
