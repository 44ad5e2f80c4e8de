"""The section of scenes: the legend of the categories, and the scene browser."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.core import colour_vision
from segbench.core.labels import LabelSet
from segbench.data import packing
from segbench.report.figures import scenes
from segbench.report.figures.theme import BOTH_WRONG, MANY, WRONG, colour
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.numbers.tables import Summary, ranked
from segbench.report.page.blocks import Block, Gallery, Legend, Picture, Prose, Scene, Section
from segbench.report.sections.heads import mark
from segbench.report.text.i18n import class_names, language, listed, measure, score, text


def section(comparison: Comparison, rows: Sequence[Summary], val: packing.Split | None) -> Section:
    """Validation images, their truth, the masks, and where those are wrong."""
    chosen = scenes.scenes(comparison, val)
    if chosen.missing:
        reason = text(f"scenes.{chosen.missing}", protocol_option=comparison.protocol_option)
        blocks: tuple[Block, ...] = (Prose((reason,), tone="note"),)
    else:
        blocks = (_legend(comparison.labels), _gallery(comparison, rows, chosen))
    return Section("scenes", text("scenes.title"), text("scenes.short"), blocks)


def _legend(labels: LabelSet) -> Legend:
    """The classes, with what they cover and which colours somebody may take for theirs."""
    alike: dict[int, list[str]] = {}
    names = class_names(labels)
    for i, j in colour_vision.confusable(labels.colours):
        alike.setdefault(i, []).append(names[j])
        alike.setdefault(j, []).append(names[i])
    entries = []
    for index, one in enumerate(labels.classes):
        about = one.about_french if language() == "fr" else one.about
        warning = text("scenes.alike", list=listed(alike[index])) if index in alike else ""
        entries.append((f"rgb{one.colour}", names[index], " ".join(filter(None, (about, warning)))))
    return Legend(tuple(entries))


def _gallery(comparison: Comparison, rows: Sequence[Summary], chosen: scenes.Scenes) -> Gallery:
    candidates = [row.candidate for row in (ranked(rows) if len(rows) >= MANY else rows)]
    order = [row.candidate for row in ranked(rows) if row.candidate.name in chosen.shown[0].chosen.scores]
    # Of panoptic protocols, the objects of the best against the true ones; else the masks of the best two.
    right = f"objects-{order[0].index}" if order[0].name in chosen.shown[0].objects else f"mask-{order[0].index}"
    left = f"mask-{order[1].index}" if len(order) > 1 else "truth"
    left = "objects" if right.startswith("objects") else left
    shown, seen = [], set()
    for pictured in chosen.shown:
        shown.append(_scene(candidates, pictured, pictured.chosen.rule not in seen))
        seen.add(pictured.chosen.rule)
    height, width = chosen.size
    size = rows[0].candidate.models[0].card.size
    size_note = text("scenes.size_seen" if size == chosen.size else "scenes.size_scaled", height=height, width=width)
    caption = text("scenes.caption", gap=text("scenes.caption_gap") if len(order) > 1 else "", size=size_note)
    if not comparison.protocol.drawn:
        caption += " " + text("scenes.licence")
    derived = len(order) >= MANY
    title = text("scenes.gallery")
    black_is_none = (0, 0, 0) not in comparison.labels.colours
    return Gallery(title, tuple(shown), left, right, chosen.size, caption, derived, black_is_none, WRONG, BOTH_WRONG)


def _scene(candidates: Sequence[Candidate], pictured: scenes.Pictured, first: bool) -> Scene:
    scored = [candidate for candidate in candidates if candidate.name in pictured.chosen.scores]
    layers = [
        Picture("image", pictured.image, text("scenes.image")),
        Picture("truth", pictured.truth, text("scenes.truth"), pixels=True),
    ]
    for candidate in scored:
        note = f"{measure()} {score(pictured.chosen.scores[candidate.name])}"
        source = pictured.masks.get(candidate.name, "")
        layers.append(Picture(f"mask-{candidate.index}", source, candidate.title, note, *mark(candidate), pixels=True))
    for key, title in (("", text("scenes.true")), *((c.name, c.title) for c in scored)):
        if key in pictured.objects:
            layer = next((f"objects-{c.index}" for c in scored if c.name == key), "objects")
            label = text("scenes.objects", title=title)
            layers.append(Picture(layer, pictured.objects[key], label, text("scenes.objects_note"), pixels=True))
    for candidate in scored:
        if candidate.name in pictured.errors:
            label = text("scenes.errors", title=candidate.title)
            note = text("scenes.errors_note")
            layers.append(Picture(f"errors-{candidate.index}", pictured.errors[candidate.name], label, note, WRONG))
    for candidate in scored:
        if candidate.name in pictured.entropy:
            label = text("scenes.entropy", title=candidate.title)
            note = text("scenes.entropy_note")
            layers.append(Picture(f"entropy-{candidate.index}", pictured.entropy[candidate.name], label, note))
    if pictured.disagreement:
        keys = [(colour(candidate.index), text("scenes.only_right", title=candidate.title)) for candidate in scored[:2]]
        keys.append((BOTH_WRONG, text("scenes.none_right")))
        layers.append(Picture("disagreement", pictured.disagreement, text("scenes.disagreement"), keys=tuple(keys)))
    note = ", ".join(f"{candidate.title} {score(pictured.chosen.scores[candidate.name])}" for candidate in scored)
    return Scene(text(f"scenes.{pictured.chosen.rule}"), pictured.chosen.name, note, tuple(layers), first)
