"""The pyfunc of a promoted model in MLflow: stored as a code file, never as a pickle.

    model = mlflow.pyfunc.load_model("models:/cityscapes-deeplab@champion")
    categories = model.predict(images)      # (N, H, W, 3) uint8 RGB -> (N, H, W) uint8 classes

`load_model(..., model_config={"device": "cuda"})` chooses the device; the default is the best available one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray


class Served(PythonModel):
    """Loads card.json and best.safetensors, and segments images like `python -m segbench.predict`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Called once by MLflow. Raises UserError if a file is damaged."""
        from segbench.engine.predictor import Predictor
        from segbench.ledger import models

        card = models.read_card(Path(context.artifacts["card"]))
        device = (context.model_config or {}).get("device", "auto")
        self._predictor = Predictor(card, Path(context.artifacts["weights"]), device)

    # Annotated as a plain array: from a finer type MLflow would infer a schema and warn. registry.py has the signature.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> NDArray[np.uint8]:
        """model_input: (N, H, W, 3) uint8 RGB of any size. Returns (N, H, W) uint8 classes."""
        return self._predictor.predict(model_input)


set_model(Served())  # makes this file a model; only MLflow imports it
