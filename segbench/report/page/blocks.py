"""What a page is made of: sections of blocks. They hold plain text; page.html escapes all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# `kind` tells page.html which macro draws the block.


@dataclass(frozen=True)
class Key:
    """One entry of a plot's legend."""

    text: str
    colour: str
    shape: str = "box"  # "box", "line", "dash", or one of theme.SYMBOLS


@dataclass(frozen=True)
class Plot:
    """One plotly figure."""

    id: str
    figure: Any  # plotly.graph_objects.Figure
    label: str  # for those who cannot see it
    height: int  # pixels
    heading: str = ""  # above it, where a figure block holds several
    wide: bool = False  # across the whole figure
    keys: tuple[Key, ...] = ()
    choice: str = ""  # where the figure shows some of its plots at a time: what the reader chooses this one by


@dataclass(frozen=True)
class Figure:
    """Plots side by side under one caption; or, on a screen, only those of so many `choices` at a time."""

    title: str
    plots: tuple[Plot, ...]
    caption: str
    half: bool = False  # beside the next half one, where there is room
    shown: int = 0  # how many choices are shown at a time; 0: all plots
    small: bool = False  # many plots of the same axes: more of them side by side
    keys: tuple[Key, ...] = ()  # of all plots together
    kind: str = "figure"

    @property
    def choices(self) -> tuple[str, ...]:
        """What the reader chooses from, in order."""
        return tuple(dict.fromkeys(plot.choice for plot in self.plots))


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    note: str = ""  # smaller, after the text
    best: bool = False  # the best of its row
    swatch: str = ""  # a colour before the text
    symbol: str = ""  # one of theme.SYMBOLS: the swatch's shape, else a square
    number: bool = False
    shade: float = 0.0  # 0..1: how strong the colour behind it is
    quiet: bool = False  # of less weight than its neighbours
    values: tuple[float, ...] = ()  # the numbers behind the text, for the CSV: one, or estimate, low and high


@dataclass(frozen=True)
class Table:
    """The first cell of each row is its header."""

    id: str  # also the CSV file's name
    title: str
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    dense: bool = False
    cards: bool = False  # on a phone each row is a card, read from top to bottom
    csv_rows: tuple[tuple[Cell, ...], ...] = ()  # what the CSV holds, where that is more than the page shows
    csv_columns: tuple[Cell, ...] = ()  # and under which heads, where these are others
    kind: str = "table"


@dataclass(frozen=True)
class Prose:
    """Paragraphs. `tone`: "", "lead", "note" or "warning"."""

    paragraphs: tuple[str, ...]
    tone: str = ""
    kind: str = "prose"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str
    swatch: str = ""
    symbol: str = ""
    note: str = ""
    kind: str = "heading"


@dataclass(frozen=True)
class Fold:
    """Blocks that a screen shows when asked to, and paper always."""

    title: str
    blocks: tuple[Block, ...]
    swatch: str = ""
    symbol: str = ""
    kind: str = "fold"


@dataclass(frozen=True)
class Item:
    """One line of a checklist."""

    held: bool | None  # None: neither; the protocol compares just that
    title: str
    detail: str


@dataclass(frozen=True)
class Checklist:
    """Conditions that held or did not."""

    title: str
    items: tuple[Item, ...]
    caption: str = ""
    kind: str = "checklist"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]
    title: str = ""
    half: bool = False  # beside the next half one, where there is room
    kind: str = "points"


@dataclass(frozen=True)
class Picture:
    """One layer of a scene. `key` names the layer: the same in all scenes."""

    key: str
    source: str  # data URI, empty where the file is gone
    label: str
    note: str = ""
    swatch: str = ""
    symbol: str = ""
    pixels: bool = False  # a mask: enlarge without smoothing
    keys: tuple[tuple[str, str], ...] = ()  # (colour, what it means)


@dataclass(frozen=True)
class Scene:
    """One validation image, its truth and what each architecture made of it."""

    rule: str  # why it is shown, in words
    name: str
    note: str
    pictures: tuple[Picture, ...]
    first: bool  # of its rule: on paper, these stand for all


@dataclass(frozen=True)
class Gallery:
    """Scenes under one caption, one shown at a time; two of its layers lie on each other, parted by a slider."""

    title: str
    scenes: tuple[Scene, ...]
    left: str  # keys of the layers that the slider parts at first
    right: str
    size: tuple[int, int]  # (height, width) of the pictures
    caption: str
    derived: bool = False  # of many architectures, the browser draws where a mask is wrong, and who is right of two
    black_is_none: bool = False  # whether black in the truth is no class: such pixels are neither right nor wrong
    wrong: str = ""  # the colours it does so in
    both_wrong: str = ""
    kind: str = "gallery"


@dataclass(frozen=True)
class Strip:
    """Small pictures side by side under a heading."""

    heading: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Album:
    """Strips of pictures under one caption."""

    title: str
    strips: tuple[Strip, ...]
    caption: str
    kind: str = "album"


@dataclass(frozen=True)
class Legend:
    """The categories' colours."""

    entries: tuple[tuple[str, str, str], ...]  # colour, name, description
    kind: str = "legend"


@dataclass(frozen=True)
class Glossary:
    """Terms and what they mean."""

    entries: tuple[tuple[str, str, str], ...]  # key, term, meaning
    kind: str = "glossary"


Block = Figure | Table | Prose | Heading | Fold | Checklist | Points | Gallery | Album | Legend | Glossary


@dataclass(frozen=True)
class Section:
    """A part of the page; `short` stands in its contents."""

    id: str
    title: str
    short: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    kicker: str
    language: str
    banner: str  # "" where the images are photographs
    verdict: tuple[str, str]  # the headline, and what it rests on
    front: tuple[Block, ...]
    sections: tuple[Section, ...]
    newest: str  # when the newest row in the databases was written
    footer: str


def plot(name: str, drawn: Any, heading: str, wide: bool = False, keys: tuple[Key, ...] = ()) -> Plot:
    """A plotly figure under its heading."""
    return Plot(name, drawn, heading, int(drawn.layout.height), heading, wide, keys)


def single(name: str, drawn: Any, title: str, caption: str, keys: tuple[Key, ...] = (), half: bool = False) -> Figure:
    """A figure block of one plot."""
    return Figure(title, (Plot(name, drawn, title, int(drawn.layout.height), "", True, keys),), caption, half)
