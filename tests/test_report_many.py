"""A report of ten architectures: the sentences, the figures, the page in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.report.numbers import comparison
from tests.fabricated import PROTOCOL, fabricate, read

# Two that cannot be told apart, three close together, and the rest; titles as long as real ones.
TEN = {
    "deeplab": 0.30, "deeplabv3plus": 0.25, "efficientvit-b1": 0.221, "eomt-s": 0.10, "internimage-t": 0.1005,
    "lraspp": 0.40, "mask2former-swin-tiny": 0.13, "mask2former-light": 0.16, "segformer-b0": 0.24,
    "segformer-b2": 0.18,
}  # fmt: skip


@pytest.fixture(scope="session")
def ten(tmp_path_factory: pytest.TempPathFactory, made_databases: Path) -> Path:
    root = tmp_path_factory.mktemp("ten")
    fabricate(root, made_databases, PROTOCOL, errors=TEN)
    return root


@pytest.fixture(scope="session")
def of_ten(ten: Path) -> comparison.Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(ten / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return read(ten)
