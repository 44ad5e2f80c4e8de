"""The published weights of each architecture: their licences, and whether they are on this machine.

    python -m segbench.weights                      list them
    python -m segbench.weights segformer            those of one architecture
    python -m segbench.weights segformer --fetch    download what is missing
    python -m segbench.weights --markdown           the table of architectures in README.md

`weights = "pretrained"` in an architecture's TOML downloads them, too; this command downloads them in advance, for a
machine without a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segbench.core import files
from segbench.core.errors import UserError
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    from segbench.architectures.parts.published import Checkpoint

_DIGITS = 12  # of a digest, as shown


def main(argv: list[str] | None = None) -> int:
    """Lists the published weights, and fetches them where asked."""
    parser = terminal.parser(__doc__)
    parser.add_argument("architecture", nargs="?", metavar="ARCHITECTURE", help="default: all")
    parser.add_argument("--fetch", action="store_true", help="download what is missing")
    options.add_accept_licence(parser)
    parser.add_argument("--markdown", action="store_true", help="print all architectures as README.md's table")
    arguments = options.parse(parser, argv)
    if arguments.markdown:
        print(markdown())
        return 0

    from segbench import architectures
    from segbench.architectures.parts import published

    names = architectures.names()
    if arguments.architecture not in (None, *names):
        raise UserError(f"no architecture '{arguments.architecture}'; architectures: {', '.join(names)}")
    chosen = [arguments.architecture] if arguments.architecture else names
    rows = [(name, size, own) for name in chosen for size, own in architectures.checkpoints(name).items()]
    if arguments.fetch:
        for own in {own.source: own for _, _, own in rows if not published.cached(own)}.values():
            terminal.say(f"{own.name}: licence {own.terms}, {own.megabytes:g} MB")
            terminal.say(str(published.fetch(own)))
    terminal.table(
        "published weights",
        ["architecture", "size", "weights", "licence", "MB", "sha256"],
        [_row(*row) for row in rows],
        right={4},
    )
    return 0


def markdown() -> str:
    """All architectures as a table in Markdown, from their code: what stands between the marks in README.md."""
    from segbench import architectures

    lines = ["| architecture | | sizes with published weights | licence of the weights |", "|---|---|---|---|"]
    for name in architectures.names():
        sizes = architectures.checkpoints(name)
        licences = dict.fromkeys(checkpoint.terms for checkpoint in sizes.values())
        cells = (f"`{name}`", architectures.summary(name), ", ".join(sizes) or "none", "; ".join(licences) or "—")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(name: str, size: str, checkpoint: Checkpoint) -> list[str]:
    from segbench.architectures.parts import published

    path = published.cached(checkpoint)
    here = files.sha256(path)[:_DIGITS] if path else "not here"
    return [name, size, checkpoint.name, checkpoint.terms, f"{checkpoint.megabytes:g}", here]


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
