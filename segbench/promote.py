"""Train the best trial's configuration fully, save the kept and the last weights, and evaluate the kept ones.

    python -m segbench.promote deeplab
    python -m segbench.promote                       every architecture of the protocol, in turn
    torchrun --nproc-per-node 4 -m segbench.promote  each on four GPUs, to the same result
    python -m segbench.promote --fractions 0.1,0.3,1 also on fewer images: would more help?

Which epoch's weights are kept is the protocol's [final] keep; by default held-out train images choose it, and the final
images choose nothing. If the search ran with --keep-weights, all its trials are also scored on the final images. Every
epoch goes to MLflow; the model, its card, its masks and its per-image confusions go to storage/models.
"""

from __future__ import annotations

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.experiment import promotion
from segbench.experiment.settings import Settings
from segbench.ledger import models
from segbench.runtime import options, process_group, terminal


def main(argv: list[str] | None = None) -> int:
    """Promotes the best trial of each architecture."""
    parser = options.parser(__doc__)
    parser.add_argument(
        "--fractions",
        default="1",
        metavar="SHARES",
        help="nested shares of the train images to train on, such as 0.1,0.3,1; 1 is the promotion; default: 1",
    )
    arguments = options.parse(parser, argv)
    protocol, architectures = options.read(arguments)
    settings, shares = Settings(**options.shared(arguments)), _shares(arguments.fractions)
    if 1.0 in shares:
        promotion.run(protocol, architectures, settings)
    if len(shares) > 1 or 1.0 not in shares:
        from segbench.experiment import fractions

        fractions.run(protocol, architectures, settings, shares)
    if process_group.is_main():
        _table(protocol.name)
    terminal.next_command(
        "python -m segbench.report" + options.repeat_protocol(arguments) + options.repeat_study_db(arguments)
    )
    return 0


def _shares(text: str) -> list[float]:
    """The value of --fractions in ascending order. Raises UserError for anything else."""
    try:
        values = sorted(float(part) for part in text.split(","))
    except ValueError:
        values = []
    if not values or not all(0 < value <= 1 for value in values) or len(set(values)) < len(values):
        raise UserError(
            f"--fractions is '{text}'; expected distinct numbers above 0 and up to 1, such as --fractions 0.1,0.3,1"
        )
    return values


def _table(protocol: str) -> None:
    columns = ["model", "seed", "mIoU", "official", "pixel accuracy", "majority mIoU", "images/s", "s/epoch"]
    cards = [card for _, card in models.promoted(protocol)]
    qualities = ["PQ", "of things", "of stuff"] if any(card.best.panoptic for card in cards) else []
    columns[2:2] = qualities
    rows = []
    for card in cards:
        best, found = card.best, card.best.panoptic
        numbers = [found.pq, found.pq_things, found.pq_stuff] if found else [None] * len(qualities)
        numbers += [best.miou, best.miou_official, best.pixel_accuracy, card.majority_miou]
        costs = [f"{card.speed.inference_images_per_second:.1f}", f"{card.best.seconds.total:.1f}"]
        scores = ["" if number is None else f"{number:.4f}" for number in numbers]
        rows.append([card.title, str(card.seed), *scores, *costs])
    terminal.table(f"promoted models of {protocol}", columns, rows, right=set(range(1, len(columns))))
    terminal.say(f"weights, cards and masks: {paths.models()}; in MLflow: python -m segbench.runs")


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
