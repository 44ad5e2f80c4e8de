"""A promoted model as MLflow serves it: what its pyfunc runs, as a file of code and never as a pickle.

    model = mlflow.pyfunc.load_model("models:/cityscapes-deeplab@champion")
    categories = model.predict(images)      # (N, H, W, 3) uint8 RGB -> (N, H, W) uint8, 0..7

`load_model(..., model_config={"device": "cuda"})` chooses where; the default is the best device there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray


class Served(PythonModel):
    """Loads card.json and best.safetensors; each image is segmented as `python -m segbench.predict` does it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Called once by MLflow. Raises UserError where a file is damaged."""
        from segbench.engine.predictor import Predictor
        from segbench.ledger import models

        card = models.read_card(Path(context.artifacts["card"]))
        device = (context.model_config or {}).get("device", "auto")
        self._predictor = Predictor(card, Path(context.artifacts["weights"]), device)

    # A plain array: of any finer type MLflow would make a schema, and warn; the signature comes from registry.py.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> NDArray[np.uint8]:
        """model_input: (N, H, W, 3) uint8 RGB of any size. Returns (N, H, W) uint8 categories 0..7."""
        return self._predictor.predict(model_input)


set_model(Served())  # what makes this file a model; it runs where MLflow loads it, and nobody else imports it
