"""The page's content, one function per section: numbers and texts in, blocks out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from segbench.labels import CATEGORIES, COLOURS, DESCRIPTIONS
from segbench.protocol import DRAWN
from segbench.records import EpochRecord
from segbench.report import checks, figures, record_section, scenes, search_section, tables, words
from segbench.report.blocks import (
    Block,
    Cell,
    Checklist,
    Figure,
    Gallery,
    Glossary,
    Item,
    Key,
    Legend,
    Page,
    Picture,
    Plot,
    Points,
    Prose,
    Scene,
    Section,
    Table,
)
from segbench.report.ledgers import Ledgers, Side
from segbench.report.summary import summary_table
from segbench.report.tables import Duel, Summary
from segbench.report.texts import glossary, number, percent, score, score_interval, text
from segbench.report.theme import GREY, PART_COLOURS, colour


@dataclass(frozen=True)
class Numbers:
    """What the sections share, computed once."""

    ledgers: Ledgers
    rows: list[Summary]
    duels: list[Duel]
    checks: list[checks.Check]

    @classmethod
    def of(cls, ledgers: Ledgers) -> Numbers:
        rows = tables.summaries(ledgers)
        return cls(ledgers, rows, tables.duels(rows), checks.checks(ledgers))


def page(ledgers: Ledgers) -> Page:
    """The whole report."""
    numbers = Numbers.of(ledgers)
    title = ledgers.protocol.title
    made = (comparisons, categories, examples)
    sections = [
        *(build(numbers) for build in made),
        search_section.section(ledgers),
        record_section.section(ledgers),
        conclusion(numbers),
        _glossary(),
    ]
    return Page(
        title=text("page.title", protocol=title),
        kicker=text("page.kicker"),
        banner=DRAWN if ledgers.protocol.drawn else "",
        verdict=tuple(words.verdict(numbers.rows, numbers.duels, numbers.checks)),
        front=front(numbers),
        sections=tuple(sections),
        footer=text("page.footer", newest=ledgers.newest, protocol=ledgers.protocol.name),
    )


def front(numbers: Numbers) -> tuple[Block, ...]:
    """What follows the verdict: what is missing, the table, whether it was fair."""
    blocks: list[Block] = []
    missing = words.missing(numbers.ledgers)
    if missing:
        blocks.append(Prose((text("status.title"), *missing), tone="warning"))
    if numbers.rows:
        blocks.append(summary_table(numbers.rows, numbers.duels))
    if numbers.checks:
        items = tuple(Item(c.held, text(f"checks.{c.key}"), _found(c)) for c in numbers.checks)
        blocks.append(Checklist(text("checks.title"), items, text("checks.caption")))
    return tuple(blocks)


def comparisons(numbers: Numbers) -> Section:
    """The note's six: losses, pixel accuracy, mIoU, inference speed, training time."""
    if not numbers.rows:
        blocks: tuple[Block, ...] = (Prose((text("comparisons.nothing"),), tone="note"),)
    else:
        blocks = (
            Prose((text("comparisons.lead"),), tone="lead"),
            *_losses(numbers),
            *_qualities(numbers),
            *_costs(numbers),
        )
    return Section("comparisons", text("comparisons.title"), text("comparisons.short"), blocks)


def categories(numbers: Numbers) -> Section:
    """IoU per category and confusion matrices."""
    found = [(row.side, rows) for row in numbers.rows if (rows := tables.classes(row.side))]
    if not found:
        blocks: tuple[Block, ...] = (Prose((text("comparisons.nothing"),), tone="note"),)
        return Section("categories", text("classes.title"), text("classes.short"), blocks)
    lead = tuple(words.by_category(duel) for duel in numbers.duels)
    plots = []
    for side, _ in found:
        shares = tables.confusion(side)
        name = f"{text('classes.confusion')}: {side.title}"
        plots.append(Plot(f"confusion-{side.index}", figures.confusion(shares), name, figures.CONFUSION, side.title))
    bars = figures.class_bars(found)
    blocks = (
        *([Prose(lead, tone="lead")] if lead else []),
        _one("class-bars", bars, text("classes.bars"), text("classes.bars_caption"), _side_keys(numbers, "box")),
        _class_table(found),
        Figure(text("classes.confusion"), tuple(plots), text("classes.confusion_caption")),
    )
    return Section("categories", text("classes.title"), text("classes.short"), blocks)


def examples(numbers: Numbers) -> Section:
    """Validation images, their truth and the masks."""
    found = scenes.scenes(numbers.ledgers)
    legend = Legend(tuple((f"rgb{c}", n, d) for c, n, d in zip(COLOURS, CATEGORIES, DESCRIPTIONS, strict=True)))
    if found.missing:
        reason = text(f"scenes.{found.missing}", asked=numbers.ledgers.asked)
        blocks: tuple[Block, ...] = (Prose((reason,), tone="note"),)
    else:
        size = numbers.rows[0].side.models[0].card.size
        gap = text("scenes.caption_gap") if len(found.shown[0].chosen.scores) > 1 else ""
        caption = text("scenes.caption", gap=gap, height=size[0], width=size[1])
        if not numbers.ledgers.protocol.drawn:
            caption += " " + text("scenes.licence")
        shown = tuple(_scene(numbers, one) for one in found.shown)
        blocks = (legend, Gallery(text("scenes.gallery"), shown, caption))
    return Section("scenes", text("scenes.title"), text("scenes.short"), blocks)


def conclusion(numbers: Numbers) -> Section:
    """What the numbers amount to."""
    sentences = tuple(words.conclusion(numbers.rows, numbers.duels))
    return Section("conclusion", text("conclusion.title"), text("conclusion.short"), (Points(sentences),))


