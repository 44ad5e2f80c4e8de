"""The frozen records that travel between files, processes and databases, and their conversion to and from JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segbench.core.crops import WHOLE, Passes
from segbench.core.labels import DEFAULT, LabelSet
from segbench.core.panoptic import PANOPTIC, SEMANTIC, VALUE_NAMES
from segbench.core.recipe import OFF, Recipe
from segbench.core.tables import Scalar as Scalar

PRECISIONS = ("auto", "bf16", "fp32")  # values of --precision; "auto" becomes one of the others
Record = typing.TypeVar("Record")


@dataclass(frozen=True)
class WeightsOrigin:
    """Where training started from."""

    kind: str  # "random" | "pretrained" | "file" | "folder"
    name: str  # "seed 0", a weights' name, or a file's or folder's name
    sha256: str  # of the whole initial state: equal digests mean equal starting points
    licence: str = ""  # of published weights, in words


@dataclass(frozen=True)
class Code:
    """What builds an architecture that is not segbench's own."""

    kind: str  # "file": <architecture>.py beside its TOML | "package": installed, with an entry point
    name: str  # "my_net.py", or "my-package==1.2"
    sha256: str  # of the file's bytes; "" for a package
    # The digested source. It is never stored: code from a database or a card must never be run.
    text: str = field(default="", repr=False, compare=False, metadata={"stored": False})


@dataclass(frozen=True)
class Hyperparameters:
    """One configuration: what the trainer needs, and the architecture's options."""

    lr: float
    weight_decay: float
    optimizer: str  # "adam" | "adamw" | "sgd"
    model: Mapping[str, Scalar] = field(default_factory=dict)  # such as {"aux_loss": True}
    recipe: Recipe = OFF  # as trained: the TOML files' with the values drawn for this trial

    @classmethod
    def from_params(cls, params: Mapping[str, Scalar], recipe: Recipe = OFF) -> Hyperparameters:
        """From a flat mapping, such as a trial's parameters. Fields of Recipe replace those of `recipe`; names that are
        neither a field nor the trainer's are options of the architecture."""
        rest = dict(params)
        lr, weight_decay, optimizer = (rest.pop(name) for name in ("lr", "weight_decay", "optimizer"))
        drawn = {name: rest.pop(name) for name in params if name in Recipe.names()}
        return cls(float(lr), float(weight_decay), str(optimizer), rest, recipe.changed(drawn))

    def params(self) -> dict[str, Scalar]:
        """The flat mapping that `from_params` takes, without fields of the recipe that are off."""
        own: dict[str, Scalar] = {"lr": self.lr, "weight_decay": self.weight_decay, "optimizer": self.optimizer}
        return {**own, **self.recipe.given(), **self.model}


@dataclass(frozen=True)
class Device:
    """The device of a computation, and how it was used."""

    kind: str  # "cpu" | "cuda" | "mps"
    name: str  # of the chip, such as "NVIDIA H100 80GB HBM3"; "" where unknown
    threads: int  # on a CPU, of each process; 0 elsewhere
    processes: int  # that worked together, each on such a device
    precision: str  # of forward passes: "bf16" | "fp32"
    compiled: bool  # whether training's forward passes went through torch.compile

    @property
    def is_gpu(self) -> bool:
        """Whether `EpochRecord.peak_memory_gb` counts the device's memory, not the process's."""
        return self.kind == "cuda"

    @property
    def description(self) -> str:
        """For people: "2 × cpu (AMD EPYC, 2 threads), bf16"."""
        name = self.name or self.kind
        if self.kind == "cpu":
            threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
            name = f"cpu ({', '.join(filter(None, [self.name, threads]))})"
        group = f"{self.processes} × " if self.processes > 1 else ""
        return f"{group}{name}, {self.precision}{', compiled' if self.compiled else ''}"


@dataclass(frozen=True)
class EpochSeconds:
    """Wall-clock seconds of one epoch, by part. `total` is measured separately and includes time outside the parts.

    `bookkeeping` is the time between the previous epoch's end and this one's start: the checkpoint and the entries in
    Optuna and MLflow. It is 0 in the first epoch after a start; that of the last epoch is not recorded.
    """

    data: float
    forward: float
    loss: float
    backward: float
    optimizer: float
    evaluation: float
    bookkeeping: float
    total: float


