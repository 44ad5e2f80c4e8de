"""The options of a search and a promotion beside their protocol, shared by the commands and the Python API."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.core import tables
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol

OVERRIDES = ("trials", "hours", "weights", "sampler", "pruner")


@dataclass(frozen=True)
class Settings:
    """The data, the studies' database and the device. The defaults are those of the commands."""

    protocol: str  # a name under studies/, or a folder, as for --protocol
    data: Path | None = None  # the dataset's root; None: CITYSCAPES_DATASET, unless the protocol draws streets
    study_db: str | None = None  # URL or file of the studies' database; None: the one in storage/
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    precision: str = "auto"  # auto, bf16, fp32
    compiled: bool = False  # train through torch.compile

    def repeat(self, *architectures: str) -> str:
        """The arguments of a next command on the same protocol, data and studies, for a person to type, without a URL's
        password. `architectures`: none means all of the protocol."""
        from segbench.core import urls  # imports SQLAlchemy

        study_db = urls.shown(self.study_db) if self.study_db else None
        given = {"protocol": self.protocol, "data": self.data, "study-db": study_db}
        return "".join(f" {shlex.quote(part)}" for part in (*architectures, *_options(given)))


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Also a search's overrides of its protocol; None means the protocol's value."""

    trials: int | None = None  # finished trials in total
    hours: float | None = None  # device-hours per architecture, instead of trials
    weights: str | None = None  # "pretrained", "random", a state-dict file or a save_pretrained folder
    sampler: str | None = None
    pruner: str | None = None
    baseline: bool = False  # also run the [baseline] values, beside the plan
    keep_weights: bool = False  # keep every trial's best weights, so that a promotion scores them on the final images

    def applied(self, protocol: Protocol, architectures: Sequence[Architecture]) -> tuple[Protocol, list[Architecture]]:
        """The protocol and its architectures with these overrides. Raises UserError for invalid values, and for
        `baseline` if an architecture has none."""
        names = ("trials", "hours", "sampler", "pruner")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if "trials" in given or "hours" in given:  # one replaces the protocol's other
            given = {"trials": None, "hours": None, **given}
        with tables.located("command line"):
            search = dataclasses.replace(protocol.search, **given)
        if self.weights:
            architectures = [dataclasses.replace(each, weights=self.weights) for each in architectures]
        if self.baseline and (bare := [each.name for each in architectures if not each.baseline]):
            raise UserError(f"--baseline: {bare[0]}.toml of '{protocol.name}' has no table [baseline]; add one")
        if self.baseline and search.enqueue:
            raise UserError(
                f"--baseline runs the [baseline] values beside the plan; in '{protocol.name}' they are its first trial "
                f'([search] enqueue = "{search.enqueue}"); drop --baseline'
            )
        return dataclasses.replace(protocol, search=search), list(architectures)

    def repeat_search(self, *architectures: str) -> str:
        """The arguments that resume the same search, for a person to type: its study was created with these."""
        overrides = [*_options({name: getattr(self, name) for name in OVERRIDES})]
        overrides += ["--keep-weights"] if self.keep_weights else []
        return self.repeat(*architectures) + "".join(f" {shlex.quote(part)}" for part in overrides)

    def worker_arguments(self, architectures: Iterable[str]) -> list[str]:
        """All settings as arguments of `python -m segbench.search` for a worker, including a URL's password."""
        values = {name: getattr(self, name) for name in ("protocol", "data", "device", "precision", *OVERRIDES)}
        flags = {"--compile": self.compiled, "--baseline": self.baseline, "--keep-weights": self.keep_weights}
        options = [*_options({**values, "study-db": self.study_db}), *(flag for flag, on in flags.items() if on)]
        return [*options, "--", *architectures]


def _options(values: Mapping[str, object]) -> list[str]:
    """`--name value` for each value that is not None."""
    return [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]
