"""Which colours are hard to tell apart, with full colour vision and without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segbench.core.labels import Colour

Values = NDArray[np.float64]

JUST_APART = 11.5  # CIE 1976 ΔE: five times what is just noticeable, 2.3 (Mahy et al. 1994), as areas lie apart
# Of linear RGB, at full severity: G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, A Physiologically-based Model for
# Simulation of Color Vision Deficiency, IEEE TVCG 15 (2009), table 1.
SEEN = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def confusable(colours: Sequence[Colour]) -> list[tuple[int, int]]:
    """Pairs of colours, by index, that somebody takes for each other: closer than JUST_APART to an eye with full colour
    vision, or to one that lacks one kind of cone."""
    nearest = np.min([_distances(_lab(colours, seen)) for seen in SEEN.values()], axis=0)
    return [(i, j) for i in range(len(colours)) for j in range(i + 1, len(colours)) if nearest[i, j] < JUST_APART]


def _distances(lab: Values) -> Values:
    """(C, 3) CIELAB to (C, C) Euclidean distances, CIE 1976 ΔE."""
    return np.asarray(np.linalg.norm(lab[:, None] - lab[None], axis=-1))


def _lab(colours: Sequence[Colour], seen: Values) -> Values:
    """(C, 3) CIELAB (D65) of sRGB colours as seen through a matrix of linear RGB."""
    share = np.array(colours, np.float64).reshape(-1, 3) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ seen.T, 0, 1) @ _XYZ.T / _XYZ.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
