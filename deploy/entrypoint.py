"""What the API's container runs: `python -m segbench.serve` on as many threads as the container has cores.

torch and OpenBLAS count the machine's cores, whatever a control group leaves of them.
"""

from __future__ import annotations

import math
import os
import runpy
import signal
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def cores(groups: Path = _GROUPS) -> int:
    """The whole cores that this process may use, at least 1: by its control group's quota (version 2, else 1), and by
    the processors it may run on."""
    allowed = len(os.sched_getaffinity(0))
    for quota, period in (_second_version(groups), _first_version(groups)):
        if quota > 0 and period > 0:
            return max(1, min(allowed, math.floor(quota / period)))
    return allowed


def _second_version(groups: Path) -> tuple[int, int]:
    try:
        quota, period = (groups / "cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):  # no such file; "max 100000" is no quota
        return 0, 0


def _first_version(groups: Path) -> tuple[int, int]:
    try:
        read = [int((groups / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")]
        return read[0], read[1]  # -1 is no quota
    except (OSError, ValueError):
        return 0, 0


def main() -> None:
    """Becomes the server."""
    # A container's first process ignores what it has no handler for; the server sets its own once it has started.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    runpy.run_module("segbench.serve", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