def _glossary() -> Section:
    entries = Glossary(tuple(glossary().items()))
    return Section("glossary", text("glossary_section.title"), text("glossary_section.short"), (entries,))


def _losses(numbers: Numbers) -> tuple[Block, ...]:
    train = tuple(_own(numbers, "train-loss", lambda e: e.train_loss))
    nll_heading = text("comparisons.nll")
    nll = figures.curves(numbers.ledgers.promoted, lambda e: e.val_nll)
    val = (
        *_own(numbers, "val-loss", lambda e: e.val_loss),
        _plot("val-nll", nll, nll_heading, len(numbers.rows) % 2 == 0, _side_keys(numbers)),
    )
    return (
        Figure(text("comparisons.train_loss"), train, text("comparisons.train_loss_caption")),
        Figure(text("comparisons.val_loss"), val, text("comparisons.val_loss_caption")),
    )


def _own(numbers: Numbers, name: str, value: Callable[[EpochRecord], float]) -> list[Plot]:
    """One plot per architecture, each with its own axis."""
    made = []
    for row in numbers.rows:
        drawn = figures.curves([row.side], value)
        made.append(_plot(f"{name}-{row.side.index}", drawn, row.side.title))
    return made


def _qualities(numbers: Numbers) -> tuple[Block, ...]:
    sides = numbers.ledgers.promoted
    accuracy = figures.curves(sides, lambda e: e.pixel_accuracy, [tables.majority_accuracy(s) for s in sides])
    miou = figures.curves(sides, lambda e: e.miou, [row.majority_miou for row in numbers.rows])
    keys = (*_side_keys(numbers), Key(text("figures.majority"), GREY, "dash"))
    return (
        _one("accuracy", accuracy, text("comparisons.accuracy"), text("comparisons.accuracy_caption"), keys, half=True),
        _one("miou", miou, text("comparisons.miou"), text("comparisons.miou_caption"), keys, half=True),
    )


def _costs(numbers: Numbers) -> tuple[Block, ...]:
    rows = numbers.rows
    devices = ", ".join(dict.fromkeys(m.card.device for row in rows for m in row.side.models))
    speed = figures.bars(rows, lambda row: row.inference_images_per_second, number)
    parts = figures.image_parts(rows)
    both = (
        _plot("inference", speed, text("comparisons.speed_total"), wide=True),
        _plot("inference-parts", parts, text("comparisons.speed_parts"), True, _part_keys(figures.IMAGE_PARTS)),
    )
    epoch = figures.epoch_parts(rows)
    return (
        Figure(text("comparisons.speed"), both, text("comparisons.speed_caption", device=devices)),
        _one(
            "epoch-seconds",
            epoch,
            text("comparisons.epoch"),
            text("comparisons.epoch_caption"),
            _part_keys(tables.PARTS),
        ),
    )


def _class_table(found: list[tuple[Side, list[tables.ClassRow]]]) -> Table:
    columns = [Cell(text("classes.category")), Cell(text("classes.share"), number=True)]
    for side, _ in found:
        columns.append(Cell(side.title, text("classes.iou"), swatch=colour(side.index), number=True))
        columns.append(
            Cell(text("classes.official"), number=True, tip=f"{side.title}, {text('summary.miou_official')}")
        )
    rows = []
    for i, name in enumerate(CATEGORIES):
        cells = [Cell(name, swatch=f"rgb{COLOURS[i]}"), Cell(percent(found[0][1][i].share), number=True)]
        for _, own in found:
            whole = score_interval(own[i].iou)
            cells.append(Cell(whole.partition(" ")[0], whole.partition(" ")[2], number=True))
            cells.append(Cell(score(own[i].iou_official), number=True))
        rows.append(tuple(cells))
    return Table(text("classes.table"), tuple(columns), tuple(rows), text("classes.table_caption"))


def _scene(numbers: Numbers, one: scenes.Pictured) -> Scene:
    name = one.chosen.name
    shown = [
        Picture(one.image, text("scenes.image")),
        Picture(one.truth, text("scenes.truth"), pixels=True),
    ]
    for row in numbers.rows:
        side = row.side
        if side.name in one.chosen.scores:
            source = one.masks.get(side.name, "")
            note = f"mIoU {score(one.chosen.scores[side.name])}"
            shown.append(Picture(source, side.title, note, colour(side.index), pixels=True))
    return Scene(text(f"scenes.{one.chosen.rule}"), name, tuple(shown))


def _found(check: checks.Check) -> str:
    each = [text("checks.each", title=title, found=found) for title, found in check.found]
    if check.key == "reproduced":
        return text("checks.reproduced_detail", list=", ".join(each))
    alike = len({found for _, found in check.found}) == 1
    return text("checks.same", found=check.found[0][1]) if alike else "; ".join(each)


def _one(name: str, drawn: object, title: str, caption: str, keys: tuple[Key, ...] = (), half: bool = False) -> Figure:
    """A figure block of one plot."""
    return Figure(title, (dataclasses.replace(_plot(name, drawn, title, True, keys), heading=""),), caption, half)


def _plot(name: str, drawn: object, heading: str, wide: bool = False, keys: tuple[Key, ...] = ()) -> Plot:
    height = int(drawn.layout.height)  # type: ignore[attr-defined]
    return Plot(name, drawn, heading, height, heading, wide, keys)


def _side_keys(numbers: Numbers, shape: str = "line") -> tuple[Key, ...]:
    return tuple(Key(row.side.title, colour(row.side.index), shape) for row in numbers.rows)


def _part_keys(parts: tuple[str, ...]) -> tuple[Key, ...]:
    return tuple(Key(text(f"parts.{part}"), tint) for part, tint in zip(parts, PART_COLOURS, strict=False))
