"""Objects from queries, and PQ: ours against transformers' post-processing, a forward pass, and cityscapesScripts.

The outputs are those of a network that has learnt: a query for each segment of drawn streets, the rest without object.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ours import BATCH, photographs
from benchmarks.paired import Case
from segbench import architectures
from segbench.architectures.parts import segments, torchvision_ops
from segbench.core import panoptic
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import SPAN
from segbench.data import segment_files, streets
from segbench.engine import inference
from segbench.engine import panoptic as counting
from segbench.runtime.compute import Compute

SIZE = (256, 512)  # height, width
_QUERIES = 100
_COUNTED = 8 * BATCH  # images
_THRESHOLD, _OVERLAP = 0.8, 0.8


def truths(images: int = BATCH) -> Tensor:
    """(B, H, W) segments of drawn streets."""
    ids = np.stack([streets.draw_instances(seed, seed, *SIZE)[1] for seed in range(images)])
    plane = np.where(ids >= panoptic.PER_LABEL, ids % panoptic.PER_LABEL + 1, 0).astype(np.uint8)
    return torch.from_numpy(panoptic.truth(panoptic.label_of(ids), plane, DEFAULT))


def outputs(truth: Tensor) -> tuple[Tensor, Tensor]:
    """(B, Q, C + 1) class logits and (B, Q, H/4, W/4) mask logits that find these segments."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(len(truth), _QUERIES, len(DEFAULT) + 1, generator=generator)
    classes[:, :, -1] += 8
    masks = torch.randn(len(truth), _QUERIES, SIZE[0] // 4, SIZE[1] // 4, generator=generator) - 6
    for image, own in enumerate(truth):
        for query, segment in enumerate(own[own >= 0].unique()[:_QUERIES].tolist()):
            classes[image, query, segment // SPAN] += 16
            masks[image, query] += 12 * F.avg_pool2d((own == segment)[None].float(), 4)[0]
    return classes, masks


def cases(device: Compute, folder: Path) -> Iterator[Case]:
    truth = truths()
    classes, masks = (tensor.to(device.device) for tensor in outputs(truth))

    def ours() -> Tensor:
        return segments.of_queries(classes, masks, SIZE, DEFAULT)

    yield Case(
        "objects from queries", "(d) transformers' post-processing", BATCH, "images/s", 5, ours,
        lambda: _transformers(classes, masks),
    )  # fmt: skip
    model = inference.ready(architectures.create("mask2former", len(DEFAULT), "random", {}, 0)[0], device)
    drawn = photographs(BATCH, SIZE).to(device.device)
    yield Case(
        "objects from queries", "(d) the forward pass of Mask2Former-Swin-Small", BATCH, "images/s", 10, ours,
        lambda: _forward(model, drawn, device),
    )  # fmt: skip
    yield _counting(device, folder)


def _transformers(classes: Tensor, masks: Tensor) -> object:
    torchvision_ops.ensure_importable()
    from transformers.models.mask2former.image_processing_mask2former import Mask2FormerImageProcessor

    found = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    return Mask2FormerImageProcessor().post_process_panoptic_segmentation(  # type: ignore[no-untyped-call]
        found,
        threshold=_THRESHOLD,
        overlap_mask_area_threshold=_OVERLAP,
        label_ids_to_fuse=set(panoptic.stuff(DEFAULT)),
        target_sizes=[SIZE] * len(classes),
    )


@torch.inference_mode()
def _forward(model: torch.nn.Module, drawn: Tensor, device: Compute) -> object:
    return inference.forward(model, drawn, device)  # type: ignore[arg-type]


def _counting(device: Compute, folder: Path) -> Case:
    """Of several batches in turn, since one takes milliseconds. The evaluator reads its pictures, as ours has them in
    memory: that is part of how it works."""
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official  # noqa: N813

    truth = truths(_COUNTED)
    found = torch.cat([segments.of_queries(*outputs(part), SIZE, DEFAULT) for part in truth.split(BATCH)])
    pairs = []
    for kind, each in (("truth", truth), ("found", found)):
        (folder / kind).mkdir(exist_ok=True)
        for image, own in enumerate(each.numpy()):
            segment_files.coco_picture(own).save(folder / kind / f"{image}.png")
        pairs.append(
            [segment_files.coco_annotation(own, str(i), f"{i}.png", DEFAULT) for i, own in enumerate(each.numpy())]
        )
    categories = {one["id"]: one for one in segment_files.coco_categories(DEFAULT)}
    copies = json.dumps(list(zip(*pairs, strict=True)))  # the evaluator changes what it is given
    planes = [each.to(device.device) for each in (truth, found, (found // SPAN).clamp(min=0))]

    def ours() -> None:
        for batch in zip(*(plane.split(BATCH) for plane in planes), strict=True):
            counting.count(batch[0], batch[1], batch[2], DEFAULT)

    def theirs() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            folders = str(folder / "truth"), str(folder / "found")
            return official.pq_compute_single_core(0, json.loads(copies), *folders, categories)

    return Case(
        "counting for PQ", "(d) cityscapesScripts, one process", _COUNTED, "images/s", 10, ours, theirs
    )  # fmt: skip
