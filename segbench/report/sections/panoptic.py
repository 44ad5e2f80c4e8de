"""What a panoptic protocol adds to the section of quality: PQ by class, found objects, the price in mIoU."""

from __future__ import annotations

from collections.abc import Sequence

from segbench import stats
from segbench.core import paths
from segbench.core.labels import LabelSet
from segbench.report.figures import panoptic as figures
from segbench.report.figures.theme import MANY
from segbench.report.numbers import panoptic
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.panoptic import GROUPS, Ceilings, Price
from segbench.report.page.blocks import Block, Cell, Heading, Prose, Table, single
from segbench.report.sections.heads import candidate_cell, candidate_keys
from segbench.report.sections.summary import interval_cell
from segbench.report.text.i18n import points, points_range, score, score_range, signed, text


def blocks(comparison: Comparison, candidates: Sequence[Candidate], ceilings: Ceilings | None) -> list[Block]:
    """None of semantic protocols, and where no counts of segments are there. candidates: in the order shown."""
    known = panoptic.shared([each for each in candidates if each.is_panoptic])
    if not known:
        return []
    labels = known[0].labels
    made: list[Block] = [Heading(text("panoptic.title")), _table(known, labels, ceilings)]
    made.append(Prose(_ceilings(labels, ceilings), tone="note"))
    made += [_found(known), *_prices(panoptic.prices(comparison))]
    return made


def _table(candidates: Sequence[Candidate], labels: LabelSet, ceilings: Ceilings | None) -> Table:
    """A row for all, things, stuff and each class. Of few architectures SQ and RQ too."""
    parts = ("pq", "sq", "rq") if len(candidates) < MANY else ("pq",)
    columns = [Cell(text("quality.category"))]
    columns += [candidate_cell(c, note=text(f"panoptic.{part}"), number=True) for c in candidates for part in parts]
    columns += [Cell(text(f"panoptic.ceiling_{kind}"), number=True) for kind in _kinds(ceilings)]
    rows = []
    for name, classes in panoptic.groups(labels):
        measured = [panoptic.quality(candidate, classes) for candidate in candidates]
        best = max((m.pq.estimate for m in measured if m and m.pq.estimate == m.pq.estimate), default=None)
        cells = [_name(name, classes, labels)]
        for each in measured:
            assert each  # `shared` has left those out that lack it
            cells.append(interval_cell(each.pq, len(candidates) > 1 and each.pq.estimate == best))
            cells += [Cell(score(v), number=True, values=(v,)) for v in (each.sq, each.rq) if len(parts) > 1]
        if ceilings:
            limits = [ceilings.of(ceilings.components, classes)]
            limits += [ceilings.of(ceilings.size, classes)] if ceilings.size else []
            cells += [Cell(score(limit), number=True, values=(limit,)) for limit in limits]
        rows.append(tuple(cells))
    rows.append(_iiou(candidates, len(parts), len(columns)))
    return Table("panoptic", text("panoptic.table"), tuple(columns), tuple(rows), text("panoptic.table_caption"))


def _kinds(ceilings: Ceilings | None) -> list[str]:
    if ceilings is None:
        return []
    return ["components", "size"] if ceilings.size else ["components"]


def _name(name: str, classes: panoptic.Classes, labels: LabelSet) -> Cell:
    if name in GROUPS and len(classes) != 1:
        return Cell(text(f"panoptic.{name}"))
    return Cell(name, swatch=f"rgb{labels.classes[classes[0]].colour}")


def _iiou(candidates: Sequence[Candidate], width: int, columns: int) -> tuple[Cell, ...]:
    cells = [Cell(text("panoptic.iiou"))]
    for candidate in candidates:
        value = panoptic.iiou(candidate)
        cells += [interval_cell(value) if value else Cell(""), *[Cell("")] * (width - 1)]
    return (*cells, *[Cell("")] * (columns - len(cells)))


def _ceilings(labels: LabelSet, ceilings: Ceilings | None) -> tuple[str, ...]:
    if ceilings is None:
        return (text("panoptic.ceiling_none"),)
    (_, every), (_, things), *_ = panoptic.groups(labels)
    values = {"pq": score(ceilings.of(ceilings.components, every))}
    values["things"] = score(ceilings.of(ceilings.components, things))
    said = [text("panoptic.components", **values)]
    height, width = ceilings.packed
    if ceilings.size is None:
        return (*said, text("panoptic.size_none", variable=paths.DATASET_VARIABLE))
    values = {"pq": score(ceilings.of(ceilings.size, every)), "things": score(ceilings.of(ceilings.size, things))}
    return (*said, text("panoptic.size", height=height, width=width, images=len(ceilings.size.segments), **values))


def _found(candidates: Sequence[Candidate]) -> Block:
    measured = [(candidate, panoptic.found(candidate)) for candidate in candidates]
    drawn = figures.found(measured, panoptic.objects(candidates[0]).tolist())
    keys = candidate_keys(candidates)
    return single("found-objects", drawn, text("panoptic.found"), text("panoptic.found_caption"), keys)


def _prices(prices: Sequence[Price]) -> list[Block]:
    if not prices:
        return []
    heads = ("network", "segments_miou", "classes_miou", "miou_change", "pq_change")
    columns = tuple(Cell(text(f"panoptic.{head}"), number=bool(i)) for i, head in enumerate(heads))
    rows = []
    for price in prices:
        mious = [_miou(candidate) for candidate in (price.segments, price.classes)]
        changes = [
            Cell(signed(each.estimate), f"({points_range(each)})", number=True, values=tuple(100 * v for v in each))
            for each in (price.miou, price.pq)
        ]
        rows.append((candidate_cell(price.segments), *mious, *changes))
    first = prices[0]
    key = "cost" if first.miou.high < 0 else "gain" if first.miou.low > 0 else "undecided"
    values = {"title": first.segments.title, "delta": points(abs(first.miou.estimate))}
    lead = text(f"panoptic.price_{key}", range=points_range(first.miou), **values)
    table = Table("panoptic-price", text("panoptic.price"), columns, tuple(rows), text("panoptic.price_caption"))
    return [Prose((lead,), tone="lead"), table]


def _miou(candidate: Candidate) -> Cell:
    value = stats.interval(candidate.runs, stats.miou(candidate.labels))[0]
    return Cell(score(value.estimate), score_range(value), number=True, values=tuple(value))
