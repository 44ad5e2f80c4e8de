"""What a search and a promotion are told beside their protocol: the options of the commands and of the Python API."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.core import tables
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol

OVERRIDES = ("trials", "weights", "sampler", "pruner")


@dataclass(frozen=True)
class Settings:
    """Where data and studies are, and what computes. The defaults are those of the commands."""

    protocol: str  # as --protocol names it: a name under studies/, or a folder
    data: Path | None = None  # the dataset's root; None: CITYSCAPES_DATASET, where the protocol draws no streets
    study_db: str | None = None  # URL or file of the studies' database; None: the one in storage/
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: str = "auto"  # auto, bf16, fp32
    compiled: bool = False  # train through torch.compile

    def repeat(self, *architectures: str) -> str:
        """The arguments of a next command on the same protocol, data and studies, for a person to type: a URL's
        password is left out. `architectures`: none for all of the protocol."""
        from segbench.core import urls  # imports SQLAlchemy

        study_db = urls.shown(self.study_db) if self.study_db else None
        given = {"protocol": self.protocol, "data": self.data, "study-db": study_db}
        return "".join(f" {shlex.quote(part)}" for part in (*architectures, *_options(given)))


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Also what a search may do otherwise than the protocol says; None: as the protocol says."""

    trials: int | None = None  # finished ones in total
    weights: str | None = None  # "pretrained", "random", a state-dict file or a save_pretrained folder
    sampler: str | None = None
    pruner: str | None = None
    baseline: bool = False  # also run the [baseline] values, beside the plan
    keep_weights: bool = False  # every trial's best weights, so that a promotion scores them on the final images

    def applied(self, protocol: Protocol, architectures: Sequence[Architecture]) -> tuple[Protocol, list[Architecture]]:
        """The protocol and its architectures with what these settings override. Raises UserError for values that
        cannot be, and where the baseline is asked of an architecture that has none."""
        given = {name: getattr(self, name) for name in ("trials", "sampler", "pruner")}
        with tables.located("command line"):
            search = dataclasses.replace(protocol.search, **{k: v for k, v in given.items() if v is not None})
        if self.weights:
            architectures = [dataclasses.replace(each, weights=self.weights) for each in architectures]
        if self.baseline and (bare := [each.name for each in architectures if not each.baseline]):
            raise UserError(f"--baseline: {bare[0]}.toml of '{protocol.name}' has no table [baseline]; write one there")
        return dataclasses.replace(protocol, search=search), list(architectures)

    def repeat_search(self, *architectures: str) -> str:
        """The arguments that go on with the same search, for a person to type: its study was made with these."""
        overrides = [*_options({name: getattr(self, name) for name in OVERRIDES})]
        overrides += ["--keep-weights"] if self.keep_weights else []
        return self.repeat(*architectures) + "".join(f" {shlex.quote(part)}" for part in overrides)

    def worker_arguments(self, architectures: Iterable[str]) -> list[str]:
        """All of it as the arguments of `python -m segbench.search`, for a worker: a URL's password included."""
        values = {name: getattr(self, name) for name in ("protocol", "data", "device", "precision", *OVERRIDES)}
        flags = {"--compile": self.compiled, "--baseline": self.baseline, "--keep-weights": self.keep_weights}
        options = [*_options({**values, "study-db": self.study_db}), *(flag for flag, on in flags.items() if on)]
        return [*options, "--", *architectures]


def _options(values: Mapping[str, object]) -> list[str]:
    """`--name value` for each that is given."""
    return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]
