"""A promotion without chance: `python -m torch.distributed.run --nproc-per-node 2 -m tests.together [options]`.

Without dropout and in float32 two processes must come to what one comes to.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch

from segbench import promote
from segbench.engine import speed
from segbench.runtime import terminal


def without_chance(patch: pytest.MonkeyPatch) -> None:
    """Also measures speed for a moment only."""
    patch.setattr(torch.nn.Dropout, "forward", lambda self, features: features)
    patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    patch.setattr(speed, "_SECONDS_PER_PART", 0.01)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patching:
        without_chance(patching)
        os.write(1, f"rank {os.environ['RANK']}\n".encode())  # in one piece: the other writes to the same pipe
        raise SystemExit(terminal.run(lambda: promote.main(sys.argv[1:])))
