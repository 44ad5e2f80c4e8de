"""Exports a promoted model for programs without segbench: as ONNX, or as a folder that transformers loads.

Both are compared with segbench's inference, image by image, before they are written.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segbench import architectures
from segbench.architectures.segmenter import Segmenter
from segbench.core import files
from segbench.core.errors import UserError
from segbench.core.records import ModelCard
from segbench.data.batches import normalise
from segbench.engine import inference

OPSET = 20  # the first with today's definition of GridSample, which deformable attention needs
LEAST_AGREEMENT = 0.999  # share of pixels
# transformers resizes the logits of queries to 384×384 before it multiplies and sums them; segbench resizes the sums.
LEAST_AGREEMENT_OF_QUERIES = 0.9
_PROCESSORS = {"SegformerForSemanticSegmentation": "SegformerImageProcessor"}  # of networks that classify each pixel
_BATCHES = (1, 3)  # batch sizes to compare: the exported batch size must be free
_LARGEST_BATCH = 1024


class Agreement(NamedTuple):
    """How an exported model compares with the original."""

    pixels: float  # 0..1, share with the same class
    score_difference: float  # the largest of any class and pixel; nan if the exported model returns no scores


class _Deployed(nn.Module):
    """Preprocessing, network and scores in one module, for ONNX."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (N, H, W, 3) uint8 RGB. Returns (N, H, W) uint8 classes and (N, C, H, W) float32 scores."""
        coarse = self.model.scores(self.model(normalise(images, self.model.normalisation)))
        scores = inference.resize(coarse, images.shape[1:3])
        return scores.argmax(1).to(torch.uint8), scores


def to_onnx(model: Segmenter, card: ModelCard, path: Path, images: NDArray[np.uint8]) -> Agreement:
    """Writes `model`, as `inference.rebuild` returns it, as one ONNX file, after comparing it in onnxruntime.

    The file's input is `images`, (N, height, width, 3) uint8 RGB at the card's size with N free; its outputs are
    `classes`, (N, height, width) uint8, and `scores`, (N, C, height, width) float32. The argument `images`, at least 3
    of that size, is used for the comparison. Raises UserError, and writes nothing, if fewer than LEAST_AGREEMENT of the
    pixels agree.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    deployed = _Deployed(model.for_inference().for_export())
    content = _onnx_bytes(deployed, torch.from_numpy(images[:2]), card)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        classes, scores = session.run(["classes", "scores"], {"images": batch})
        return classes, scores

    agreement = _compared(deployed, run, images)
    _require_agreement(agreement, "ONNX")
    with files.replaced(path) as partial:
        partial.write_bytes(content)
    return agreement


def to_transformers(model: Segmenter, card: ModelCard, folder: Path, images: NDArray[np.uint8]) -> Agreement:
    """Writes `model` as a `save_pretrained` folder with its image processor, after comparing it in transformers.

    Raises UserError, and writes nothing, for an architecture that transformers does not have, and if the two disagree.
    """
    import transformers

    kind = architectures.transformers_class(card.architecture)
    if kind is None:
        raise UserError(f"transformers does not have {card.architecture}; export it as ONNX: --to FILE.onnx")
    config = next(part.config for part in model.modules() if isinstance(part, transformers.PreTrainedModel))
    config.id2label = dict(enumerate(card.categories))
    config.label2id = {category: index for index, category in enumerate(card.categories)}
    network = getattr(transformers, kind)(config).eval()
    network.load_state_dict({name.removeprefix("network."): value for name, value in model.state_dict().items()})
    height, width = card.size
    processor = getattr(transformers, _PROCESSORS.get(kind, "Mask2FormerImageProcessor"))(
        size={"height": height, "width": width},
        image_mean=list(card.mean),
        image_std=list(card.std),
        do_reduce_labels=False,
    )

    def run(batch: NDArray[np.uint8]) -> tuple[NDArray[Any], None]:
        outputs = network(**processor(images=list(batch), return_tensors="pt"))
        sizes = [image.shape[:2] for image in batch]
        maps = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return np.stack([classes.numpy() for classes in maps]), None

    agreement = _compared(_Deployed(model.for_inference()), run, images)
    by_pixel = kind in _PROCESSORS
    _require_agreement(agreement, "transformers", LEAST_AGREEMENT if by_pixel else LEAST_AGREEMENT_OF_QUERIES)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        with _silent():
            network.save_pretrained(partial)
        processor.save_pretrained(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return agreement


def _onnx_bytes(deployed: nn.Module, example: Tensor, card: ModelCard) -> bytes:
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    with _silent():
        program: Any = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            dynamic_shapes={"images": {0: batch}},
            input_names=["images"],
            output_names=["classes", "scores"],
            opset_version=OPSET,
            verbose=False,
        )
    model = program.model_proto
    about = {
        "study": card.study,
        "trial": card.trial,
        "seed": card.seed,
        "categories": list(card.categories),
        "initial weights": card.weights.name,
        "licence of the initial weights": card.weights.licence,
        "drawn streets": card.drawn,
    }
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    content: bytes = model.SerializeToString()
    return content


def _compared(deployed: nn.Module, other: Any, images: NDArray[np.uint8]) -> Agreement:
    equal, pixels, difference = 0, 0, float("nan")
    with torch.inference_mode():
        for batch in _batches(images):
            classes, scores = (output.numpy() for output in deployed(torch.from_numpy(batch)))
            their_classes, their_scores = other(batch)
            equal, pixels = equal + int((classes == their_classes).sum()), pixels + classes.size
            if their_scores is not None:
                difference = float(np.fmax(difference, np.abs(scores - their_scores).max()))
    return Agreement(equal / pixels, difference)


def _batches(images: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    return [images[:size] for size in _BATCHES] + ([images[_BATCHES[-1] :]] if len(images) > _BATCHES[-1] else [])


def _require_agreement(agreement: Agreement, what: str, least: float = LEAST_AGREEMENT) -> None:
    if agreement.pixels < least:
        raise UserError(
            f"the exported model, run by {what}, agrees with PyTorch on only {agreement.pixels:.2%} of the pixels; "
            f"expected {least:.1%}. Nothing was written; please report it with the versions of torch and {what}"
        )


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    if missing := [package for package in packages if find_spec(package) is None]:
        raise UserError(f"the export needs {missing[0]}: pip install 'segbench[export]'")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hides the progress and warnings of torch's exporter, and the progress bar of transformers."""
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
