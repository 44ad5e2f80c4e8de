"""What a network sees of an image: a crop at training; in scoring and use the whole image, or windows of it.

The table [train] of a protocol, and what window, stride, flip and scales of [final] come to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from segbench.core.augment import SCALES
from segbench.core.limits import require_size
from segbench.core.tables import added, require

Size = tuple[int, int]  # (height, width) in pixels

# Published recipes for Cityscapes step windows of 769 pixels by 513 (mmsegmentation's configurations; Chen et al.,
# Rethinking Atrous Convolution, use 769, too).
_STEP = 2 / 3
PACKED, ORIGINAL = SCORE_AT = ("packed", "original")


@dataclass(frozen=True)
class Train:
    """The table [train]."""

    crop: Size | None = added(None)  # of the packed image, all that a network sees of it in a step; None: all of it

    def __post_init__(self) -> None:
        if self.crop is not None:
            require_size(self.crop, "crop")


UNCUT = Train()


@dataclass(frozen=True)
class Passes:
    """The forward passes that the scores of an image are the mean of."""

    window: Size | None = None  # what one pass sees; None: the whole image
    stride: Size | None = None  # from one window to the next; None without windows
    flip: bool = False  # also mirrored left to right
    scales: tuple[float, ...] = (1.0,)  # of the packed size

    @classmethod
    def of(cls, size: Size, window: Size | None, stride: Size | None, flip: bool, scales: tuple[float, ...]) -> Self:
        """For images of `size`. Windows of that size are the whole image; their stride is two thirds of them unless
        it is given."""
        if window is None or window == size:
            return cls(flip=flip, scales=scales)
        height, width = window
        return cls(window, stride or (round(height * _STEP), round(width * _STEP)), flip, scales)


WHOLE = Passes()


def require_passes(window: Size | None, stride: Size | None, scales: tuple[float, ...]) -> None:
    """Raises ValueError for values of [final] that fit no image."""
    if window is not None:
        require_size(window, "window")
    if stride is not None:
        require(min(stride) >= 1, f"stride must be at least 1 pixel, not {list(stride)}")
    low, high = SCALES
    fits = scales and all(low <= scale <= high for scale in scales) and len(set(scales)) == len(scales)
    require(bool(fits), f"scales must be distinct, {low:g}..{high:g}, and at least one, not {list(scales)}")


def require_fitting(size: Size, crop: Size | None, window: Size | None, stride: Size | None) -> None:
    """Raises ValueError where a crop or window is larger than the packed images, of `size`, or where windows would
    leave out pixels between them."""
    for name, part in (("[train] crop", crop), ("[final] window", window)):
        fits = part is None or (part[0] <= size[0] and part[1] <= size[1])
        require(fits, f"{name} {list(part or ())} is larger than the images, which [data] packs at size {list(size)}")
    if stride is None:
        return
    window = window or crop
    if window is None:
        raise ValueError("[final] stride has no window to move; add window, or remove it")
    fits = stride[0] <= window[0] and stride[1] <= window[1]
    require(fits, f"[final] stride {list(stride)} is larger than the window {list(window)}, and leaves out pixels")
