"""The section that explains the scores: the note's claims tested, then kinds of errors, outlines and calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from segbench.data import packing
from segbench.report.figures import cases as figures
from segbench.report.figures import why
from segbench.report.figures.theme import GREY, MANY, colour
from segbench.report.numbers import cases, context, evidence, explained, robustness
from segbench.report.numbers import claims as tested
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.measures import Measured, Side, Statistic
from segbench.report.page.blocks import (
    Album,
    Block,
    Cell,
    Figure,
    Fold,
    Key,
    Picture,
    Points,
    Prose,
    Section,
    Strip,
    Table,
    plot,
    single,
)
from segbench.report.sections import claims
from segbench.report.sections import explained as explanations
from segbench.report.text.i18n import class_names, decimals, listed, points, points_range, text
from segbench.stats import Interval, Sampled, behaviour, calibration
from segbench.stats.regions import SIZES
from segbench.stats.taxonomy import PARTS


def section(comparison: Comparison, measured: Measured, val: packing.Split | None) -> Section:
    """The claims first; all figures are folded below."""
    blocks: list[Block] = []
    if measured.missing:
        titles = listed([candidate.title for candidate in measured.missing])
        blocks.append(Prose((text("why.missing", titles=titles, options=comparison.options),), tone="note"))
    if measured.sides:
        if len(measured.sides) >= MANY:
            number, measured = len(measured.sides), replace(measured, sides=tuple(_subjects(measured)))
            titles = listed([side.candidate.title for side in measured.sides])
            blocks.append(Prose((text("why.shown", number=number, titles=titles),), tone="note"))
        changed = explained.read(comparison)
        tough = robustness.row(robustness.robustness(changed))
        rows = [*context.rows(changed), *tested.rows(measured), tough]
        candidates = [side.candidate for side in measured.sides]
        blocks += [
            Prose((claims.lead(rows),), tone="lead"),
            Prose((claims.explained(rows, min(len(c.models) for c in candidates)),)),
            claims.table(rows, candidates),
            Points(_limits(comparison), text("why.limits")),
            *([Fold(text("claims.grids"), (grids,))] if (grids := claims.grids(rows, candidates)) else ()),
            Fold(text("why.errors"), _errors(comparison, measured)),
            Fold(text("why.cases"), _cases(comparison, measured, val)),
            Fold(text("why.regions"), _regions(measured)),
            Fold(text("why.alike"), (_alike(comparison, measured),)),
            Fold(text("why.calibration"), _calibration(measured)),
        ]
    if comparison.promoted:
        blocks += explanations.blocks(comparison, val)
    else:
        blocks.append(Prose((text("quality.nothing"),), tone="note"))
    return Section("why", text("why.title"), text("why.short"), tuple(blocks))


def _limits(comparison: Comparison) -> tuple[str, ...]:
    """What the measures cannot show."""
    said = [text("why.limit_cause"), text("why.limit_grid"), text("why.limit_regions")]
    return (*said, text("why.limit_drawn")) if comparison.protocol.drawn else tuple(said)


def _errors(comparison: Comparison, measured: Measured) -> tuple[Block, ...]:
    keys = tuple(Key(text(f"why.{part}"), tint) for part, tint in why.PART_COLOURS.items())
    names = _classes(comparison)
    plots = []
    for side in measured.sides:
        drawn = why.errors(behaviour.part_shares(side.total), names)
        plots.append(plot(f"errors-{side.candidate.index}", drawn, side.candidate.title, keys=keys))
    caption = text("why.errors_caption", images=len(measured.names))
    return (Figure(text("why.errors_figure"), tuple(plots), caption), _parts(measured))


def _parts(measured: Measured) -> Table:
    """Mean over classes of each part of the union, with intervals."""
    parts = [("iou", 0), *((part, 1 + place) for place, part in enumerate(PARTS))]
    rows = [(text(f"why.{part}"), _share_of(place)) for part, place in parts]
    return _table("errors-parts", text("why.parts"), rows, measured, text("why.parts_caption"))


def _cases(comparison: Comparison, measured: Measured, val: packing.Split | None) -> tuple[Block, ...]:
    """Of `_subjects`."""
    sides = _subjects(measured)
    candidates = [side.candidate for side in sides]
    shown = figures.pictured(cases.chosen(measured, sides), candidates, val) if val is not None else []
    if not shown:
        return (Prose((text("scenes.cache", protocol_option=comparison.protocol_option),), tone="note"),)
    names = _classes(comparison)
    albums = []
    for part in PARTS:
        strips = [_strip(each, candidates, names) for each in shown if each.case.part == part]
        if strips:
            albums.append(Album(_capital(text(f"why.{part}")), tuple(strips), text("why.cases_caption")))
    return tuple(albums)


def _subjects(measured: Measured) -> list[Side]:
    """The architectures that the note speaks of, or else the first two."""
    subjects = [side for names in tested.SUBJECTS.values() if (side := measured.side(*names))]
    return subjects if len(subjects) > 1 else list(measured.sides[:2])


def _strip(shown: figures.Pictured, candidates: Sequence[Candidate], classes: Sequence[str]) -> Strip:
    case = shown.case
    layers = [
        Picture("image", shown.image, text("scenes.image")),
        Picture("truth", shown.truth, text("scenes.truth"), pixels=True),
    ]
    for candidate in candidates:
        if candidate.name in shown.masks:
            source, own = shown.masks[candidate.name], candidate == case.candidate
            note = text("why.here") if own else ""
            layers.append(Picture("mask", source, candidate.title, note, colour(candidate.index), pixels=True))
    rule = text(f"why.{case.rule}")
    heading = text("why.case", rule=rule, title=case.candidate.title, category=classes[case.category])
    return Strip(heading, text("why.case_note", pixels=case.pixels, scene=case.scene), tuple(layers))


def _share_of(place: int) -> Statistic:
    return lambda counts: behaviour.error_share(counts, place)


def _regions(measured: Measured) -> tuple[Block, ...]:
    times = measured.draws["images"]
    found, invented = [], []
    for side in measured.sides:
        own = [side.interval(_found(size), times) for size in range(len(SIZES) + 1)]
        ceiling = [float(np.mean(side.of_seeds(_found(size), ceiling=True))) for size in range(len(SIZES) + 1)]
        found.append((side, own, ceiling))
        without = [side.interval(_invented(size), times) for size in range(len(SIZES) + 1)]
        invented.append((side, without, None))
    keys = tuple(Key(side.candidate.title, colour(side.candidate.index), "line") for side in measured.sides)
    dashed = (*keys, Key(text("figures.ceilings"), GREY, "dash"))
    plots = (
        plot("found", why.by_size(found, text("figures.found")), text("why.found"), keys=dashed),
        plot(
            "unsupported",
            why.by_size(invented, text("figures.unsupported"), lower=True),
            text("why.unsupported"),
            keys=keys,
        ),
    )
    outlines = [
        (text("why.perimeter"), behaviour.perimeter_ratio),
        (text("why.boundary_f"), behaviour.outline_f),
        (text("why.boundary_iou"), behaviour.boundary_iou),
        (text("why.fragments"), behaviour.fragments),
    ]
    contours = _table("contours", text("why.contours"), outlines, measured, text("why.contours_caption"), ceiling=True)
    return (Figure(text("why.regions_figure"), plots, text("why.regions_caption")), contours)


def _found(size: int) -> Statistic:
    return lambda counts: behaviour.found_share(counts, size, size)


def _invented(size: int) -> Statistic:
    return lambda counts: behaviour.unsupported_share(counts, size, size)


def _alike(comparison: Comparison, measured: Measured) -> Figure:
    keys = tuple(Key(side.candidate.title, colour(side.candidate.index)) for side in measured.sides)
    drawn = why.alike(measured.sides, measured.alike, _classes(comparison))
    return single("alike", drawn, text("why.alike_figure"), text("why.alike_caption"), keys)


def _calibration(measured: Measured) -> tuple[Block, ...]:
    keys = tuple(Key(side.candidate.title, colour(side.candidate.index), "line") for side in measured.sides)
    ideal = Key(text("figures.calibrated"), GREY, "dash")
    fitted = all(found.selection for side in measured.sides for found in side.reliability)
    plots = [plot("reliability", why.reliability(measured.sides, "bins"), text("why.as_it_is"), keys=(*keys, ideal))]
    if fitted:
        tempered = why.reliability(measured.sides, "tempered")
        plots.append(plot("reliability-tempered", tempered, text("why.tempered"), keys=(*keys, ideal)))
    figure = Figure(text("why.reliability"), tuple(plots), text("why.reliability_caption"))
    return (figure, _calibration_table(measured, fitted))


def _calibration_table(measured: Measured, fitted: bool) -> Table:
    times = evidence.draws(measured.all_names)["images"]

    def row(key: str, value: Callable[[Side], Sampled]) -> tuple[Cell, ...]:
        return (Cell(text(f"why.{key}")), *(_cell(value(side).interval()) for side in measured.sides))

    rows = [
        row("ece", lambda side: side.confidence(calibration.ece, "bins", times)),
        row("overconfidence", lambda side: side.confidence(calibration.overconfidence, "bins", times)),
        row("auroc", lambda side: side.confidence(calibration.auroc, "entropies", times)),
    ]
    caption = text("why.calibration_none")
    if fitted:
        rows.append(row("ece_tempered", lambda side: side.confidence(calibration.ece, "tempered", times)))
        temperatures = [[found.temperature for found in side.reliability] for side in measured.sides]
        cells = [
            Cell(listed([decimals(t, 2) for t in own]), number=True, values=tuple(own[:1])) for own in temperatures
        ]
        rows.append((Cell(text("why.temperature")), *cells))
        of = measured.sides[0].reliability[0]
        key = "calibration_held_out" if of.held_out else "calibration_trained"
        caption = text(f"why.{key}", images=of.selection)
    return Table("calibration", text("why.calibration_table"), _heads(measured), tuple(rows), caption)


def _table(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Statistic]],
    measured: Measured,
    caption: str,
    ceiling: bool = False,
) -> Table:
    """A row per statistic; behind each architecture's interval, on request, the ceiling of its grid."""
    times = measured.draws["images"]
    made = []
    for label, statistic in rows:
        cells = []
        for side in measured.sides:
            cells.append(_cell(side.interval(statistic, times)))
            if ceiling:
                best = float(np.mean(side.of_seeds(statistic, ceiling=True)))
                cells.append(Cell(points(best), number=True, values=(best,)))
        made.append((Cell(label), *cells))
    return Table(name, title, _heads(measured, ceiling), tuple(made), caption)


def _heads(measured: Measured, ceiling: bool = False) -> tuple[Cell, ...]:
    heads = [Cell(text("summary.measure"))]
    for side in measured.sides:
        heads.append(Cell(side.candidate.title, swatch=colour(side.candidate.index), number=True))
        if ceiling:
            heads.append(Cell(side.candidate.title, text("why.grid_ceiling"), number=True))
    return tuple(heads)


def _cell(value: Interval) -> Cell:
    return Cell(points(value.estimate), f"({points_range(value)})", number=True, values=tuple(value))


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _classes(comparison: Comparison) -> tuple[str, ...]:
    return class_names(comparison.promoted[0].labels)
