"""Segmenter: what every architecture is to the rest of the program. One level of inheritance, never two.

An architecture is one file in this folder with a `build` function (see `architectures/__init__.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from segbench.architectures.parts import segments
from segbench.architectures.parts.pixel_loss import PixelLoss
from segbench.core.crops import WHOLE, Passes
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.data.batches import IMAGENET, Normalisation


class Queries(NamedTuple):
    """The masks that a network sums to its scores, and what it takes each for."""

    classes: Tensor  # (B, Q, C) probabilities; what is left to 1 is "no object"
    masks: Tensor  # (B, Q, h, w), 0..1


class Segmenter(nn.Module):
    """A network with its own loss and its own way to score classes.

    Shapes: B images, C classes, H×W pixels; h×w is whatever resolution the network itself works at.
    `forward` may run under autocast; `losses` and `scores` get its outputs outside of autocast and compute in float32.
    """

    is_sharded: bool = False  # set by training: whether other processes have the rest of the batch, see `global_batch`
    smallest_batch: int = 1  # 2 where BatchNorm sees one value per channel and image
    normalisation: Normalisation = IMAGENET  # of the images that `forward` gets
    passes: Passes = WHOLE  # that its scores of an image are the mean of, when it is scored and used; see engine/passes
    learns_segments: bool = False  # whether it can be taught which objects there are, by `segment_losses`
    query_count: int | None = None  # of a network with queries: the most segments that it finds in an image

    def forward(self, images: Tensor) -> Any:
        """images: (B, 3, H, W) float, normalised. Returns whatever `losses` and `scores` of this class need."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def losses(self, outputs: Any, labels: Tensor) -> dict[str, Tensor]:
        """Weighted scalar terms; their sum is what training minimises. labels: (B, H, W) int64, 0..C-1, or NO_CLASS
        (-100, what `cross_entropy` ignores unless told otherwise) where a pixel has no class and must not count."""
        raise TypeError(f"{type(self).__name__} does not define losses")

    def segment_losses(self, outputs: Any, labels: Tensor, segments: Tensor) -> dict[str, Tensor]:
        """`losses`, of a batch that is known by segments, where the network learns them. segments: (B, H, W) int64,
        see `data/segments.taught`."""
        raise TypeError(f"{type(self).__name__} does not learn segments")

    def scores(self, outputs: Any) -> Tensor:
        """(B, C, h, w) float32. Resized bilinearly to H×W, its argmax over C is the predicted class."""
        raise TypeError(f"{type(self).__name__} does not define scores")

    def log_probabilities(self, scores: Tensor) -> Tensor:
        """Log of the class-normalised scores, same shape: what the pixel NLL, comparable between models, reads."""
        return torch.log_softmax(scores, dim=1)

    def queries(self, outputs: Any) -> Queries | None:
        """What the scores are summed from, in a network with queries; None in any other."""
        return None

    def segments(self, outputs: Any, predicted: Tensor, labels: LabelSet) -> Tensor:
        """The objects and the stuff of each image: (B, H, W) int64 segment ids, see `core/panoptic.py`.

        predicted: (B, H, W) int64 classes, the argmax of the resized scores. By default the connected components of
        things; a network that tells objects apart overrides it."""
        return segments.components(predicted, labels)

    def progress(self, share: float) -> None:
        """Called before each training step with the share of the whole training that is done, 0 up to but not 1: all
        that changes in the course of a training follows from it, so that a resumed one goes on as it would have."""

    def use(self, loss: PixelLoss) -> None:
        """From now on `losses` uses this loss of a pixel. Raises UserError where the loss is not one of pixels."""
        raise UserError(
            "label_smoothing, class_weights and ohem change the loss of a pixel, which this architecture has not: its "
            "loss is another; leave them out of [recipe] and [space], or set them in the TOML of the architectures "
            "that have it"
        )

    def backbone(self) -> Sequence[nn.Module]:
        """The layers of the network's backbone, from the image upward; what is in none of them is the head. Empty where
        the two are not told apart: then a recipe cannot train them at different rates."""
        return ()

    def for_inference(self) -> Self:
        """Drops what only training needs, and returns the model in evaluation mode."""
        return self.eval()

    def for_export(self) -> Self:
        """As operations that exporters can trace, equal but for rounding. In evaluation mode."""
        return self.eval()
