"""A promoted model, ready to segment photographs; used by `predict`, MLflow's pyfunc and the Python API.

predictor = Predictor(card, folder / "best.safetensors")
masks = predictor.predict(photographs)      # (N, H, W, 3) uint8 RGB -> (N, H, W) uint8 classes
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segbench.core.errors import UserError
from segbench.core.records import ModelCard
from segbench.engine import inference
from segbench.runtime import compute


class Predictor:
    """Loads the weights once. `card` describes them."""

    def __init__(self, card: ModelCard, weights: Path, device: str = "auto") -> None:
        """`device`: a value of --device. Raises UserError if it is missing, or if the weights do not fit the card."""
        self.card = card
        self._compute = compute.choose(device)
        self._model = inference.load(card, weights, self._compute)

    def predict(self, photographs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """photographs: (N, H, W, 3) uint8 RGB of any height and width. Returns (N, H, W) uint8 classes, 0..C-1,
        whose names are `card.categories`.

        Raises UserError for any other array.
        """
        images = np.asarray(photographs)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise UserError(
                "photographs must be a uint8 array of shape (N, height, width, 3), RGB; found "
                f"{images.dtype} of shape {images.shape}"
            )
        maps = np.empty(images.shape[:3], np.uint8)
        for index, photograph in enumerate(images):
            maps[index] = self.segment(photograph)
        return maps

    def objects(self, photograph: NDArray[np.uint8]) -> NDArray[np.int64]:
        """One photograph, (H, W, 3) uint8 RGB -> (H, W) int64 segments, see `core/panoptic.py`."""
        return inference.objects(self._model, photograph, self.card.size, self.card.labels, self._compute)

    def segment(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One photograph, (H, W, 3) uint8 RGB -> (H, W) uint8 classes, at the photograph's size."""
        return inference.segment(self._model, photograph, self.card.size, self._compute)
