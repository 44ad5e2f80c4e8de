"""From images to class maps: one forward, scores resized, argmax."""

from __future__ import annotations

from pathlib import Path

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
from segbench.core.errors import UserError
from segbench.core.records import Code, ModelCard
from segbench.data.batches import Normalisation, normalise
from segbench.engine import checkpoint
from segbench.runtime import terminal
from segbench.runtime.compute import Compute


def load(card: ModelCard, weights: Path, compute: Compute) -> Segmenter:
    """The network of `rebuild`, ready for inference."""
    return ready(rebuild(card, weights), compute)


def rebuild(card: ModelCard, weights: Path) -> Segmenter:
    """The network a card describes, with the `weights` of a safetensors file, on the CPU. An architecture of the user's
    own is built by the copy of its code beside the weights, which is run. Raises UserError where weights or code are
    not those of the card."""
    options = {**card.model, **card.hyperparameters.model}
    code = _code(card.code, weights.parent)
    model, _ = architectures.create(card.architecture, len(card.categories), "random", options, 0, code)
    _verify(weights, card.sha256)
    checkpoint.load(model, weights)
    model.normalisation = Normalisation(card.mean, card.std)
    return model


def _verify(weights: Path, sha256: str) -> None:
    try:
        found = files.sha256(weights)
    except OSError as error:
        raise UserError(f"{weights} cannot be read ({error.strerror}); bring it back, or promote again") from error
    if found != sha256:
        raise UserError(
            f"{weights} is not the file that its card describes (sha256 {found[:12]}, the card says {sha256[:12]}): it "
            "is damaged or was replaced. Bring it back, or promote again"
        )


def _code(code: Code | None, folder: Path) -> Code | None:
    if code is None or code.kind != "file":
        return code
    terminal.say(f"{folder / code.name} is run: it is the code that built this model")
    return sources.kept(folder, code)


def ready(model: Segmenter, compute: Compute) -> Segmenter:
    """The trained model on its device as inference wants it: without what only training needs, and with the weights
    that autocast would round to bfloat16 at every forward pass rounded once."""
    model = model.for_inference().to(compute.device)
    if compute.bf16:
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(torch.bfloat16)
    return model


def predict(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, H, W, 3) uint8 RGB. Returns (B, H, W) uint8 categories 0..7 on the compute device."""
    with torch.inference_mode():
        own = scores(model, normalise(images.to(compute.device), model.normalisation), compute)
        return resize(own, images.shape[1:3]).argmax(1).to(torch.uint8)


def segment(model: Segmenter, image: NDArray[np.uint8], size: tuple[int, int], compute: Compute) -> NDArray[np.uint8]:
    """One photograph, (H, W, 3) uint8 RGB of any size, seen by the network at `size` (height, width).

    Returns (H, W) uint8 categories: the scores, not the classes, are brought back to the photograph's own size.
    """
    height, width = size
    seen = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)  # as packed.py resizes
    with torch.inference_mode():
        images = torch.from_numpy(np.array(seen))[None].to(compute.device)
        full = resize(scores(model, normalise(images, model.normalisation), compute), image.shape[:2])
        return full.argmax(1)[0].to(torch.uint8).cpu().numpy()


def scores(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, 3, H, W) normalised. Returns (B, C, h, w) float32 scores at the network's own resolution."""
    with compute.autocast():
        outputs = model(images)
    return model.scores(outputs)


def resize(scores: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """(B, C, h, w) scores to (B, C, *size), bilinearly."""
    return F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)
