"""From images to class maps: a network's passes, resized scores, argmax.

Scores at a photograph's size would take many times its memory: 2 GB for 64 megapixels. `class_map` resizes a strip of
rows at a time and keeps only its classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core import code as sources
from segbench.core import files
from segbench.core.crops import WHOLE
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.core.records import Code, ModelCard
from segbench.data.batches import Normalisation, normalise
from segbench.engine import checkpoint
from segbench.engine.passes import resize as resize
from segbench.engine.passes import scores as scores
from segbench.runtime import terminal
from segbench.runtime.compute import Compute

_LARGEST = 1 << 21  # pixels of a map of segments: those of a Cityscapes photograph
_STRIP = 1 << 20  # scores of one strip: 4 MB, which a CPU's cache holds
_FINITE = 1e30  # what infinite scores count as: 0 times infinity is no number


def load(card: ModelCard, weights: Path, compute: Compute) -> Segmenter:
    """The network of `rebuild`, prepared by `ready`. Raises UserError like `rebuild`."""
    return ready(rebuild(card, weights), compute)


def rebuild(card: ModelCard, weights: Path) -> Segmenter:
    """The network of a card, with the `weights` of a safetensors file, on the CPU. For a user's architecture, the copy
    of its code beside the weights is run. Raises UserError if weights or code are not those of the card."""
    model = untrained(card, weights.parent)
    _verify(weights, card.sha256)
    checkpoint.load(model, weights)
    return model


def untrained(card: ModelCard, folder: Path, seed: int = 0) -> Segmenter:
    """The network of a card with random weights, on the CPU; `folder` holds the user's code. Raises UserError like
    `rebuild`."""
    options = {**card.model, **card.hyperparameters.model}
    code = _code(card.code, folder)
    model, _ = architectures.create(card.architecture, len(card.categories), "random", options, seed, code)
    model.normalisation, model.passes = Normalisation(card.mean, card.std), card.passes
    return model


def _verify(weights: Path, sha256: str) -> None:
    try:
        actual = files.sha256(weights)
    except OSError as error:
        raise UserError(f"{weights} cannot be read ({error.strerror}); restore it, or promote again") from error
    if actual != sha256:
        raise UserError(
            f"{weights} is not the file in its card (sha256 {actual[:12]}, the card says {sha256[:12]}): it "
            "is damaged or was replaced. Restore it, or promote again"
        )


def _code(code: Code | None, folder: Path) -> Code | None:
    if code is None or code.kind != "file":
        return code
    terminal.say(f"running {folder / code.name}, the code that built this model")
    return sources.kept(folder, code)


def ready(model: Segmenter, compute: Compute) -> Segmenter:
    """The trained model on its device, prepared for inference: without the parts that only training needs, and with
    weights rounded once to bfloat16 that autocast would round at every forward pass."""
    model = model.for_inference().to(compute.device)
    if compute.bf16:
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(torch.bfloat16)
    return model


def predict(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, H, W, 3) uint8 RGB. Returns (B, H, W) uint8 classes on the compute device."""
    # Several passes give scores of the images' size: those of one image at a time.
    groups = [images] if model.passes == WHOLE else torch.split(images, 1)
    with torch.inference_mode():
        coarse = (image_scores for group in groups for image_scores in forward(model, group, compute))
        return torch.stack([class_map(image_scores, images.shape[1:3]) for image_scores in coarse])


def segment(model: Segmenter, image: NDArray[np.uint8], size: tuple[int, int], compute: Compute) -> NDArray[np.uint8]:
    """Segments one photograph, (H, W, 3) uint8 RGB of any size, which the network sees at `size` (height, width).

    Returns (H, W) uint8 categories. The scores, not the classes, are resized to the photograph's size.
    """
    with torch.inference_mode():
        coarse = forward(model, torch.from_numpy(seen(image, size))[None], compute)
        return class_map(coarse[0], image.shape[:2]).cpu().numpy()


