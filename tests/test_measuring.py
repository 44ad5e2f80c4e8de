"""What promotion measures of a model's errors and confidence, on a network that is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segbench import promote, search
from segbench.core import paths
from segbench.engine import reliability
from segbench.ledger import measured
from segbench.stats import calibration
from tests.test_commands import call


def test_counts_of_confidence_and_entropy() -> None:
    """Two pixels of two classes: one sure and right, one undecided and wrong; a third has no label."""
    shares = torch.tensor([[[[0.99, 0.5, 0.5]], [[0.01, 0.5, 0.5]]]])
    labels, counted = torch.tensor([[[0, 1, 0]]]), torch.tensor([[[True, True, False]]])
    found = reliability.count(shares.log(), labels, counted)
    assert found.bins[0, 14].tolist() == pytest.approx([1, 1, 0.99])
    assert found.bins[0, 7].tolist() == pytest.approx([1, 0, 0.5])
    assert found.bins.sum(1)[0].tolist() == pytest.approx([2, 1, 1.49])
    assert found.entropies[0].sum(0).tolist() == [1, 1]
    assert float(calibration.auroc(found.entropies[0].numpy())) == 1
    softer = reliability.count(shares.log(), labels, counted, temperature=4.0)
    assert float(softer.bins[..., 2].sum()) < 1.49
    assert softer.bins[..., 1].sum() == 1


def test_entropy_is_0_where_sure_and_1_where_all_classes_are_alike() -> None:
    even = torch.full((1, 8, 2, 2), 1 / 8).log()
    sure = torch.tensor([1.0, *[0.0] * 7])[None, :, None, None].log()
    assert reliability.entropy(even).flatten().tolist() == pytest.approx([1] * 4)
    assert reliability.entropy(sure).item() == 0


def test_promotion_measures_and_completes_what_is_missing(
    storage: Path, protocol: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[Any] = ["deeplab", "--protocol", protocol, "--data", drawn]
    assert call(search, *where) == 0
    assert call(promote, *where) == 0
    folder = paths.model_folder("small-deeplab", 0)
    errors, found = folder / "errors.npz", folder / "reliability.npz"
    known = measured.read_errors(errors)
    assert known is not None
    assert known.grid == (4, 8)  # 32×64 at a stride of 8
    assert known.model.parts.shape == (8, 9, 7)  # void, which stands behind the classes, is judged nowhere
    assert known.model.parts[:, [0, 8]].sum() == 0
    hits = known.ceiling.total.parts[:, 0].sum()
    assert hits > known.model.total.parts[:, 0].sum()
    sure = measured.read_reliability(found)
    assert sure is not None
    assert sure.bins[..., 0].sum() == sure.entropies.sum() == sure.tempered[..., 0].sum()
    assert 0 < sure.temperature < math.inf
    assert sure.selection == 4
    assert sure.held_out  # the epoch was chosen on them, so that the training left their city out
    assert len(list((folder / "entropy").rglob("*.png"))) == 8

    errors.unlink()
    assert call(promote, *where) == 0  # promoted already, but not measured
    again = measured.read_errors(errors)
    assert again is not None
    assert all(np.array_equal(a, b) for a, b in zip(known.model, again.model, strict=True))
