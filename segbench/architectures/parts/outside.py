"""Architectures from outside of this package: a file of the user's own, or what an installed package offers.

A package offers a module with a `build` function under the entry point group `segbench.architectures`:

    [project.entry-points."segbench.architectures"]
    my_net = "my_package.my_net"
"""

from __future__ import annotations

import functools
import linecache
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from segbench.core import code as sources
from segbench.core.errors import UserError
from segbench.core.records import Code

GROUP = "segbench.architectures"


def installed() -> dict[str, list[EntryPoint]]:
    """What installed packages offer, by name; more than one where several offer the same. It imports none of them."""
    offered: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        offered.setdefault(point.name, []).append(point)
    return offered


def package(point: EntryPoint) -> Code:
    """Which package it is of, as a requirement that pip understands."""
    return Code("package", f"{point.dist.name}=={point.dist.version}" if point.dist else point.module, "")


def load(name: str, points: list[EntryPoint]) -> ModuleType:
    """Imports the module that a package offers. Raises UserError where it cannot, or where several offer the name."""
    if len(points) > 1:
        packages = " and ".join(sorted(package(point).name for point in points))
        raise UserError(f"{packages} both offer an architecture '{name}'; uninstall one of them")
    who = f"architecture '{name}' of {package(points[0]).name}"
    try:
        module = points[0].load()
    except Exception as error:
        raise UserError(f"{who} cannot be imported ({failure(error)}); reinstall or repair it") from error
    if not isinstance(module, ModuleType):
        raise UserError(f"{who}: its entry point is {points[0].value}, but must name a module, not what is in one")
    return module


def build_of(path: Path) -> Callable[..., Any]:
    """The function `build` of a file, which is run. Raises UserError where it has none, or cannot be run."""
    build = getattr(run(sources.read(path)), "build", None)
    if not callable(build):
        raise UserError(f"{path} has no function 'build(classes, weights)' that returns a Segmenter")
    found: Callable[..., Any] = build
    return found


def run(code: Code) -> ModuleType:
    """Runs a file, once per process, as a module. Raises UserError where it cannot be run."""
    return _run(code.name, code.text)


@functools.cache
def _run(name: str, text: str) -> ModuleType:
    module = ModuleType(f"segbench_outside.{name.removesuffix('.py')}")
    module.__file__ = name
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # tracebacks show its lines
    sys.modules[module.__name__] = module  # where dataclasses look for their module
    try:
        exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise UserError(f"{name} cannot be run ({failure(error, name)}); fix it and rerun") from error
    return module


def failure(error: BaseException, file: str = "") -> str:
    """What went wrong in somebody else's code, in one line, with the line of `file` where it did."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    where = f"line {lines[-1]}: " if lines else ""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{where}{type(error).__name__}: {message}".strip().rstrip(":")