def objects(
    model: Segmenter, image: NDArray[np.uint8], size: tuple[int, int], labels: LabelSet, compute: Compute
) -> NDArray[np.int64]:
    """The segments of one photograph, (H, W, 3) uint8 RGB of any size, which the network sees at `size`.

    Returns (H, W) int64 segment ids (`core/panoptic.py`). Those of photographs of more than 2 megapixels are found at 2
    megapixels and scaled: a query's mask at 64 megapixels takes 256 MB.
    """
    height, width = image.shape[:2]
    factor = min(1.0, (_LARGEST / (height * width)) ** 0.5)
    small = (max(round(height * factor), 1), max(round(width * factor), 1))
    with torch.inference_mode():
        images = normalise(torch.from_numpy(seen(image, size))[None].to(compute.device), model.normalisation)
        with compute.autocast():
            outputs = model(images)
        predicted = class_map(model.scores(outputs)[0], small).long()[None]
        found = model.segments(outputs, predicted, labels).cpu().numpy()[0]
    rows, columns = (np.arange(full) * part // full for full, part in zip((height, width), small, strict=True))
    return np.asarray(found[rows[:, None], columns])


def seen(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A photograph, (H, W, 3) uint8 RGB, resized to the network's `size` (height, width)."""
    height, width = size
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))  # as packing.py resizes


class Prediction(NamedTuple):
    """What a network makes of one image."""

    scores: Tensor  # (C, h, w) float32
    segments: Tensor | None  # (H, W) int64 ids at the image's size, see `core/panoptic.py`; of panoptic models


def predictions(model: Segmenter, images: Tensor, compute: Compute, labels: LabelSet | None) -> list[Prediction]:
    """images: (B, H, W, 3) uint8 RGB. labels: of a panoptic model; None: of a semantic one."""
    if labels is None:
        return [Prediction(scores, None) for scores in forward(model, images, compute)]
    with compute.autocast():
        outputs = model(normalise(images.to(compute.device), model.normalisation))
    coarse = model.scores(outputs)
    predicted = torch.stack([class_map(one, images.shape[1:3]) for one in coarse]).long()
    segments = model.segments(outputs, predicted, labels)
    return [Prediction(*pair) for pair in zip(coarse, segments, strict=True)]


def forward(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, H, W, 3) uint8 RGB. Returns (B, C, h, w) float32 scores on the device, see `passes.scores`."""
    return scores(model, normalise(images.to(compute.device), model.normalisation), compute)


def class_map(scores: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """(C, h, w) scores to the (H, W) uint8 categories that `resize` to `size` and argmax would give, but for exact
    ties; in the memory of one strip of rows."""
    classes, rows = scores.shape[:2]
    height, width = size
    scores = scores.clamp(-_FINITE, _FINITE)
    above, below, weight = _rows(rows, height)
    made = torch.empty((height, width), dtype=torch.uint8, device=scores.device)
    step = max(1, _STRIP // (classes * width))
    for start in range(0, height, step):
        strip = slice(start, start + step)
        first, last = int(above[strip][0]), int(below[strip][-1])
        part = scores[None, :, first : last + 1].contiguous()
        wide = F.interpolate(part, size=(last + 1 - first, width), mode="bilinear", align_corners=False)[0]
        made[strip] = _best(_between(wide, above[strip] - first, below[strip] - first, weight[strip]))
    return made


def _rows(rows: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which two of `rows` each of `height` new rows lies between, and the weight of the lower one: the half-pixel
    centres of torch's bilinear interpolation without align_corners."""
    centre = ((torch.arange(height) + 0.5) * (rows / height) - 0.5).clamp_(min=0)
    above = centre.long()
    return above, (above + 1).clamp_(max=rows - 1), centre - above


def _between(scores: Tensor, above: Tensor, below: Tensor, weight: Tensor) -> Tensor:
    """(C, n, W) to new rows between two of its own each, (C, len(above), W)."""
    if scores.device.type != "cpu":  # a product would be rounded to TF32 there
        above, below, weight = (each.to(scores.device) for each in (above, below, weight))
        return torch.lerp(scores[:, above], scores[:, below], weight[:, None])
    # On a CPU a product takes half the time: it does not copy rows first.
    indices, weights = torch.stack([above, below], 1), torch.stack([1 - weight, weight], 1)
    return scores.new_zeros(len(above), scores.shape[1]).scatter_add_(1, indices, weights) @ scores


def _best(scores: Tensor) -> Tensor:
    """The argmax of (C, H, W) over C, as uint8, the first of equals. Comparing whole classes is several times faster
    than `argmax`, which walks over them pixel by pixel."""
    best = scores[0].clone()
    category = torch.zeros(best.shape, dtype=torch.uint8, device=scores.device)
    better = torch.empty(best.shape, dtype=torch.bool, device=scores.device)
    for index in range(1, len(scores)):
        torch.gt(scores[index], best, out=better)
        torch.maximum(category, better.view(torch.uint8).mul_(index), out=category)  # indices grow
        torch.maximum(best, scores[index], out=best)
    return category
