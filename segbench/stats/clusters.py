"""Images that are no independent evidence: frames of one recording, streets of one city."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from segbench.stats.bootstrap import RESAMPLES, SEED, draws

FEWEST = 8  # clusters; with fewer, their bootstrap is too narrow: simulated in the tests


def clusters(names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """ "images", and "sequences" and "cities" where at least FEWEST of them group the images: (N,) group numbers.

    names: N scenes such as frankfurt/frankfurt_000001_007622: folder, sequence, frame. A name without parts is a group
    of its own. A grouping that is no coarser than the one before is left out.
    """
    paths = [PurePosixPath(name) for name in names]
    levels = {
        "images": [str(path) for path in paths],
        "sequences": [str(path.with_name(path.name.rpartition("_")[0] or path.name)) for path in paths],
        "cities": [str(path.parent) if len(path.parts) > 1 else path.name for path in paths],
    }
    made: dict[str, NDArray[np.int64]] = {}
    fewest = len(names) + 1
    for level, keys in levels.items():
        known, groups = np.unique(np.array(keys), return_inverse=True)
        if len(known) < fewest and (level == "images" or len(known) >= FEWEST):
            made[level] = np.asarray(groups, np.int64)
            fewest = len(known)
    return made


def cluster_draws(groups: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """(R, N): how often each image enters each resample if whole groups are drawn with replacement, each with all of
    its images (A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application, Cambridge 1997, 3.8).

    groups: (N,) group numbers from 0. Where every image is a group of its own, this is `draws`.
    """
    number = int(groups.max()) + 1
    return draws(number, resamples, seed)[:, groups]
