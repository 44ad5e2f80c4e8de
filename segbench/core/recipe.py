"""The table [recipe]: how a network is trained, beyond its optimizer, learning rate and weight decay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segbench.core.tables import Scalar, added, at_default, is_number, require, require_one_of, shown

SCHEDULES = ("constant", "poly", "cosine")
CLASS_WEIGHTS = ("none", "effective")
BATCHNORMS = ("train", "eval", "frozen")
_SHARES = ("warmup", "ema", "label_smoothing", "ohem")  # 0 or more, below 1
_FACTORS = ("power", "layer_decay")  # above 0
_OTHERS = ("backbone_lr", "clip_norm")  # 0 or more


@dataclass(frozen=True)
class Recipe:
    """Every field is off by default, as in the note's protocol. `protocol.toml` sets fields for all architectures,
    `<architecture>.toml` for one, and a name in `[space]` is searched."""

    schedule: str = added("constant")  # of the learning rate over all steps of a training: engine/schedule.py
    power: float = added(0.9)  # of "poly"
    warmup: float = added(0.0)  # the share of all steps in which the learning rate rises to its full value
    backbone_lr: float = added(1.0)  # factor of the backbone's learning rate; 0 keeps its weights
    layer_decay: float = added(1.0)  # factor of the learning rate per layer of the backbone, downward from the head
    no_decay: bool = added(False)  # no weight decay on norms, biases, embeddings and tables of positions
    clip_norm: float = added(0.0)  # gradients are scaled down to this Euclidean norm over all of them; 0: never
    ema: float = added(0.0)  # decay of the average of the weights that is evaluated and kept; 0: the weights themselves
    label_smoothing: float = added(0.0)  # the share of each label that is spread over all classes
    class_weights: str = added("none")  # in the loss of a pixel: architectures/parts/pixel_loss.py
    ohem: float = added(0.0)  # only pixels count whose true class has a probability below this; 0: all do
    batchnorm: str = added("train")  # "eval": keeps its statistics; "frozen": also its scale and shift

    def __post_init__(self) -> None:
        require_one_of("schedule", self.schedule, SCHEDULES)
        require_one_of("class_weights", self.class_weights, CLASS_WEIGHTS)
        require_one_of("batchnorm", self.batchnorm, BATCHNORMS)
        require(isinstance(self.no_decay, bool), f"no_decay must be true or false, not {shown(self.no_decay)}")
        for names, rule in (
            (_SHARES, "a number of 0 or more and below 1"),
            (_FACTORS, "a number above 0"),
            (_OTHERS, "a number of 0 or more"),
        ):
            for name in names:
                value = getattr(self, name)
                good = is_number(value) and value >= 0 and (names is not _SHARES or value < 1)
                require(good and (names is not _FACTORS or value > 0), f"{name} must be {rule}, not {shown(value)}")
        require(self.layer_decay <= 1, f"layer_decay must be at most 1, not {shown(self.layer_decay)}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The fields, which `[space]` may name."""
        return tuple(cls.__dataclass_fields__)

    def changed(self, values: Mapping[str, Scalar]) -> Recipe:
        """With these fields instead. Raises ValueError for a name or a value that cannot be."""
        for name in values:
            require(name in self.names(), f"{shown(name)} is no field of [recipe]; it has {', '.join(self.names())}")
        numbers = (*_SHARES, *_FACTORS, *_OTHERS)
        fields: dict[str, Any] = {n: float(v) if n in numbers and is_number(v) else v for n, v in values.items()}
        return dataclasses.replace(self, **fields)

    def given(self) -> dict[str, Scalar]:
        """The fields that are not at their defaults."""
        fields = [(f, getattr(self, f.name)) for f in dataclasses.fields(self)]
        return {f.name: value for f, value in fields if not at_default(f, value)}

    @property
    def weighs_pixels(self) -> bool:
        """Whether it changes the loss of a pixel, which only per-pixel losses have."""
        return bool(self.label_smoothing or self.ohem or self.class_weights != "none")

    @property
    def parts_backbone(self) -> bool:
        """Whether it trains the backbone at other rates than the head."""
        return self.backbone_lr != 1 or self.layer_decay != 1


OFF = Recipe()  # the note's protocol