@dataclass(frozen=True)
class Quality:
    """Panoptic scores of all images together, by `stats.panoptic`: 0..1, or None where no image has such a segment,
    true or predicted."""

    pq: float | None  # panoptic quality, sq · rq for one class: the mean over classes
    sq: float | None  # segmentation quality: the mean IoU of matched segments
    rq: float | None  # recognition quality: the F1 score of finding segments
    pq_things: float | None
    pq_stuff: float | None
    iiou: float | None  # IoU of things in which every instance weighs the same, whatever its size
    pq_classes: tuple[float | None, ...]  # per class, in the label set's order

    @property
    def value(self) -> float:
        """PQ, NaN if undefined."""
        return float("nan") if self.pq is None else self.pq


@dataclass(frozen=True)
class EpochRecord:
    """Measurements of one epoch of training. Everything named val_… and every score is of the validation images."""

    epoch: int  # 1, 2, …
    train_loss: float  # the architecture's own loss: not comparable between architectures
    val_loss: float  # likewise
    val_nll: float  # mean pixel negative log-likelihood, nats: comparable
    pixel_accuracy: float  # 0..1, over all pixels, void included
    miou: float  # 0..1, over all classes of the label set, void included, absent ones skipped
    miou_official: float  # 0..1, without void and ignored labels; of categories where the label set has them
    iou: tuple[float | None, ...]  # per class, in the label set's order; None where absent
    seconds: EpochSeconds
    images_per_second: float  # training images per second of training time, evaluation left out
    peak_memory_gb: float  # of the device on CUDA, of the process on CPU
    lr: float | None = None  # learning rate of the last step, of the head; None in records of earlier versions
    grad_norm: float | None = None  # Euclidean norm of all gradients before clipping, mean over the steps
    grad_norm_max: float | None = None  # the same, of the step where it was largest
    panoptic: Quality | None = None  # of panoptic protocols

    @property
    def value(self) -> float:
        """What searches, pruners and promotions maximise: a panoptic protocol's PQ, else the mIoU. NaN if undefined."""
        return self.miou if self.panoptic is None else self.panoptic.value

    @property
    def value_name(self) -> str:
        """What `value` is."""
        return VALUE_NAMES[SEMANTIC if self.panoptic is None else PANOPTIC]

    def without_timings(self) -> EpochRecord:
        """The record with its timings and memory set to 0: equal for equal training."""
        none = EpochSeconds(**dict.fromkeys(EpochSeconds.__dataclass_fields__, 0.0))
        return dataclasses.replace(self, seconds=none, images_per_second=0.0, peak_memory_gb=0.0)


def best_epoch(epochs: Iterable[EpochRecord]) -> EpochRecord | None:
    """The epoch with the highest value, the first of equals; None without epochs."""
    return max(epochs, key=lambda epoch: epoch.value, default=None)


