"""What a panoptic protocol adds to the section of quality: PQ by class, found objects, the price in mIoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segbench import stats
from segbench.core import paths
from segbench.core.labels import LabelSet
from segbench.report.figures import panoptic as figures
from segbench.report.figures.theme import MANY
from segbench.report.numbers import panoptic
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.panoptic import GROUPS, Ceilings, Price
from segbench.report.page.blocks import Block, Cell, Heading, Prose, Table, single
from segbench.report.sections.heads import candidate_cell, candidate_keys, transposed
from segbench.report.sections.summary import interval_cell
from segbench.report.text.i18n import points, points_range, score, score_range, signed, text
from segbench.stats import Interval


def blocks(comparison: Comparison, candidates: Sequence[Candidate], ceilings: Ceilings | None) -> list[Block]:
    """None of semantic protocols, and where no counts of segments are there. candidates: in the order shown."""
    known = panoptic.shared([each for each in candidates if each.is_panoptic])
    if not known:
        return []
    labels = known[0].labels
    made: list[Block] = [Heading(text("panoptic.title")), _table(known, labels, ceilings)]
    made += [Prose(_ceilings(labels, ceilings), tone="note"), _parts(known, labels)]
    made += [_found(known), *_prices(panoptic.prices(comparison))]
    return made


def _table(candidates: Sequence[Candidate], labels: LabelSet, ceilings: Ceilings | None) -> Table:
    """PQ: a row for all, things, stuff and each class; of many architectures, a row each."""
    columns = [Cell(text("quality.category")), *(candidate_cell(c, number=True) for c in candidates)]
    columns += [Cell(text(f"panoptic.ceiling_{kind}"), number=True) for kind in _kinds(ceilings)]
    rows = []
    for name, classes in panoptic.groups(labels):
        measured = [panoptic.quality(candidate, classes).pq for candidate in candidates]
        best = _best([pq.estimate for pq in measured])
        cells = [_name(name, classes, labels), *(interval_cell(pq, i == best) for i, pq in enumerate(measured))]
        if ceilings:
            limits = [ceilings.of(ceilings.components, classes)]
            limits += [ceilings.of(ceilings.size, classes)] if ceilings.size else []
            cells += [Cell(score(limit), number=True, values=(limit,)) for limit in limits]
        rows.append(tuple(cells))
    rows.append(_iiou(candidates, len(columns)))
    made = Table("panoptic", text("panoptic.table"), tuple(columns), tuple(rows), text("panoptic.table_caption"))
    return made if len(candidates) < MANY else transposed(made, text("many.architecture"))


def _parts(candidates: Sequence[Candidate], labels: LabelSet) -> Table:
    """SQ and RQ: a row per architecture."""
    wanted = [(name, classes, part) for name, classes in panoptic.groups(labels)[:3] for part in ("sq", "rq")]
    heads = [Cell(text("panoptic.part", part=part.upper(), group=text(f"panoptic.{name}"))) for name, _, part in wanted]
    columns = (Cell(text("many.architecture")), *(replace(head, number=True) for head in heads))
    rows = []
    for candidate in candidates:
        values = [float(getattr(panoptic.quality(candidate, classes), part)) for _, classes, part in wanted]
        rows.append((candidate_cell(candidate), *(Cell(score(v), number=True, values=(v,)) for v in values)))
    return Table("panoptic-parts", text("panoptic.parts"), columns, tuple(rows), text("panoptic.parts_caption"))


def _best(values: Sequence[float]) -> int | None:
    """The one place of the highest value, if there is one."""
    known = [value for value in values if value == value]
    highest = max(known, default=0.0)
    return values.index(highest) if len(known) > 1 and known.count(highest) == 1 else None


def _kinds(ceilings: Ceilings | None) -> list[str]:
    if ceilings is None:
        return []
    return ["components", "size"] if ceilings.size else ["components"]


def _name(name: str, classes: panoptic.Classes, labels: LabelSet) -> Cell:
    if name in GROUPS and len(classes) != 1:
        return Cell(text(f"panoptic.{name}"))
    return Cell(name, swatch=f"rgb{labels.classes[classes[0]].colour}")


def _iiou(candidates: Sequence[Candidate], columns: int) -> tuple[Cell, ...]:
    values = [panoptic.iiou(candidate) for candidate in candidates]
    best = _best([value.estimate for value in values])
    cells = [Cell(text("panoptic.iiou")), *(interval_cell(value, i == best) for i, value in enumerate(values))]
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
    low, high = sorted(map(abs, first.miou[1:])) if key != "undecided" else first.miou[1:]
    values = {"title": first.segments.title, "delta": points(abs(first.miou.estimate))}
    lead = text(f"panoptic.price_{key}", range=points_range(Interval(0.0, low, high)), **values)
    table = Table("panoptic-price", text("panoptic.price"), columns, tuple(rows), text("panoptic.price_caption"))
    return [Prose((lead,), tone="lead"), table]


def _miou(candidate: Candidate) -> Cell:
    value = stats.interval(candidate.runs, stats.miou(candidate.labels))[0]
    return Cell(score(value.estimate), score_range(value), number=True, values=tuple(value))
