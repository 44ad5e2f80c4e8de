"""Segment photographs with promoted models.

    python -m segbench.predict street.jpg --out predictions
    python -m segbench.predict *.png --out predictions --model demo-deeplab
    python -m segbench.predict *.png --out predictions --panoptic

Writes, for every image and model, a mask in the legend's colours, an overlay, and a label-id PNG for the dataset's own
evaluator, all at the image's size. With --panoptic, of models of panoptic protocols: their objects as a picture, an
instanceIds PNG, and COCO's panoptic format, which the official evaluator of Cityscapes reads.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.core.panoptic import PANOPTIC
from segbench.ledger import models
from segbench.ledger.models import Promoted
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def main(argv: list[str] | None = None) -> int:
    """Segments photographs."""
    parser = terminal.parser(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG, JPEG, or another format of Pillow")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of the pictures")
    parser.add_argument(
        "--model",
        action="append",
        metavar="STUDY|DIR",
        help="a promoted model by its study's name, such as demo-deeplab, or its folder; repeatable; default: all",
    )
    parser.add_argument("--panoptic", action="store_true", help="also write which pixels are one object")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: auto")
    arguments = options.parse(parser, argv)
    chosen = choose(arguments.model)
    if arguments.panoptic:
        chosen = _panoptic(chosen, bool(arguments.model))
    stem, count = Counter(path.stem for path in arguments.images).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{count} images are named '{stem}', so their masks would overwrite each other; give each another --out"
        )

    from segbench.data import pictures

    for path in arguments.images:  # all are read before anything is written
        pictures.read(path)
    out = paths.writable(arguments.out, "--out")
    for model in chosen:
        _segment(model, arguments.images, arguments.device, out, arguments.panoptic)
    written = "masks, overlays and label ids" + (", objects" if arguments.panoptic else "")
    terminal.say(f"{len(chosen)} models x {len(arguments.images)} images: {written} in {out}")
    terminal.next_command("python -m segbench.runs")
    return 0


def choose(names: list[str] | None = None) -> list[Promoted]:
    """The promoted models of these studies or folders, by default all.

    Raises UserError if there is none, and for a named model that cannot be read. Without `names`, unreadable models are
    left out with a warning.
    """
    listing = models.listing()
    if names is None:
        for folder in listing.unreadable:
            terminal.warn(f"{folder} is skipped: its card.json cannot be read; promote it again")
        if not listing.promoted:
            raise UserError(f"no promoted model in {paths.models()}: run python -m segbench.promote first")
        return listing.promoted
    return [model for name in names for model in _named(name, listing)]


def _named(name: str, listing: models.Listing) -> list[Promoted]:
    card = Path(name) / artefacts.CARD
    if card.is_file():
        return [Promoted(card.parent, models.read_card(card))]
    of_study = [model for model in listing.promoted if model.card.study == name]
    for folder in listing.unreadable:
        if folder.parent.name == name:
            models.read_card(folder / artefacts.CARD)  # raises a UserError with its problem
    if not of_study:
        known = ", ".join(sorted({model.card.study for model in listing.promoted})) or "none"
        raise UserError(f"no promoted model '{name}'; promoted models: {known}")
    return of_study


def _panoptic(chosen: list[Promoted], named: bool) -> list[Promoted]:
    """Those that tell objects apart. Raises UserError if there is none, or if one that was `named` does not."""
    from segbench.data import segment_files

    able = [model for model in chosen if model.card.task == PANOPTIC]
    unable = [model.card.study for model in chosen if model.card.task != PANOPTIC]
    if not able or (named and unable):
        raise UserError(
            f"{', '.join(dict.fromkeys(unable))}: trained by a semantic protocol, so it knows classes and no objects; "
            f'drop --panoptic, or name a model of a protocol with [data] task = "{PANOPTIC}"'
        )
    for model in able:
        segment_files.require_instance_ids(model.card.labels)
    return able


def _segment(model: Promoted, images: list[Path], device: str, out: Path, panoptic: bool) -> None:
    from segbench.data import pictures
    from segbench.engine.predictor import Predictor

    predictor = Predictor(model.card, model.weights, device)
    annotations = []
    with terminal.progress(f"segmenting with {model.card.study}", len(images)) as advance:
        for path in images:
            image = pictures.read(path)
            _write(image, predictor.segment(image), out, path.stem, model)
            if panoptic:
                annotations.append(_write_objects(predictor.objects(image), out, path.stem, model))
            advance(path.name)
    if panoptic:
        _write_annotations(annotations, out, model)


def _name(model: Promoted) -> str:
    """What its files are called by."""
    seed = f"-{model.folder.name}" if len(models.cards(model.folder.parent)) > 1 else ""
    return f"{model.card.study}{seed}"


def _write(image: NDArray[np.uint8], categories: NDArray[np.uint8], out: Path, stem: str, model: Promoted) -> None:
    from segbench.data import pictures

    start = out / f"{stem}-{_name(model)}"
    labels = model.card.labels
    pictures.mask(categories, labels.colours).save(f"{start}-mask.png")
    pictures.overlay(image, categories, labels.colours).save(f"{start}-overlay.png")
    pictures.label_ids(categories, labels.typical_ids).save(f"{start}-labelIds.png")


def _write_objects(segments: NDArray[np.int64], out: Path, stem: str, model: Promoted) -> dict[str, Any]:
    """Returns the image's entry in COCO's annotations. Its id is the file's name as Cityscapes' truth has it."""
    from segbench.data import segment_files

    labels, name = model.card.labels, stem.removesuffix("_leftImg8bit")
    start, folder = out / f"{stem}-{_name(model)}", out / f"{_name(model)}-panoptic"
    folder.mkdir(exist_ok=True)
    segment_files.coloured(segments, labels).save(f"{start}-objects.png")
    segment_files.instance_ids(segments, labels).save(f"{start}-instanceIds.png")
    segment_files.coco_picture(segments).save(folder / f"{name}_panoptic.png")
    return segment_files.coco_annotation(segments, name, f"{name}_panoptic.png", labels)


def _write_annotations(annotations: list[dict[str, Any]], out: Path, model: Promoted) -> None:
    from segbench.data import segment_files

    content = {"annotations": annotations, "categories": segment_files.coco_categories(model.card.labels)}
    (out / f"{_name(model)}-panoptic.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
