"""Learning curves as pictures."""

from __future__ import annotations

import concurrent.futures
import io

import numpy as np
import pytest
from PIL import Image

from segbench.core.records import EpochRecord, EpochSeconds
from segbench.ledger import curves


def epoch(number: int, miou: float) -> EpochRecord:
    seconds = EpochSeconds(*(0.0 for _ in EpochSeconds.__dataclass_fields__))
    return EpochRecord(number, 1.0, 1.0, 1.0, 0.5, miou, miou, (0.5,) * 8, seconds, 1.0, 1.0)


def test_a_learning_curve_shows_what_was_recorded() -> None:
    """A line in its colour for each of the four quantities, also where there is one epoch or all values are equal."""
    for records in ([epoch(1, 0.5)], [epoch(1, 0.5), epoch(2, 0.5)], [epoch(1, 0.2), epoch(2, 0.4)]):
        with Image.open(io.BytesIO(curves.png(records))) as picture:
            assert (picture.format, picture.size) == ("PNG", curves.SIZE)
            pixels = np.asarray(picture.convert("RGB"))
        for half in np.split(pixels, 2, axis=1):
            for colour in ((31, 119, 180), (217, 95, 2)):
                assert (half == colour).all(-1).sum() > 5
    assert curves.png([epoch(1, 0.2), epoch(2, 0.4)]) != curves.png([epoch(1, 0.4), epoch(2, 0.2)])


@pytest.mark.slow
def test_learning_curves_are_the_same_bytes_from_any_thread() -> None:
    several = [[epoch(1, 0.1 * n), epoch(2, 0.2)] for n in range(4)] * 2
    alone = [curves.png(records) for records in several]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(curves.png, several)) == alone
