"""Make the page that says which architecture wins, at what cost, and how sure that is.

    python -m segbench.report
    python -m segbench.report --protocol demo --lang fr --open

It reads studies, MLflow runs and promoted models and changes none of them. It writes one HTML file that opens without
a network, and reports/index.html, which lists all reports made so far.
"""

from __future__ import annotations

import webbrowser
from pathlib import Path

from segbench.core import paths, protocol
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
    drawn = protocol.load(paths.protocol_folder(asked)).drawn

    from segbench.report.write import write

    path = write(asked, study_db=arguments.study_db, out=arguments.out, lang=arguments.lang)
    if drawn:
        terminal.banner(protocol.DRAWN)
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    if arguments.open:
        webbrowser.open(path.resolve().as_uri())
    terminal.next_command("python -m segbench.predict IMAGE --out DIR")
    return 0


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
