"""The section of quality: how far apart, on which categories, where in the image, and how training went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segbench.core import paths
from segbench.core.records import EpochRecord
from segbench.report.figures import curves, quality
from segbench.report.figures.theme import GREY, MANY, colour
from segbench.report.numbers import pixels, tables
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.panoptic import Ceilings
from segbench.report.numbers.ranking import Ranking
from segbench.report.numbers.tables import PairwiseComparison, Summary
from segbench.report.page.blocks import (
    Block,
    Cell,
    Figure,
    Fold,
    Heading,
    Key,
    Plot,
    Prose,
    Section,
    Table,
    plot,
    single,
)
from segbench.report.sections import longer, panoptic, quality_many, ranks, scaling, seen, sentences
from segbench.report.sections.heads import candidate_cell, candidate_keys
from segbench.report.sections.summary import interval_cell, quality_table
from segbench.report.text.i18n import class_name, class_names, decimals, listed, percent, score, text

_NEAR = 2  # of pixels.EDGES: what lies nearer is called the border

ByCategory = list[tuple[Candidate, list[tables.ClassRow]]]


def section(
    comparison: Comparison,
    rows: Sequence[Summary],
    pairs: Sequence[PairwiseComparison],
    ranking: Ranking | None,
    borders: pixels.Borders | None,
    ceiling: pixels.Ceiling | None,
    objects: Ceilings | None = None,
) -> Section:
    """Intervals first, training curves last."""
    if rows:
        many = len(rows) >= MANY
        ordered = list(ranking.rows) if ranking else tables.ranked(rows)
        shown = ordered if many else rows  # many are in order of rank, few in the protocol's
        keys = candidate_keys([row.candidate for row in shown])
        categories = [
            (row.candidate, known)
            for row in shown
            if row.candidate.labels == comparison.labels and (known := tables.classes(row.candidate))
        ]
        blocks: list[Block] = [quality_table(ordered)] if many else []
        blocks += _differences(pairs, ranking)
        blocks += seen.blocks(comparison)
        blocks += panoptic.blocks(comparison, [row.candidate for row in shown], objects)
        if categories:
            blocks += _categories(categories, pairs, ceiling, many)
        blocks.append(_borders(comparison, shown, borders, keys))
        blocks += [quality_many.training(shown)] if many else _curves(comparison, rows, keys)
        blocks += longer.blocks([row.candidate for row in shown])
        blocks += scaling.blocks(comparison)
    else:
        blocks = [Prose((text("quality.nothing"),), tone="note")]
    return Section("quality", text("quality.title"), text("quality.short"), tuple(blocks))


def _differences(pairs: Sequence[PairwiseComparison], ranking: Ranking | None) -> list[Block]:
    """How far apart they are: of two everything, of more all pairs."""
    if ranking:
        return ranks.comparisons(ranking)
    if not pairs:
        return []
    # The first one's sentence stands at the front.
    said = tuple(sentences.by_category(pair) for pair in pairs[1:])
    return [*([Prose(said, tone="lead")] if said else []), _forest(pairs)]


def _forest(pairs: Sequence[PairwiseComparison]) -> Figure:
    reach = quality.reach(pairs)
    plots = []
    for pair in pairs:
        both = (pair.first.candidate, pair.second.candidate)
        keys = tuple(Key(text("figures.ahead", title=s.title), colour(s.index)) for s in both)
        keys += (Key(text("figures.uncertain"), GREY),)
        heading = " – ".join(s.title for s in both)
        drawn = quality.forest(pair, reach)
        plots.append(plot(f"forest-{both[1].index}", drawn, heading, len(pairs) == 1, keys))
    return Figure(text("quality.forest"), tuple(plots), text("quality.forest_caption"))


def _categories(
    categories: ByCategory, pairs: Sequence[PairwiseComparison], ceiling: pixels.Ceiling | None, many: bool
) -> list[Block]:
    if many:
        made = quality_many.categories(categories, _table(categories, ceiling), pairs, ceiling)
        return [made[0], Prose((_ceiling(ceiling),), tone="note"), *made[1:], quality_many.confusions(categories)]
    keys = candidate_keys([candidate for candidate, _ in categories], "box")
    labels = categories[0][0].labels
    known = dict(zip(class_names(labels), ceiling.iou, strict=True)) if ceiling else None
    bars = quality.class_bars(categories, known)
    caption = text("quality.bars_caption", ceiling=" " + text("quality.bars_ceiling") if ceiling else "")
    matrices = []
    for candidate, _ in categories:
        drawn = quality.confusion(tables.confusion(candidate), class_names(candidate.labels))
        label = f"{text('quality.confusion')}, {candidate.title}"
        matrices.append(Plot(f"confusion-{candidate.index}", drawn, label, quality.CONFUSION, candidate.title))
    return [
        single("class-bars", bars, text("quality.bars"), caption, keys),
        Prose((_ceiling(ceiling),), tone="note"),
        _table(categories, ceiling),
        Figure(text("quality.confusion"), tuple(matrices), text("quality.confusion_caption")),
    ]


def _ceiling(measured: pixels.Ceiling | None) -> str:
    if measured is None:
        return text("quality.ceiling_none", variable=paths.DATASET_VARIABLE)
    height, width = measured.size
    return text("quality.ceiling", height=height, width=width, miou=score(measured.miou), images=measured.images)


def _table(categories: ByCategory, ceiling: pixels.Ceiling | None) -> Table:
    columns = [Cell(text("quality.category")), Cell(text("quality.share"), number=True)]
    for candidate, _ in categories:
        columns += [
            candidate_cell(candidate, note=text(f"quality.{kind}"), number=True) for kind in ("iou", "official")
        ]
    if ceiling:
        columns.append(Cell(text("quality.ceiling_column"), number=True))
    rows = []
    for i, one in enumerate(categories[0][0].labels.classes):
        share = categories[0][1][i].share
        cells = [Cell(class_name(one), swatch=f"rgb{one.colour}"), Cell(_share(share), number=True, values=(share,))]
        for _, own in categories:
            official = own[i].iou_official
            cells += [interval_cell(own[i].iou), Cell(score(official), number=True, values=(official,))]
        if ceiling:
            value = ceiling.iou[i]
            cells.append(Cell(score(value), number=True, values=() if value is None else (value,)))
        rows.append(tuple(cells))
    return Table("categories", text("quality.table"), tuple(columns), tuple(rows), text("quality.table_caption"))


def _share(value: float) -> str:
    return f"{decimals(value * 100, 1)}\u00a0%"


def _borders(
    comparison: Comparison, rows: Sequence[Summary], measured: pixels.Borders | None, keys: tuple[Key, ...]
) -> Block:
    if measured is None:
        return Prose((text("quality.boundary_none", protocol_option=comparison.protocol_option),), tone="note")
    near = measured.near(_NEAR)
    candidates = [row.candidate for row in rows]
    each = [text("quality.boundary_each", error=percent(near[own.name]), title=own.title) for own in candidates]
    caption = text(
        "quality.boundary_caption",
        images=measured.images,
        near=pixels.EDGES[_NEAR],
        share=percent(measured.share(_NEAR)),
        list=listed(each),
    )
    if len(rows) >= MANY:
        return quality_many.borders(measured, candidates, text("quality.boundary"), caption)
    return single("borders", quality.borders(measured, candidates), text("quality.boundary"), caption, keys)


def _curves(comparison: Comparison, rows: Sequence[Summary], keys: tuple[Key, ...]) -> list[Block]:
    candidates = comparison.promoted
    majority = Key(text("figures.majority"), GREY, "dash")
    majorities = tables.majorities(rows)
    value = curves.curves(candidates, lambda e: e.value, majorities)
    accuracies = [tables.majority_accuracy(s) for s in candidates]
    accuracy = curves.curves(candidates, lambda e: e.pixel_accuracy, accuracies)
    nll = curves.curves(candidates, lambda e: e.val_nll)
    selection = max((model.card.selection_images for s in candidates for model in s.models), default=0)
    return [
        Heading(text("quality.learning")),
        *([Prose((text("quality.learning_selection", images=selection),), tone="note")] if selection else []),
        _named("miou" if majorities else "pq", value, (*keys, majority) if majorities else keys, half=True),
        _named("accuracy", accuracy, (*keys, majority), half=True),
        _named("nll", nll, keys),
        Fold(
            text("quality.losses"),
            (
                _losses(candidates, "train_loss", lambda e: e.train_loss),
                _losses(candidates, "val_loss", lambda e: e.val_loss),
            ),
        ),
    ]


def _named(key: str, drawn: object, keys: tuple[Key, ...], half: bool = False) -> Figure:
    return single(key, drawn, text(f"quality.{key}"), text(f"quality.{key}_caption"), keys, half)


def _losses(candidates: Sequence[Candidate], key: str, value: Callable[[EpochRecord], float]) -> Figure:
    """One plot per architecture, each with its own axis."""
    drawn = [(candidate, curves.curves([candidate], value)) for candidate in candidates]
    plots = tuple(plot(f"{key}-{candidate.index}", figure, candidate.title) for candidate, figure in drawn)
    return Figure(text(f"quality.{key}"), plots, text(f"quality.{key}_caption"))
