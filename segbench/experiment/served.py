"""A promoted model as MLflow serves it: what its pyfunc runs, as a file of code and never as a pickle.

    model = mlflow.pyfunc.load_model("models:/cityscapes-deeplab@champion")
    categories = model.predict(images)      # (N, H, W, 3) uint8 RGB -> (N, H, W) uint8, 0..7

`load_model(..., model_config={"device": "cuda"})` chooses where; the default is the best device there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

if TYPE_CHECKING:
    from segbench.architectures.segmenter import Segmenter
    from segbench.runtime.compute import Compute


class Served(PythonModel):
    """Loads card.json and best.safetensors; each image is segmented as `python -m segbench.predict` does it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Called once by MLflow. Raises UserError where a file is damaged."""
        from segbench.engine import inference
        from segbench.ledger import models
        from segbench.runtime import compute

        card = Path(context.artifacts["card"])
        one = models.Promoted(card.parent, models.read_card(card))
        self._size = one.card.size
        self._compute: Compute = compute.choose((context.model_config or {}).get("device", "auto"))
        self._model: Segmenter = inference.load(one.card, one.weights, self._compute)

    # A plain array: of any finer type MLflow would make a schema, and warn; the signature comes from registry.py.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> NDArray[np.uint8]:
        """model_input: (N, H, W, 3) uint8 RGB of any size. Returns (N, H, W) uint8 categories 0..7."""
        from segbench.engine import inference

        maps = [inference.segment(self._model, image, self._size, self._compute) for image in model_input]
        return np.stack(maps) if maps else np.empty(model_input.shape[:3], np.uint8)


set_model(Served())  # what makes this file a model; it runs where MLflow loads it, and nobody else imports it
