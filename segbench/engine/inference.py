"""From images to class maps: one forward pass, resized scores, argmax."""

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
    """The network of `rebuild`, prepared by `ready`. Raises UserError like `rebuild`."""
    return ready(rebuild(card, weights), compute)


def rebuild(card: ModelCard, weights: Path) -> Segmenter:
    """The network of a card, with the `weights` of a safetensors file, on the CPU. For a user's architecture, the copy
    of its code beside the weights is run. Raises UserError if weights or code are not those of the card."""
    options = {**card.model, **card.hyperparameters.model}
    code = _code(card.code, weights.parent)
    model, _ = architectures.create(card.architecture, len(card.categories), "random", options, 0, code)
    _verify(weights, card.sha256)
    checkpoint.load(model, weights)
    model.normalisation = Normalisation(card.mean, card.std)
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
    """images: (B, H, W, 3) uint8 RGB. Returns (B, H, W) uint8 categories 0..7 on the compute device."""
    with torch.inference_mode():
        coarse = scores(model, normalise(images.to(compute.device), model.normalisation), compute)
        return resize(coarse, images.shape[1:3]).argmax(1).to(torch.uint8)


def segment(model: Segmenter, image: NDArray[np.uint8], size: tuple[int, int], compute: Compute) -> NDArray[np.uint8]:
    """Segments one photograph, (H, W, 3) uint8 RGB of any size, which the network sees at `size` (height, width).

    Returns (H, W) uint8 categories. The scores, not the classes, are resized to the photograph's size.
    """
    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)  # as packing.py resizes
    with torch.inference_mode():
        images = torch.from_numpy(np.array(resized))[None].to(compute.device)
        full = resize(scores(model, normalise(images, model.normalisation), compute), image.shape[:2])
        return full.argmax(1)[0].to(torch.uint8).cpu().numpy()


def scores(model: Segmenter, images: Tensor, compute: Compute) -> Tensor:
    """images: (B, 3, H, W) normalised. Returns (B, C, h, w) float32 scores at the network's own resolution."""
    with compute.autocast():
        outputs = model(images)
    return model.scores(outputs)


def resize(scores: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Resizes (B, C, h, w) scores to (B, C, *size), bilinearly."""
    return F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)
