"""The section of scenes: the legend of the categories, and the scene browser."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.core.labels import CATEGORIES, COLOURS
from segbench.data import packing
from segbench.report.figures import scenes
from segbench.report.figures.theme import BOTH_WRONG, WRONG, colour
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.tables import Summary, ranked
from segbench.report.page.blocks import Block, Gallery, Legend, Picture, Prose, Scene, Section
from segbench.report.text.i18n import score, text


def section(ledgers: Comparison, rows: Sequence[Summary], val: packing.Split | None) -> Section:
    """Validation images, their truth, the masks, and where those are wrong."""
    found = scenes.scenes(ledgers, val)
    if found.missing:
        reason = text(f"scenes.{found.missing}", asked=ledgers.asked)
        blocks: tuple[Block, ...] = (Prose((reason,), tone="note"),)
    else:
        legend = Legend(
            tuple((f"rgb{c}", n, text(f"categories.{n}")) for c, n in zip(COLOURS, CATEGORIES, strict=True))
        )
        blocks = (legend, _gallery(ledgers, rows, found))
    return Section("scenes", text("scenes.title"), text("scenes.short"), blocks)


def _gallery(ledgers: Comparison, rows: Sequence[Summary], found: scenes.Scenes) -> Gallery:
    candidates = [row.side for row in rows]
    order = [row.side for row in ranked(rows) if row.side.name in found.shown[0].chosen.scores]
    right = f"mask-{order[0].index}"
    left = f"mask-{order[1].index}" if len(order) > 1 else "truth"
    shown, seen = [], set()
    for one in found.shown:
        shown.append(_scene(candidates, one, one.chosen.rule not in seen))
        seen.add(one.chosen.rule)
    height, width = found.size
    size = rows[0].side.models[0].card.size
    words = text("scenes.size_seen" if size == found.size else "scenes.size_scaled", height=height, width=width)
    caption = text("scenes.caption", gap=text("scenes.caption_gap") if len(order) > 1 else "", size=words)
    if not ledgers.protocol.drawn:
        caption += " " + text("scenes.licence")
    return Gallery(text("scenes.gallery"), tuple(shown), left, right, found.size, caption)


def _scene(candidates: Sequence[Candidate], one: scenes.Pictured, first: bool) -> Scene:
    scored = [side for side in candidates if side.name in one.chosen.scores]
    layers = [
        Picture("image", one.image, text("scenes.image")),
        Picture("truth", one.truth, text("scenes.truth"), pixels=True),
    ]
    for side in scored:
        note = f"mIoU {score(one.chosen.scores[side.name])}"
        source = one.masks.get(side.name, "")
        layers.append(Picture(f"mask-{side.index}", source, side.title, note, colour(side.index), pixels=True))
    for side in scored:
        if side.name in one.errors:
            label = text("scenes.errors", title=side.title)
            note = text("scenes.errors_note")
            layers.append(Picture(f"errors-{side.index}", one.errors[side.name], label, note, WRONG))
    if one.disagreement:
        keys = [(colour(side.index), text("scenes.only_right", title=side.title)) for side in scored[:2]]
        keys.append((BOTH_WRONG, text("scenes.none_right")))
        layers.append(Picture("disagreement", one.disagreement, text("scenes.disagreement"), keys=tuple(keys)))
    note = ", ".join(f"{side.title} {score(one.chosen.scores[side.name])}" for side in scored)
    return Scene(text(f"scenes.{one.chosen.rule}"), one.chosen.name, note, tuple(layers), first)
