"""The architectures' colours and markers: for twelve, on white and near-black, for readers with colour blindness."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segbench.core import colour_vision
from segbench.report import page
from segbench.report.figures import theme

Colours = NDArray[np.float64]
# B. Ottosson, A perceptual color space for image processing, 2020.
TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                   [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def linear(colours: list[str]) -> Colours:
    encoded = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear([colour])[0] @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(
    ("seen", "least"), [("full", 10), ("protanopia", 9.5), ("deuteranopia", 9.5), ("tritanopia", 7.5)]
)
def test_no_two_colours_look_alike(seen: str, least: float) -> None:
    """Least distance in OKLab, black to white being 100; Okabe and Ito's seven reach 7.6, Tol's nine muted ones 5.2."""
    lab = np.cbrt(np.clip(linear(list(theme.COLOURS)) @ colour_vision.SEEN[seen].T, 0, 1) @ TO_LMS.T) @ TO_LAB.T * 100
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) >= least


def test_all_stand_out_from_the_page_in_both_themes() -> None:
    papers = re.findall(r"--paper: (#\w{6})", (Path(page.__file__).parent / "style.css").read_text())[:2]
    for colour, paper in itertools.product(theme.COLOURS, papers):
        low, high = sorted((luminance(colour), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 2.3, (colour, paper)


def test_each_of_twelve_has_a_marker_of_its_own_and_legends_know_it() -> None:
    assert len(set(theme.COLOURS)) == len(set(theme.SYMBOLS)) == len(theme.DASHES) == 12
    html = (Path(page.__file__).parent / "page.html").read_text()
    assert [shape for shape in theme.SYMBOLS if f'"{shape}": "M' not in html] == []
