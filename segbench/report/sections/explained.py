"""What `explain` measured: context, removed categories, maps, corruptions; each with what it cannot show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from segbench.core import explained as sizes
from segbench.core import panoptic
from segbench.core.records import ModelCard
from segbench.data import packing
from segbench.report.figures import explained as figures
from segbench.report.figures import maps as pictures
from segbench.report.figures.theme import colour
from segbench.report.numbers import context, evidence, explained, maps, robustness
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.context import Context, Contexts
from segbench.report.numbers.explained import Measured
from segbench.report.numbers.robustness import Robustness
from segbench.report.page.blocks import (
    Album,
    Block,
    Cell,
    Figure,
    Fold,
    Key,
    Picture,
    Plot,
    Points,
    Prose,
    Strip,
    Table,
    plot,
    single,
)
from segbench.report.text.i18n import class_names, decimals, percent, points_range, score, score_range, signed, text
from segbench.stats import Interval


def blocks(comparison: Comparison, val: packing.Split | None) -> tuple[Block, ...]:
    """Everything measured, folded, or how to measure it."""
    measured = explained.read(comparison)
    if not measured:
        return (Prose((text("explained.none", options=comparison.protocol_option),), tone="note"),)
    folds = {
        "context": [*_context(measured), *_tiles(measured)],
        "removal": _removal(measured),
        "maps": _maps(measured, val),
        "robustness": _robustness(comparison, measured),
    }
    return tuple(Fold(text(f"explained.{key}_fold"), tuple(inside)) for key, inside in folds.items() if inside)


def _keys(candidates: Sequence[Candidate]) -> tuple[Key, ...]:
    return tuple(Key(candidate.title, colour(candidate.index), "line") for candidate in candidates)


def _context(measured: Sequence[Measured]) -> list[Block]:
    contexts = context.contexts(measured)
    if contexts is None:
        return []
    reach = figures.context_reach(contexts)
    keys = _keys([row.candidate for row in contexts.rows])
    plots = [
        plot(f"context-{fill}", figures.context(contexts, fill, reach), text(f"explained.context_{fill}"), keys=keys)
        for fill in sizes.FILLS
    ]
    caption = text("explained.context_caption", window=contexts.window, images=len(contexts.names))
    sentences = Points(tuple(_sentences(contexts)), text("explained.context_verdicts"))
    return [Figure(text("explained.context"), tuple(plots), caption), sentences]


def _sentences(contexts: Contexts) -> list[str]:
    """Whether each architecture uses what lies around, and which of each pair uses more."""
    images = len(contexts.names)
    made = []
    for row in contexts.rows:
        gains = contexts.gains(row)
        key = context.verdict(list(gains.values()), images)
        made.append(text(f"explained.context_is_{key}", title=row.candidate.title, **_written(gains)))
    for first, second in itertools.combinations(contexts.rows, 2):
        made.append(_more(contexts, first, second))
    return made


def _more(contexts: Contexts, first: Context, second: Context) -> str:
    found = {fill: each.interval for fill, each in contexts.differences(first, second).items()}
    key = context.more(list(found.values()), len(contexts.names))
    if key == "second":
        return _more(contexts, second, first)
    titles = {"first": first.candidate.title, "second": second.candidate.title}
    return text(f"explained.more_{'clear' if key == 'first' else key}", **titles, **_written(found))


def _written(gains: dict[str, Interval]) -> dict[str, str]:
    written = {fill: signed(gain.estimate) for fill, gain in gains.items()}
    return written | {f"{fill}_range": points_range(gain) for fill, gain in gains.items()}


def _tiles(measured: Sequence[Measured]) -> list[Block]:
    rows = explained.shuffled(measured)
    if not rows:
        return []
    sides = [Cell(text("explained.side", side=side), number=True) for side in rows[0].sides]
    cells = [
        (Cell(row.candidate.title, swatch=colour(row.candidate.index)), *(_share(s.interval()) for s in row.kept))
        for row in rows
    ]
    columns = (Cell(text("explained.architecture")), *sides)
    caption = text("explained.tiles_caption", images=rows[0].images)
    return [Table("tiles", text("explained.tiles"), columns, tuple(cells), caption)]


def _share(value: Interval) -> Cell:
    spread = text("explained.percent_range", low=percent(value.low), high=percent(value.high))
    return Cell(percent(value.estimate), spread, number=True, values=tuple(value))


def _removal(measured: Sequence[Measured]) -> list[Block]:
    rows = explained.removals(measured)
    if not rows:
        return []
    plots = []
    for row in rows:
        categories = class_names(row.candidate.labels)
        drawn = figures.removal(row, categories)
        label = f"{text('explained.removal')}, {row.candidate.title}"
        plots.append(Plot(f"removal-{row.candidate.index}", drawn, label, figures.REMOVAL, row.candidate.title))
    caption = text("explained.removal_caption", images=rows[0].images)
    made: list[Block] = [Figure(text("explained.removal"), tuple(plots), caption)]
    return [*made, *(_shapley(row) for row in rows if row.shapley is not None)]


def _shapley(row: explained.Removal) -> Table:
    assert row.shapley is not None
    categories = class_names(row.candidate.labels)
    kept = [i for i in range(len(categories)) if (row.shapley[:, i] == row.shapley[:, i]).any()]
    head = (Cell(text("explained.player")), *(Cell(categories[i], number=True) for i in kept))
    cells = [
        (Cell(categories[i]), *(Cell(signed(float(row.shapley[i, j])), number=True, best=i == j) for j in kept))
        for i in kept
    ]
    title = f"{text('explained.shapley')}, {row.candidate.title}"
    caption = text("explained.shapley_caption", images=row.with_shapley)
    return Table(f"shapley-{row.candidate.index}", title, head, tuple(cells), caption)


def _maps(measured: Sequence[Measured], val: packing.Split | None) -> list[Block]:
    tests = maps.tests(measured)
    if not tests:
        return []
    made: list[Block] = [_deletion(tests)]
    shown = [each for each in maps.pictured(measured) if val is not None and each.name in val.names]
    if val is None or not shown:
        return [*made, Prose((text("explained.no_pictures"),), tone="note")]
    strips = [strip for each in shown for strip in _strips(each, measured, tests, val)]
    return [*made, Album(text("explained.album"), tuple(strips), text("explained.album_caption"))]


def _deletion(tests: Sequence[maps.MapTest]) -> Table:
    heads = ("map", "verdict", "deletion_other", "deletion_blur", "random")
    columns = tuple(Cell(text(f"explained.{key}"), number=i > 1) for i, key in enumerate(heads))
    rows = tuple(_deletion_row(test) for test in tests)
    images = max(test.images for test in tests)
    caption = text("explained.deletion_caption", images=images)
    return Table("deletion", text("explained.deletion"), columns, rows, caption, cards=True)


def _deletion_row(test: maps.MapTest) -> tuple[Cell, ...]:
    name = f"{test.candidate.title}, {text(f'explained.{test.kind}')}"
    head = Cell(name, swatch=colour(test.candidate.index))
    if test.missing:
        return head, Cell(text(f"explained.missing_{test.missing}")), *[Cell("—", number=True)] * 3
    lost = [Cell(decimals(v.estimate, 3), _nats(v), number=True, values=tuple(v)) for v in test.lost.values()]
    verdict = Cell(text("explained.explains" if test.explains else "explained.picture_only"), test.layer)
    if test.random is None:
        return head, verdict, *lost, Cell("—", number=True)
    random = Cell(decimals(test.random.estimate, 2), score_range(test.random), number=True, values=tuple(test.random))
    return head, verdict, *lost, random


def _nats(value: Interval) -> str:
    return f"({text('common.range', low=decimals(value.low, 3), high=decimals(value.high, 3))})"


def _strips(
    shown: maps.Pictured, measured: Sequence[Measured], tests: Sequence[maps.MapTest], val: packing.Split
) -> list[Strip]:
    photograph = val.images[val.names.index(shown.name)]
    first = next(iter(shown.maps.values()))
    categories = class_names(measured[0].candidate.labels)
    layers = [Picture("image", pictures.region(photograph, first["box"]), text("explained.region"))]
    for test in tests:
        values = shown.maps[test.candidate.name][test.kind]
        if values is not None:
            source = pictures.tiles(photograph, first["box"], first["shape"], values)
            label = f"{text(f'explained.{test.kind}')}, {test.candidate.title}"
            verdict = text("explained.explains" if test.explains else "explained.picture_only")
            layers.append(Picture(test.kind, source, label, verdict, colour(test.candidate.index)))
    heading = text("explained.evidence_for", category=categories[first["category"]])
    made = [Strip(heading, shown.name, tuple(layers))]
    for each in measured:
        queries = shown.queries.get(each.candidate.name)
        if queries:
            own = [
                Picture(
                    "query",
                    pictures.query(photograph, query["mask"]),
                    name,
                    text("explained.query_note", score=score(query["score"]), share=percent(query["share"])),
                )
                for query, name in zip(queries, _query_names(queries, each.candidate.models[0].card), strict=True)
            ]
            made.append(Strip(text("explained.queries", title=each.candidate.title), shown.name, tuple(own)))
    return made


def _query_names(queries: Sequence[Mapping[str, Any]], card: ModelCard) -> list[str]:
    """What each query is taken for. Each of a panoptic model finds an object: things are numbered, largest first."""
    counted = panoptic.things(card.labels) if card.task == panoptic.PANOPTIC else ()
    kinds, names = [int(query["category"]) for query in queries], class_names(card.labels)
    return [
        f"{names[kind]} {kinds[: place + 1].count(kind)}" if kind in counted else names[kind]
        for place, kind in enumerate(kinds)
    ]


def _robustness(comparison: Comparison, measured: Sequence[Measured]) -> list[Block]:
    rows = robustness.robustness(measured)
    if not rows:
        return [Prose((text("explained.no_corruptions", options=comparison.protocol_option),), tone="note")]
    caption = text("explained.robustness_caption", images=len(rows[0].names))
    drawn = figures.robustness(rows)
    keys = _keys([row.candidate for row in rows])
    sentences = [_kept(row) for row in rows]
    for first, second in itertools.combinations(rows, 2):
        sentences.append(_tougher(first, second))
    return [
        single("robustness", drawn, text("explained.robustness"), caption, keys),
        Points(tuple(sentences), text("explained.robustness_verdicts")),
    ]


def _kept(row: Robustness) -> str:
    value = row.interval()
    spread = {"low": percent(value.low), "high": percent(value.high)}
    return text("explained.kept_overall", title=row.candidate.title, share=percent(value.estimate), **spread)


def _tougher(first: Robustness, second: Robustness) -> str:
    difference = robustness.difference(first, second).interval
    if difference.estimate < 0:
        first, second, difference = second, first, robustness.difference(second, first).interval
    few = len(first.names) < evidence.FEWEST
    key = "few" if few else "clear" if difference.excludes_zero else "unclear"
    titles = {"first": first.candidate.title, "second": second.candidate.title}
    values = {"delta": signed(difference.estimate), "range": points_range(difference)}
    return text(f"explained.tougher_{key}", **titles, **values)
