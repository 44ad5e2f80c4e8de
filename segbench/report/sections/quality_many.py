"""The section of quality for many architectures: a row or a panel each, where few share a figure with a legend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segbench.core.labels import LabelSet
from segbench.core.records import EpochRecord
from segbench.report.figures import curves, quality, ranks
from segbench.report.numbers import pixels, tables
from segbench.report.numbers.comparison import Candidate
from segbench.report.numbers.tables import ClassRow, PairwiseComparison, Summary
from segbench.report.page.blocks import Block, Cell, Figure, Plot, Table, plot
from segbench.report.sections.heads import candidate_cell
from segbench.report.text.i18n import class_name, class_names, decimals, score, signed, text

ByCategory = Sequence[tuple[Candidate, Sequence[ClassRow]]]


def categories(
    own: ByCategory, long: Table, pairs: Sequence[PairwiseComparison], ceiling: pixels.Ceiling | None
) -> list[Block]:
    """A panel per category with every architecture; the table with a row per architecture, `long` as its CSV; the
    distance from the best per category."""
    panels = []
    for i, name in enumerate(class_names(own[0][0].labels)):
        drawn = ranks.category([(candidate, rows[i].iou) for candidate, rows in own], ceiling and ceiling.iou[i])
        panels.append(plot(f"category-{i}", drawn, name))
    caption = text("quality.panels_caption") + (text("quality.bars_ceiling") if ceiling else "")
    blocks: list[Block] = [Figure(text("quality.bars"), tuple(panels), caption), _table(own, long, ceiling)]
    return [*blocks, _differences(pairs)] if pairs else blocks


def confusions(own: ByCategory) -> Figure:
    """Two matrices at a time, which the reader chooses."""
    plots = []
    for candidate, _ in own:
        drawn = quality.confusion(tables.confusion(candidate), class_names(candidate.labels))
        label = f"{text('quality.confusion')}, {candidate.title}"
        name = f"confusion-{candidate.index}"
        plots.append(Plot(name, drawn, label, quality.CONFUSION, candidate.title, choice=candidate.title))
    return Figure(text("quality.confusion"), tuple(plots), text("quality.confusion_caption"), shown=2)


def borders(measured: pixels.Borders, candidates: Sequence[Candidate], title: str, caption: str) -> Figure:
    """A panel per architecture, the others grey behind it."""
    plots = [
        plot(f"borders-{own.index}", quality.borders(measured, [own], candidates), own.title) for own in candidates
    ]
    return Figure(title, tuple(plots), f"{caption} {text('figures.behind_caption')}", small=True)


def training(rows: Sequence[Summary]) -> Figure:
    """A panel per architecture, the others grey behind it; one measure at a time, which the reader chooses."""
    candidates = [row.candidate for row in rows]
    accuracies = [tables.majority_accuracy(candidate) for candidate in candidates]
    majorities = tables.majorities(rows)
    plots = [
        *_panels("miou" if majorities else "pq", candidates, lambda e: e.value, majorities),
        *_panels("accuracy", candidates, lambda e: e.pixel_accuracy, accuracies),
        *_panels("nll", candidates, lambda e: e.val_nll),
        *_panels("train_loss", candidates, lambda e: e.train_loss, alone=True),
        *_panels("val_loss", candidates, lambda e: e.val_loss, alone=True),
    ]
    caption = f"{text('quality.training_caption')} {text('figures.behind_caption')}"
    return Figure(text("quality.learning"), tuple(plots), caption, shown=1, small=True)


def _panels(
    key: str,
    candidates: Sequence[Candidate],
    value: Callable[[EpochRecord], float],
    baselines: Sequence[float | None] = (),
    alone: bool = False,
) -> list[Plot]:
    """`alone`: losses cannot be compared, so no other architecture is behind them."""
    drawn = []
    for own in candidates:
        made = curves.curves([own], value, baselines, () if alone else candidates)
        choice = text(f"quality.{key}")
        name, label = f"{key}-{own.index}", f"{choice}, {own.title}"
        drawn.append(Plot(name, made, label, made.layout.height, own.title, choice=choice))
    return drawn


def _table(own: ByCategory, long: Table, ceiling: pixels.Ceiling | None) -> Table:
    heads = _heads(own[0][0].labels)
    best = [max((rows[i].iou.estimate for _, rows in own), default=0.0) for i in range(len(heads))]
    lines = [
        (
            candidate_cell(candidate),
            *(
                Cell(score(row.iou.estimate), best=row.iou.estimate == top, number=True)
                for row, top in zip(rows, best, strict=True)
            ),
        )
        for candidate, rows in own
    ]
    shares = [Cell(f"{decimals(row.share * 100, 1)}\u00a0%", number=True, quiet=True) for row in own[0][1]]
    lines.append((Cell(text("quality.share")), *shares))
    if ceiling:
        lines.append((Cell(text("quality.ceiling_column")), *(Cell(score(v), number=True) for v in ceiling.iou)))
    columns = (Cell(text("many.architecture")), *heads)
    caption = text("quality.table_caption_many")
    return Table(
        long.id, long.title, columns, tuple(lines), caption, dense=True, csv_rows=long.rows, csv_columns=long.columns
    )


def _differences(pairs: Sequence[PairwiseComparison]) -> Table:
    best = pairs[0].first.candidate
    rows = [
        (
            candidate_cell(pair.second.candidate),
            *(
                Cell(
                    signed(-delta.estimate),
                    number=True,
                    quiet=not delta.excludes_zero,
                    values=tuple(-v * 100 for v in (delta.estimate, delta.high, delta.low)),
                )
                for delta in pair.iou
            ),
        )
        for pair in pairs
    ]
    columns = (Cell(text("many.architecture")), *_heads(best.labels))
    title = text("quality.differences", title=best.title)
    return Table("differences", title, columns, tuple(rows), text("quality.differences_caption"), dense=True)


def _heads(labels: LabelSet) -> list[Cell]:
    return [Cell(class_name(one), swatch=f"rgb{one.colour}", number=True) for one in labels.classes]
