"""Makes `import torchvision` work where its compiled operators do not load.

The registry's torchvision wheel is built for CUDA. Beside a CPU build of torch its library does not load, and the
import fails with "operator torchvision::nms does not exist" (transformers' Mask2Former imports torchvision too).
segbench calls no compiled operator of torchvision, so declaring the two names its import looks up is enough.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARIES = ("_C", "_C_stable")  # the second from torchvision 0.29 on
_keep: list[torch.library.Library] = []  # a declaration lives as long as its Library


def ensure_importable() -> None:
    """Declares torchvision::nms and ::qnms where torchvision's own library cannot. Harmless to call twice."""
    if _keep or "torchvision" in sys.modules or _own_operators_load():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]
    _keep.append(library)


def _own_operators_load() -> bool:
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return True  # let the import itself say what is missing
    folders = list(package.submodule_search_locations)
    return any(_loads(importlib.machinery.PathFinder.find_spec(name, folders)) for name in _LIBRARIES)


def _loads(library: importlib.machinery.ModuleSpec | None) -> bool:
    if library is None or library.origin is None:
        return False
    try:
        torch.ops.load_library(library.origin)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True
