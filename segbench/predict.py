"""Segment photographs with promoted models.

    python -m segbench.predict street.jpg --out predictions
    python -m segbench.predict *.png --out predictions --model demo-deeplab

Writes for every image and model a mask in the legend's colours, an overlay, and a label-id PNG that the official
Cityscapes evaluator reads, all at the image's own size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.ledger import models
from segbench.ledger.models import Promoted
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def main(argv: list[str] | None = None) -> int:
    """Segments photographs."""
    parser = terminal.parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG, JPEG, or whatever Pillow reads")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument(
        "--model",
        action="append",
        metavar="STUDY|DIR",
        help="a promoted model by its study's name, such as demo-deeplab, or its folder; repeatable; default: all",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: auto")
    arguments = options.parse(parser, argv)
    chosen = _models(arguments.model)
    stems = [path.stem for path in arguments.images]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UserError(f"two images are named '{twice}', so their masks would overwrite each other; run them apart")

    from segbench.data import pictures
    from segbench.runtime import compute

    for path in arguments.images:  # all are read before anything is written
        pictures.read(path)
    device = compute.choose(arguments.device)
    out = paths.writable(arguments.out, "--out")

    from segbench.engine import inference

    with terminal.progress("segmenting", len(chosen) * len(arguments.images)) as advance:
        for one in chosen:
            model = inference.load(one.card, one.weights, device)
            for path in arguments.images:
                image = pictures.read(path)
                _write(image, inference.segment(model, image, one.card.size, device), out, path.stem, one)
                advance(path.name)
    terminal.say(f"{len(chosen)} models x {len(arguments.images)} images: masks, overlays and label ids in {out}")
    terminal.next_command("python -m segbench.runs")
    return 0


def _models(names: list[str] | None) -> list[Promoted]:
    everything = models.promoted()
    if names is None:
        if not everything:
            raise UserError(f"no promoted model in {paths.storage()}: run python -m segbench.promote first")
        return everything
    chosen: list[Promoted] = []
    for name in names:
        card = Path(name) / artefacts.CARD
        found = [Promoted(card.parent, models.read_card(card))] if card.is_file() else []
        found = found or [one for one in everything if one.card.study == name]
        if not found:
            known = ", ".join(sorted({one.card.study for one in everything})) or "none"
            raise UserError(f"no promoted model '{name}'; there are: {known}")
        chosen += found
    return chosen


def _write(image: NDArray[np.uint8], categories: NDArray[np.uint8], out: Path, stem: str, one: Promoted) -> None:
    from segbench.data import pictures

    seed = f"-{one.folder.name}" if len(models.cards(one.folder.parent)) > 1 else ""
    start = out / f"{stem}-{one.card.study}{seed}"
    pictures.mask(categories).save(f"{start}-mask.png")
    pictures.overlay(image, categories).save(f"{start}-overlay.png")
    pictures.label_ids(categories).save(f"{start}-labelIds.png")


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
