"""What `explain` measures: the names and the sizes that it and the report share.

Lengths are shares of an image's shorter side, so that they mean the same at every size.
"""

from __future__ import annotations

FILLS = ("other", "blur")  # what takes the place of hidden pixels: another image's, or the image's own, blurred
DISTANCES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # how far from a window the image is kept; then all of it
WINDOW = 1 / 8  # side of a window
TILES = (1 / 16, 1 / 8, 1 / 4)  # sides of shuffled tiles
REMOVALS = ("inpainted", "other")  # what takes the place of a removed category
MAPS = ("occlusion", "cam")
REASONS = ("region", "gradients", "layer")  # why there is no map: no region, no gradient, no feature map
CORRUPTIONS = ("noise", "motion", "fog", "night", "jpeg")
SEVERITIES = (1, 3, 5)  # of the five of Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261)


def pixels(share: float, size: tuple[int, int]) -> int:
    """A length in whole pixels of an image of `size` (height, width); at least 1, but for 0."""
    return max(round(share * min(size)), 1) if share else 0
