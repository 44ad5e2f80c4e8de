"""How much memory this process may still take."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

_OWN, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # bytes; control groups of version 1 say about 2**63 where there is no limit


def available() -> int:
    """Bytes that this process can take without swapping: what the machine can give, within the limits of the process's
    control groups (containers, batch systems) and of its address space (`ulimit -v`)."""
    left = [int(psutil.virtual_memory().available), *_left_by_groups()]
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        left.append(allowed - int(psutil.Process().memory_info().vms))
    return max(0, min(left))


def _left_by_groups() -> Iterator[int]:
    """What each control group that limits this process has left. Pages of files count as left: the kernel takes them
    back where memory is needed."""
    with contextlib.suppress(OSError):  # not on Linux
        for line in _OWN.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield from _left(_GROUPS, path, "memory.max", "memory.current", "")
            elif "memory" in controllers.split(","):
                yield from _left(_GROUPS / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _left(root: Path, path: str, limit: str, usage: str, prefix: str) -> Iterator[int]:
    """Of a group and of those above it. Inside a container the path may be the host's: then only the root exists."""
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError, KeyError):  # ValueError: "max", no limit
            allowed = int((folder / limit).read_text())
            if allowed < _UNLIMITED:
                pages = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                files = sum(int(pages[f"{prefix}{kind}_file"]) for kind in ("active", "inactive"))
                yield allowed - int((folder / usage).read_text()) + files
        if folder == root:
            return
