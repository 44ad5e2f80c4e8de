"""Export a promoted model: as ONNX, or as a folder that transformers loads.

    python -m segbench.export demo-deeplab --to deeplab.onnx
    python -m segbench.export demo-mask2former --to mask2former/      for AutoModel….from_pretrained

The ONNX file takes (N, height, width, 3) uint8 RGB at the model's training size and returns `classes`,
(N, height, width) uint8, and `scores`. The result is compared with segbench's inference before it is written.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from segbench import predict
from segbench.core.crops import WHOLE
from segbench.core.errors import UserError
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SCENES = 4  # drawn for the comparison


def main(argv: list[str] | None = None) -> int:
    """Exports one model."""
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "model",
        metavar="STUDY|DIR",
        help="a promoted model by its study's name (the best of several seeds) or its folder",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FILE.onnx|DIR", help="a new file or folder")
    arguments = options.parse(parser, argv)
    model = max(predict.choose([arguments.model]), key=lambda promoted: promoted.card.best.value)
    target: Path = arguments.to
    if target.exists():
        raise UserError(f"{target} already exists; give --to a new name")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{target.absolute().parent} is not a directory; create it, or give --to another path")

    from segbench.engine import exporting, inference

    network = inference.rebuild(model.card, model.weights)
    write = exporting.to_onnx if target.suffix == ".onnx" else exporting.to_transformers
    terminal.say(f"exporting {model.card.study}; this can take a minute")
    passes, card = model.card.passes, model.card
    if passes.window:  # the exported network makes one of the passes
        card = dataclasses.replace(card, size=passes.window)
    if passes != WHOLE:
        height, width = card.size
        terminal.say(
            f"its input is {height}x{width}: one of the windows, mirrors or scales whose scores segbench averages; the "
            "card's `passes` names them"
        )
    agreement = write(network, card, target, _scenes(*card.size))
    scores = agreement.score_difference
    about = "" if math.isnan(scores) else f"; the scores differ by at most {scores:.1g}"
    print(f"{target}: agrees with PyTorch on {agreement.pixels:.3%} of the pixels of {_SCENES} scenes{about}")
    if model.card.weights.licence:
        terminal.say(f"trained from {model.card.weights.name}: {model.card.weights.licence}")
    return 0


def _scenes(height: int, width: int) -> NDArray[np.uint8]:
    import numpy as np

    from segbench.data import streets

    return np.stack([streets.draw(seed, seed, height, width)[0] for seed in range(_SCENES)])


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
