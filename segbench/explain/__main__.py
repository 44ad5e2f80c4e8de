"""Measure why the promoted models decide as they do: what they lean on, and what they withstand.

    python -m segbench.explain deeplab
    python -m segbench.explain --protocol demo               every promoted architecture, all its seeds
    python -m segbench.explain --protocol demo --corruptions also under noise, motion blur, fog, night and JPEG

It changes what a model sees and trains nothing: context is hidden, tiles are shuffled, categories are removed, tiles
are occluded (this for the first seed alone). Values are stored beside each model's card, and the report shows them.
Rerun the command to resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.ledger import models
from segbench.ledger.models import Promoted
from segbench.runtime import options, terminal

_IMAGES = 50
_MOST_PLAYERS = 12  # 4,096 forward passes an image


def main(argv: list[str] | None = None) -> int:
    """Explains promoted models."""
    parser = terminal.parser(__doc__)
    parser.add_argument("architecture", nargs="*", help="which promoted architectures of the protocol; default: all")
    options.add_protocol(parser)
    parser.add_argument("--images", type=int, default=_IMAGES, metavar="N", help=f"final images; default: {_IMAGES}")
    parser.add_argument(
        "--exact", action="store_true", help="also remove every combination of categories: exact Shapley values"
    )
    parser.add_argument("--corruptions", action="store_true", help="also measure five corruptions, at three severities")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: auto")
    parser.set_defaults(resumes=True, data=None)
    arguments = options.parse(parser, argv)
    if arguments.images < 1:
        raise UserError(f"--images must be at least 1, not {arguments.images}")
    protocol = options.repeat_protocol(arguments)
    chosen = _chosen(options.folder_of(arguments), arguments.architecture, f"python -m segbench.promote{protocol}")
    if arguments.exact:
        _require_few(chosen)

    from segbench.explain import running
    from segbench.explain.measures import Extras
    from segbench.runtime import compute

    tasks, pictured = [], set[str]()
    for model in chosen:
        extras = Extras(arguments.exact, arguments.corruptions, maps=model.card.architecture not in pictured)
        tasks.append(running.task(model, arguments.images, extras, f"python -m segbench.prepare{protocol}"))
        pictured.add(model.card.architecture)
    running.run(tasks, compute.choose(arguments.device, "fp32"))
    terminal.next_command("python -m segbench.report" + protocol)
    return 0


def _chosen(folder: Path, names: Sequence[str], command: str) -> list[Promoted]:
    """Every seed of these architectures, by default of all that are promoted. Raises UserError, with the `command` that
    promotes, if one has none."""
    protocol = folder.resolve().name
    listing = models.listing(protocol)
    for broken in listing.unreadable:
        terminal.warn(f"{broken} is skipped: its card.json cannot be read; promote it again")
    if not listing.promoted:
        raise UserError(f"no promoted model of '{protocol}' in {paths.models()}; promote first: {command}")
    known = {model.card.architecture for model in listing.promoted}
    for name in names:
        if name not in known:
            raise UserError(f"no promoted model of '{name}'; there are: {', '.join(sorted(known))}. Promote: {command}")
    return [model for model in listing.promoted if not names or model.card.architecture in names]


def _require_few(chosen: Sequence[Promoted]) -> None:
    for model in chosen:
        players = len(model.card.categories) - 1
        if players > _MOST_PLAYERS:
            raise UserError(
                f"--exact needs 2^{players} forward passes an image for the {players} classes of {model.card.study}; "
                f"it is for at most {_MOST_PLAYERS} classes, so drop it"
            )


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
