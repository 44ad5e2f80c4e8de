"""Scores at the photographs' own sizes: what a network sees is packed, but its class maps are resized to the photograph
and compared with its mask as it is in the dataset. The difference is what packing costs.

One photograph's mask and class map are in memory at a time, and the masks that are read ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.architectures.segmenter import Segmenter
from segbench.core import metrics
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet
from segbench.data import masks, pictures
from segbench.data.archives import File
from segbench.data.packing import Split
from segbench.data.subsets import Indices
from segbench.engine import inference
from segbench.engine.evaluation import count
from segbench.runtime.compute import Compute
from segbench.runtime.terminal import Advance

_AHEAD = 3  # masks: decoding one takes a fraction of a forward pass
_COUNTED = 1 << 22  # pixels that are counted at once, which takes 8 bytes each


def confusions(
    model: Segmenter,
    split: Split,
    chosen: Indices,
    originals: Sequence[File],
    compute: Compute,
    advance: Advance = lambda text="": None,
) -> NDArray[np.int64]:
    """(N, R, C) raw confusions of the `chosen` images of a split, whose masks are the files `originals`, each at its
    own size. Raises UserError if a mask is gone, damaged or has other labels."""
    model.eval()
    counted = []
    paths = [originals[index] for index in chosen]
    with torch.inference_mode():
        for index, raw in zip(chosen, _read_ahead(paths, split.label_set), strict=True):
            image = torch.from_numpy(np.array(split.images[index]))[None]
            [scores] = inference.forward(model, image, compute)
            made = inference.class_map(scores, raw.shape)
            counts = _counted(torch.from_numpy(np.array(raw)).to(made.device), made, len(split.label_set))
            counted.append(metrics.rows(counts.cpu().numpy(), split.label_set))
            advance(split.names[index])
    return np.stack(counted)


def _counted(raw: Tensor, made: Tensor, classes: int) -> Tensor:
    """Both (H, W) uint8. Returns (256, C) pixels, counted strip by strip."""
    rows = max(_COUNTED // raw.shape[1], 1)
    strips = zip(torch.split(raw, rows), torch.split(made, rows), strict=True)
    return torch.stack([count(ids[None], predicted[None], classes)[0] for ids, predicted in strips]).sum(0)


def _read_ahead(paths: Sequence[File], labels: LabelSet) -> Iterator[NDArray[np.uint8]]:
    """The raw ids of each mask, in order."""
    waiting, running = iter(paths), deque[tuple[File, Future[NDArray[np.uint8]]]]()
    with ThreadPoolExecutor(1) as pool:
        while True:
            for path in islice(waiting, _AHEAD - len(running)):
                running.append((path, pool.submit(masks.read, path, labels)))
            if not running:
                return
            path, future = running.popleft()
            try:
                yield future.result()
            except (OSError, pictures.Unreadable, masks.Unknown) as error:
                pool.shutdown(cancel_futures=True)
                raise UserError(
                    f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); the score at the "
                    "photographs' own size needs it: restore the dataset and rerun, or remove [final] score_at: "
                    "nothing is trained twice"
                ) from error
