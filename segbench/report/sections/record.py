"""The section of what was promoted and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from segbench.core.records import ModelCard, Scalar
from segbench.report.figures.theme import MANY
from segbench.report.numbers.checks import Check
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.page.blocks import Block, Cell, Checklist, Item, Prose, Section, Table
from segbench.report.sections.heads import candidate_cell, transposed
from segbench.report.text.i18n import MISSING, clauses, scalar, text


def section(comparison: Comparison, checks: Sequence[Check]) -> Section:
    """Whether it was fair, the hyperparameters of the promoted candidates, the provenance of all."""
    known = [candidate for candidate in comparison.candidates if candidate.models or candidate.study]
    blocks: list[Block] = []
    if checks:
        items = tuple(Item(c.held, _title(c), _recorded(c)) for c in checks)
        blocks.append(Checklist(text("checks.title"), items, text("checks.caption")))
    if comparison.promoted:
        blocks.append(_hyperparameters(comparison.promoted))
    else:
        blocks.append(Prose((text("quality.nothing"),), tone="note"))
    blocks += _provenance(known)
    return Section("record", text("record.title"), text("record.short"), tuple(blocks))


def _title(check: Check) -> str:
    return text(f"checks.{check.key}" if check.held is not None else f"checks.{check.key}_compared")


def _hyperparameters(candidates: tuple[Candidate, ...]) -> Table:
    params = [candidate.models[0].card.hyperparameters.params() for candidate in candidates]
    names = list(dict.fromkeys(name for own in params for name in own))
    rows = [(Cell(name), *(Cell(scalar(own[name]) if name in own else MISSING) for own in params)) for name in names]
    facts: list[tuple[str, Callable[[ModelCard], str]]] = [
        ("batch_size", lambda c: str(c.batch_size)),
        ("model", lambda c: _options(c.model)),
        ("trial", lambda c: str(c.trial)),
    ]
    rows += [
        (Cell(text(f"record.{key}")), *(Cell(_cards(candidate, what)) for candidate in candidates))
        for key, what in facts
    ]
    head = (Cell(text("record.hyperparameter")), *_heads(candidates))
    title, caption = text("record.hyperparameters"), text("record.hyperparameters_caption")
    made = Table("hyperparameters", title, head, tuple(rows), caption)
    return transposed(made, text("many.architecture")) if len(candidates) >= MANY else made


def _provenance(candidates: list[Candidate]) -> list[Block]:
    """Of many: first what is the same for all, then what is not, with a row each."""
    facts: list[tuple[str, Callable[[Candidate], str]]] = [
        ("study", lambda s: s.study.name if s.study else MISSING),
        ("fingerprint", lambda s: s.study.fingerprint if s.study else _cards(s, lambda c: c.fingerprint)),
        (
            "data_fingerprint",
            lambda s: s.study.data_fingerprint if s.study else _cards(s, lambda c: c.data_fingerprint),
        ),
        ("subset", lambda s: s.study.subset if s.study else MISSING),
        ("images", lambda s: _cards(s, _images)),
        ("keep", lambda s: _cards(s, lambda c: text(f"keep.{c.keep}"))),
        ("size", lambda s: _cards(s, lambda c: text("record.size_cell", height=c.size[0], width=c.size[1]))),
        (
            "weights",
            lambda s: _cards(s, lambda c: text("record.weights_cell", kind=c.weights.kind, name=c.weights.name)),
        ),
        ("sha", lambda s: _cards(s, lambda c: c.weights.sha256[:16] + "…")),
        ("seeds", lambda s: ", ".join(str(m.card.seed) for m in s.models) or MISSING),
        ("device", lambda s: _cards(s, lambda c: c.device.description) if s.models else _trial_devices(s)),
        ("versions", lambda s: _cards(s, lambda c: ", ".join(f"{k} {v}" for k, v in c.versions.items()))),
        ("study_run", lambda s: (s.study.run_id if s.study else "") or MISSING),
        ("runs", lambda s: _cards(s, lambda c: c.run_id)),
        ("created", lambda s: _cards(s, lambda c: c.created)),
    ]
    rows = tuple(
        (Cell(text(f"record.{key}")), *(Cell(what(candidate)) for candidate in candidates)) for key, what in facts
    )
    head = (Cell(text("record.fact")), *_heads(candidates))
    title, caption = text("record.provenance"), text("record.provenance_caption")
    if len(candidates) < MANY:
        return [Table("provenance", title, head, rows, caption)]
    same = tuple(row[:2] for row in rows if len({cell.text for cell in row[1:]}) == 1)
    others = tuple(row for row in rows if len({cell.text for cell in row[1:]}) > 1)
    each = Table("provenance", text("record.provenance_each"), head, others, caption)
    shared = Table("provenance-all", text("record.provenance_all"), (Cell(text("record.fact")), Cell("")), same)
    return [shared, transposed(each, text("many.architecture"))]


def _recorded(check: Check) -> str:
    each = [text("checks.each", title=title, recorded=recorded) for title, recorded in check.recorded]
    if check.key == "reproduced":
        return text("checks.reproduced_detail", list=", ".join(each))
    alike = len({recorded for _, recorded in check.recorded}) == 1
    return check.recorded[0][1] if alike else clauses(each)


def _heads(candidates: tuple[Candidate, ...] | list[Candidate]) -> list[Cell]:
    return [candidate_cell(candidate) for candidate in candidates]


def _cards(candidate: Candidate, what: Callable[[ModelCard], str]) -> str:
    """What the candidate's cards say, equal answers once."""
    return clauses(dict.fromkeys(what(model.card) for model in candidate.models)) or MISSING


def _images(card: ModelCard) -> str:
    return text("record.images_cell", train=card.train_images, val=card.val_images)


def _trial_devices(candidate: Candidate) -> str:
    trials = candidate.study.trials if candidate.study else ()
    return clauses(dict.fromkeys(t.device.description for t in trials if t.device)) or MISSING


def _options(options: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items()) or MISSING
