"""What every figure has in common. Colours that change between light and dark are left to page.js."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from segbench.report.text.i18n import separators
from segbench.stats import Interval

# One per architecture, in the protocol's order. The first two are ColorBrewer's (Spectral, Dark2; Harrower & Brewer,
# 2003). The others were searched by computer for the largest distance in OKLab (Ottosson, 2020) between any two, as
# seen with normal vision, protanopia, deuteranopia and tritanopia (simulated after Machado et al., IEEE TVCG 15, 2009),
# at a contrast that can be read on white and on near-black; `tests/test_report_theme.py` measures both. No twelve
# colours are easy to tell apart for everybody: each architecture also has its own marker, and figures of many name it.
COLOURS = (
    *("#2b83ba", "#d95f02", "#4848cc", "#9c6078", "#b43c00", "#00a8b4"),
    *("#906cfc", "#783c84", "#c090fc", "#903048", "#fc840c", "#84b478"),
)
DASHES = tuple(dash for dash in ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot") for _ in range(2))
SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "x", "star"),
    *("triangle-down", "cross", "pentagon", "hexagram", "bowtie", "hourglass"),
)
MANY = 5  # from so many architectures on, each has a panel or a row of its own instead of a place in a legend
GREY = "#8a8f98"
WRONG = "#d7191c"  # in an error map
BOTH_WRONG = "#3c3c44"  # where no architecture is right

# The parts of an epoch, or of an inference: one hue each, so that no colour stands for an architecture.
PART_COLOURS = ("#b8b0a2", "#6f9fb5", "#a9c7a0", "#c98d83", "#d9bf77", "#8d86a8", "#a3836b", "#cfcfcf")
SEQUENTIAL = {"meta": {"scale": "sequential"}}  # page.js gives such a trace the theme's colours


def colour(index: int) -> str:
    """An architecture's colour."""
    return COLOURS[index % len(COLOURS)]


def line(index: int, width: float = 2.5) -> dict[str, Any]:
    """An architecture's line."""
    return {"color": colour(index), "dash": DASHES[index % len(DASHES)], "width": width}


def symbol(index: int) -> str:
    """An architecture's marker."""
    return SYMBOLS[index % len(SYMBOLS)]


def safe(text: object) -> str:
    """Text for plotly, which would read tags and entities in it."""
    return html.escape(str(text), quote=False)


def finite(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None


def whiskers(
    intervals: Sequence[Interval], thickness: float = 1.2, width: int = 3, tint: str | None = None, scale: float = 1.0
) -> dict[str, Any]:
    """The intervals of a trace's points, as its error_x or error_y; `scale`: 100 for points of a share."""
    above = [scale * max(finite(each.high - each.estimate) or 0.0, 0.0) for each in intervals]
    below = [scale * max(finite(each.estimate - each.low) or 0.0, 0.0) for each in intervals]
    colours = {"color": tint} if tint else {}
    sizes = {"thickness": thickness, "width": width}
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **colours, **sizes}


def whole_step(count: int, most: int) -> int:
    """The distance between ticks of an axis that counts 0 … `count`: 1, 2, 5, 10, 20 …, for `most` ticks or fewer."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if step * most >= count:
                return step
        power *= 10


def figure(traces: list[Any], height: int, **layout: Any) -> go.Figure:
    """A figure that neither zooms nor pans: a page is scrolled with the finger that would do it."""
    made = go.Figure(traces)
    common = {
        "template": "none",
        "height": height,
        "margin": {"l": 48, "r": 12, "t": 12, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": False,
        "showlegend": False,  # page.html writes legends, which wrap on a phone
        "hoverlabel": {"align": "left"},
        "separators": separators(),
    }
    made.update_layout({**common, **layout})
    made.update_xaxes(fixedrange=True, automargin=True, zeroline=False)
    made.update_yaxes(fixedrange=True, automargin=True, zeroline=False)
    return made