@dataclass(frozen=True)
class SpeedCard:
    """Speed of one model apart from data loading. Images per second at `batch_size`, latency at batch 1."""

    device: Device
    batch_size: int
    size: tuple[int, int]  # (height, width)
    forward_images_per_second: float
    preprocess_images_per_second: float  # uint8 to normalised float
    postprocess_images_per_second: float  # scores to class map at full size
    inference_images_per_second: float  # the three together
    latency_ms: float  # one image through all three, median
    parameters: int
    peak_memory_gb: float
    gmac: float | None = None  # 1e9 multiply-accumulates of one image's forward pass; None on cards made before it


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to rebuild and verify a trained model. Stored as card.json beside its weights."""

    architecture: str
    title: str
    model: Mapping[str, Scalar]  # keyword arguments of the architecture's build
    categories: tuple[str, ...]  # the classes' names, those of `labels`
    size: tuple[int, int]  # (height, width) the network was trained at
    mean: tuple[float, ...]  # of pixels scaled to 0..1, per channel
    std: tuple[float, ...]
    hyperparameters: Hyperparameters
    batch_size: int
    protocol: str
    protocol_title: str
    drawn: bool  # True: trained on drawn streets, no Cityscapes result
    fingerprint: str  # of the protocol and space the search ran under
    data_fingerprint: str
    cache: str  # the packed dataset's folder under storage/cache
    weights: WeightsOrigin
    sha256: str  # of the bytes of best.safetensors beside the card
    study: str
    study_id: str  # the study's `StudyRecord.id`
    trial: int  # its index in the study
    attempt: int  # its number in Optuna
    seed: int
    epochs: int
    train_images: int
    val_images: int  # the final images, which `best` and `last` are scored on
    best: EpochRecord  # of the kept weights
    last: EpochRecord
    majority_miou: float  # 0..1, of predicting the most frequent training category everywhere
    speed: SpeedCard
    device: Device
    versions: Mapping[str, str]
    run_id: str  # MLflow
    seconds: float  # wall-clock of the whole promotion
    created: str  # UTC, ISO 8601
    code: Code | None = None  # of an architecture that is not segbench's own; a file's copy lies beside the card
    labels: LabelSet = DEFAULT  # what its classes are; older cards lack it
    keep: str = "best on final"  # how the kept epoch was chosen, one of protocol.KEEP
    selection_images: int = 0  # held-out train images that chose it
    images_given_up: int = 0  # train images that holding them out cost the training
    crop: tuple[int, int] | None = None  # (height, width) it was trained on, of `size`; None: whole images
    passes: Passes = WHOLE  # what its scores of an image are the mean of
    miou_original: float | None = None  # of the kept weights at the photographs' own sizes; None: not asked for
    task: str = SEMANTIC  # of its protocol, one of panoptic.TASKS


def to_json(record: Any) -> Any:
    """A record as plain dicts, lists and scalars."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_json(getattr(record, f.name)) for f in _stored(record)}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, (tuple, list)):
        return [to_json(item) for item in record]
    return record


def from_json(kind: type[Record], data: Any) -> Record:
    """The record that `to_json` made `data` from. Raises KeyError or TypeError if a field is missing or wrong."""
    return typing.cast(Record, _decode(kind, data))


def _stored(record: Any) -> list[dataclasses.Field[Any]]:
    """The fields that JSON holds."""
    return [f for f in dataclasses.fields(record) if f.metadata.get("stored", True)]


def _decode(hint: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        # A field with a default may be newer than the stored JSON.
        missing = dataclasses.MISSING
        written = [f for f in _stored(hint) if f.name in data or (f.default, f.default_factory) == (missing, missing)]
        return hint(**{f.name: _decode(hints[f.name], data[f.name]) for f in written})
    if origin is tuple and not isinstance(data, list):
        raise TypeError(f"expected a list, found {data!r}")
    if origin is tuple and arguments[-1] is Ellipsis:
        return tuple(_decode(arguments[0], item) for item in data)
    if origin is tuple:
        return tuple(_decode(part, item) for part, item in zip(arguments, data, strict=True))
    if origin in (typing.Union, types.UnionType):
        if data is None and types.NoneType in arguments:
            return None
        others = [a for a in arguments if a is not types.NoneType]
        if len(others) == 1:
            return _decode(others[0], data)
        kinds: list[Any] = [a for a in arguments if dataclasses.is_dataclass(a)]
        # Of several records, the one that has all these fields.
        part = next((a for a in kinds if len(kinds) == 1 or set(data) <= {f.name for f in _stored(a)}), None)
        accepted = (*arguments, int) if float in arguments else arguments
        if part is None and not isinstance(data, accepted):
            raise TypeError(f"expected a scalar, found {data!r}")
        return _decode(part, data) if part else data
    if origin is Mapping:
        if not isinstance(data, dict):
            raise TypeError(f"expected a table, found {data!r}")
        return {key: _decode(arguments[1], value) for key, value in data.items()}
    if hint is float and isinstance(data, int):
        return float(data)
    if hint in (int, float, str, bool) and not isinstance(data, hint):
        raise TypeError(f"expected {hint.__name__}, found {data!r}")
    return data
