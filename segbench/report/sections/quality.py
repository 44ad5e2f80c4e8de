"""The section of quality: how far apart, on which categories, where in the image, and how training went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segbench.core import paths
from segbench.core.labels import CATEGORIES, COLOURS
from segbench.core.records import EpochRecord
from segbench.report.figures import curves, quality
from segbench.report.figures.theme import GREY, colour
from segbench.report.numbers import pixels, tables
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.tables import PairwiseComparison, Summary
from segbench.report.page.blocks import Block, Cell, Figure, Heading, Key, Plot, Prose, Section, Table, one, plot
from segbench.report.sections import sentences
from segbench.report.sections.summary import interval_cell
from segbench.report.text.i18n import decimals, listed, percent, score, text

_NEAR = 2  # of pixels.EDGES: what lies nearer is called the border

Categories = list[tuple[Candidate, list[tables.ClassRow]]]


def section(
    ledgers: Comparison,
    rows: Sequence[Summary],
    comparisons: Sequence[PairwiseComparison],
    borders: pixels.Borders | None,
    ceiling: pixels.Ceiling | None,
) -> Section:
    """Intervals first, training curves last."""
    blocks: list[Block] = []
    if not rows:
        blocks.append(Prose((text("quality.nothing"),), tone="note"))
    else:
        keys = side_keys(rows)
        found = [(row.side, known) for row in rows if (known := tables.classes(row.side))]
        if comparisons:
            if len(comparisons) > 1:  # the first one's stands at the front
                blocks.append(Prose(tuple(sentences.by_category(duel) for duel in comparisons[1:]), tone="lead"))
            blocks.append(_forest(comparisons))
        if found:
            blocks += _categories(found, side_keys(rows, "box"), ceiling)
        blocks.append(_borders(ledgers, borders, keys))
        blocks += _curves(ledgers, rows, keys)
    return Section("quality", text("quality.title"), text("quality.short"), tuple(blocks))


def side_keys(rows: Sequence[Summary], shape: str = "line") -> tuple[Key, ...]:
    """The legend that says which colour is which architecture."""
    return tuple(Key(row.side.title, colour(row.side.index), shape) for row in rows)


def _forest(comparisons: Sequence[PairwiseComparison]) -> Figure:
    reach = quality.reach(comparisons)
    plots = []
    for duel in comparisons:
        both = (duel.first.side, duel.second.side)
        keys = tuple(Key(text("figures.ahead", title=s.title), colour(s.index)) for s in both)
        keys += (Key(text("figures.uncertain"), GREY),)
        heading = " – ".join(s.title for s in both)
        drawn = quality.forest(duel, reach)
        plots.append(plot(f"forest-{both[1].index}", drawn, heading, len(comparisons) == 1, keys))
    return Figure(text("quality.forest"), tuple(plots), text("quality.forest_caption"))


def _categories(found: Categories, keys: tuple[Key, ...], ceiling: pixels.Ceiling | None) -> list[Block]:
    known = dict(zip(CATEGORIES, ceiling.iou, strict=True)) if ceiling else None
    bars = quality.class_bars(found, known)
    caption = text("quality.bars_caption", ceiling=" " + text("quality.bars_ceiling") if ceiling else "")
    matrices = []
    for side, _ in found:
        drawn = quality.confusion(tables.confusion(side))
        label = f"{text('quality.confusion')}, {side.title}"
        matrices.append(Plot(f"confusion-{side.index}", drawn, label, quality.CONFUSION, side.title))
    return [
        one("class-bars", bars, text("quality.bars"), caption, keys),
        Prose((_ceiling(ceiling),), tone="note"),
        _table(found, ceiling),
        Figure(text("quality.confusion"), tuple(matrices), text("quality.confusion_caption")),
    ]


def _ceiling(found: pixels.Ceiling | None) -> str:
    if found is None:
        return text("quality.ceiling_none", variable=paths.DATASET_VARIABLE)
    height, width = found.size
    return text("quality.ceiling", height=height, width=width, miou=score(found.miou), images=found.images)


def _table(found: Categories, ceiling: pixels.Ceiling | None) -> Table:
    columns = [Cell(text("quality.category")), Cell(text("quality.share"), number=True)]
    for side, _ in found:
        columns.append(Cell(side.title, text("quality.iou"), swatch=colour(side.index), number=True))
        columns.append(Cell(side.title, text("quality.official"), swatch=colour(side.index), number=True))
    if ceiling:
        columns.append(Cell(text("quality.ceiling_column"), number=True))
    rows = []
    for i, name in enumerate(CATEGORIES):
        share = found[0][1][i].share
        cells = [Cell(name, swatch=f"rgb{COLOURS[i]}"), Cell(_share(share), number=True, values=(share,))]
        for _, own in found:
            official = own[i].iou_official
            cells += [interval_cell(own[i].iou), Cell(score(official), number=True, values=(official,))]
        if ceiling:
            value = ceiling.iou[i]
            cells.append(Cell(score(value), number=True, values=() if value is None else (value,)))
        rows.append(tuple(cells))
    return Table("categories", text("quality.table"), tuple(columns), tuple(rows), text("quality.table_caption"))


def _share(value: float) -> str:
    return f"{decimals(value * 100, 1)}\u00a0%"


def _borders(ledgers: Comparison, found: pixels.Borders | None, keys: tuple[Key, ...]) -> Block:
    if found is None:
        return Prose((text("quality.boundary_none", asked=ledgers.asked),), tone="note")
    titles = {side.name: side.title for side in ledgers.promoted}
    each = [
        text("quality.boundary_each", error=percent(error), title=titles[name])
        for name, error in found.near(_NEAR).items()
    ]
    caption = text(
        "quality.boundary_caption",
        images=found.images,
        near=pixels.EDGES[_NEAR],
        share=percent(found.share(_NEAR)),
        list=listed(each),
    )
    drawn = quality.borders(found, ledgers.promoted)
    return one("borders", drawn, text("quality.boundary"), caption, keys)


def _curves(ledgers: Comparison, rows: Sequence[Summary], keys: tuple[Key, ...]) -> list[Block]:
    candidates = ledgers.promoted
    majority = Key(text("figures.majority"), GREY, "dash")
    miou = curves.curves(candidates, lambda e: e.miou, [row.majority_miou for row in rows])
    accuracies = [tables.majority_accuracy(s) for s in candidates]
    accuracy = curves.curves(candidates, lambda e: e.pixel_accuracy, accuracies)
    nll = curves.curves(candidates, lambda e: e.val_nll)
    return [
        Heading(text("quality.learning")),
        _named("miou", miou, (*keys, majority), half=True),
        _named("accuracy", accuracy, (*keys, majority), half=True),
        _named("nll", nll, keys),
        _losses(candidates, "train_loss", lambda e: e.train_loss),
        _losses(candidates, "val_loss", lambda e: e.val_loss),
    ]


def _named(key: str, drawn: object, keys: tuple[Key, ...], half: bool = False) -> Figure:
    return one(key, drawn, text(f"quality.{key}"), text(f"quality.{key}_caption"), keys, half)


def _losses(candidates: Sequence[Candidate], key: str, value: Callable[[EpochRecord], float]) -> Figure:
    """One plot per architecture, each with its own axis."""
    drawn = [(side, curves.curves([side], value)) for side in candidates]
    plots = tuple(plot(f"{key}-{side.index}", figure, side.title) for side, figure in drawn)
    return Figure(text(f"quality.{key}"), plots, text(f"quality.{key}_caption"))
