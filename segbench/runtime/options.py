"""The options that search and promote share, and their meaning."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from segbench.core import paths, protocol
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol
from segbench.core.records import PRECISIONS
from segbench.runtime import terminal

LICENCE_VARIABLE = "SEGBENCH_ACCEPT_LICENCE"


class Shared(TypedDict):
    """The values of `parser`'s options without the architectures: the fields of `experiment.settings.Settings`."""

    protocol: str
    data: Path | None
    study_db: str | None
    device: str
    precision: str
    compiled: bool


def parser(description: str | None) -> argparse.ArgumentParser:
    """The argument parser of a command that runs architectures of a protocol."""
    result = terminal.parser(description)
    result.add_argument("architecture", nargs="*", help="which of the protocol's architectures; default: all of them")
    add_protocol(result)
    add_data(result)
    add_study_db(result)
    add_device(result)
    result.add_argument("--compile", action="store_true", help="train through torch.compile (CUDA)")
    result.set_defaults(resumes=True)
    return result


def add_protocol(target: argparse.ArgumentParser) -> None:
    """--protocol."""
    target.add_argument(
        "--protocol",
        metavar="NAME|DIR",
        help="a name under studies/, or a folder; default: cityscapes if a dataset is given, else demo",
    )


def add_data(target: argparse.ArgumentParser) -> None:
    """--data."""
    target.add_argument(
        "--data",
        metavar="DIR",
        help=f"the dataset's root, or a folder of its .zip archives; default: ${paths.DATASET_VARIABLE}",
    )


def add_device(target: argparse.ArgumentParser) -> None:
    """--device and --precision."""
    target.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: auto")
    target.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of forward passes; default: auto, which is bf16 if the device supports it natively, else fp32",
    )


def add_accept_licence(target: argparse.ArgumentParser) -> None:
    """--accept-licence. `parse` passes it on in the environment, which workers inherit."""
    target.add_argument(
        "--accept-licence",
        action="store_true",
        help="download weights whose licence forbids commercial use, such as Mask2Former's; see segbench.weights",
    )


def add_study_db(target: argparse.ArgumentParser) -> None:
    """--study-db."""
    target.add_argument(
        "--study-db",
        metavar="URL|FILE",
        help="the studies' database, such as postgresql+psycopg://USER@HOST/DATABASE for workers on several hosts; "
        f"default: ${paths.STUDY_DB_VARIABLE}, else a SQLite file in storage/",
    )


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parses the arguments and applies the common ones."""
    arguments = parser.parse_args(argv)
    terminal.configure(arguments)
    if getattr(arguments, "accept_licence", False):
        os.environ[LICENCE_VARIABLE] = "1"
    return arguments


def read(arguments: argparse.Namespace) -> tuple[Protocol, list[Architecture]]:
    """The chosen protocol and architectures. Raises UserError for mistakes in their files."""
    return chosen(folder_of(arguments), arguments.architecture)


def chosen(folder: Path, names: Sequence[str]) -> tuple[Protocol, list[Architecture]]:
    """The protocol in `folder`, and its architectures `names`, by default all. Prints which files of the user's code
    will be run. Raises UserError for mistakes in their files."""
    names = list(dict.fromkeys(names)) or protocol.architecture_names(folder)
    if not names:
        raise UserError(f"{folder} has no architecture: put a deeplab.toml beside its protocol.toml")
    loaded, architectures = protocol.load(folder), [protocol.load_architecture(folder, name) for name in names]
    for code in (architecture.code for architecture in architectures):
        if code:
            terminal.say(f"running your code {folder / code.name} (sha256 {code.sha256[:12]})")
    return loaded, architectures


def shared(arguments: argparse.Namespace) -> Shared:
    """The options of `parser`, typed."""
    return {
        "protocol": arguments.protocol or paths.default_protocol(arguments.data),
        "data": Path(arguments.data) if arguments.data else None,
        "study_db": arguments.study_db,
        "device": arguments.device,
        "precision": arguments.precision,
        "compiled": arguments.compile,
    }


def folder_of(arguments: argparse.Namespace) -> Path:
    """The folder of the chosen protocol."""
    return paths.protocol_folder(arguments.protocol or paths.default_protocol(getattr(arguments, "data", None)))


def repeat_args(arguments: argparse.Namespace, architecture: str = "") -> str:
    """The same options as text, for a next command to type; `architecture`: only this one."""
    chosen = [architecture] if architecture else getattr(arguments, "architecture", [])
    names = "".join(f" {name}" for name in chosen)
    data = f" --data {shlex.quote(arguments.data)}" if arguments.data else ""
    return f"{names}{repeat_protocol(arguments)}{data}{repeat_study_db(arguments)}"


def repeat_protocol(arguments: argparse.Namespace) -> str:
    """The same --protocol as text, for a next command without a dataset, which could not guess the protocol."""
    return f" --protocol {shlex.quote(arguments.protocol or paths.default_protocol(arguments.data))}"


def repeat_study_db(arguments: argparse.Namespace) -> str:
    """The same --study-db as text, without its password."""
    given = getattr(arguments, "study_db", None)
    if not given:
        return ""
    from segbench.core import urls

    return f" --study-db {shlex.quote(urls.shown(given))}"
