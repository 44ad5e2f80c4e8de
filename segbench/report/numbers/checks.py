"""Whether the comparison was fair: each check compares what was recorded of the candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segbench.core.names import architecture
from segbench.core.protocol import Search
from segbench.core.records import Device, ModelCard
from segbench.core.study_record import TrialRecord
from segbench.ledger import studies
from segbench.report.numbers import searches, seen
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.text.i18n import MISSING, clauses, decimals, duration, text

_AGREEMENT = 1e-3  # between the score while training and the score of the saved weights, examined once more


class Check(NamedTuple):
    """One condition. `key` names its texts under [checks]."""

    key: str
    held: bool | None  # None: it differs because the protocol compares just that
    recorded: tuple[tuple[str, str], ...]  # (architecture's title, what was recorded of it), for the reader to judge


def checks(comparison: Comparison) -> list[Check]:
    """All that apply: those between candidates need two searched or two promoted ones."""
    searched = [candidate for candidate in comparison.candidates if candidate.study]
    made = []
    if len(searched) > 1:
        made += [
            _alike("search_data", searched, lambda s: s.study.data_fingerprint),
            _alike(
                "search_images",
                searched,
                lambda s: f"{s.study.subset}, {text('checks.recorded_seed', seed=_asked(s).seed)}",
            ),
            _alike("search_budget", searched, _budget),
            _alike(
                "search_how",
                searched,
                lambda s: text("checks.recorded_how", sampler=_asked(s).sampler, pruner=_asked(s).pruner),
            ),
            _alike(
                "augmentation",
                searched,
                lambda s: searches.augmentation(s.study) or text("checks.recorded_none"),
                compared=any(s.study and s.study.architecture.augment is not None for s in searched),
            ),
        ]
    if any(trial.device for candidate in searched for trial in _trials(candidate)):
        made.append(_search_device(searched))
    promoted = list(comparison.promoted)
    if len(promoted) > 1:
        made += [
            _alike("data", promoted, _cards(lambda c: c.data_fingerprint)),
            _alike("images", promoted, lambda s: f"{_cards(_images)(s)}{_names(s)}"),
            _alike("size", promoted, _cards(lambda c: text("record.size_cell", height=c.size[0], width=c.size[1]))),
            _alike("seen", promoted, _cards(lambda c: seen.said(c.crop, c.passes) or text("seen.whole"))),
            _alike("epochs", promoted, _cards(lambda c: text("checks.recorded_epochs", epochs=c.epochs))),
            _alike("keep", promoted, _cards(lambda c: text(f"keep.{c.keep}"))),
            _alike("seeds", promoted, _cards(lambda c: text("checks.recorded_seed", seed=c.seed))),
            _alike("device", promoted, _cards(lambda c: _machine(c.device))),
            _alike("precision", promoted, _cards(lambda c: c.device.precision)),
            _alike(
                "weights",
                promoted,
                _cards(lambda c: c.weights.kind),
                compared=len({architecture(candidate.name) for candidate in promoted}) == 1,
            ),
            _alike("versions", promoted, _cards(lambda c: _versions(c.versions))),
        ]
    if promoted:
        made += [_best(promoted), _reproduced(promoted)]
    return made


def _alike(key: str, candidates: Sequence[Candidate], what: Any, compared: bool = False) -> Check:
    """`compared`: whether the protocol's files ask for a difference, such as between variants of one architecture."""
    recorded = tuple((candidate.title, str(what(candidate))) for candidate in candidates)
    alike = len({text for _, text in recorded}) == 1
    return Check(key, None if compared and not alike else alike, recorded)


def _asked(candidate: Candidate) -> Search:
    assert candidate.study
    return candidate.study.protocol.search


def _budget(candidate: Candidate) -> str:
    assert candidate.study
    used = searches.budget(candidate.study)
    if used.hours is not None and used.finished:  # what each used differs by an epoch, and its number of trials is free
        return text("checks.recorded_hours", given=duration(used.hours[1]), epochs=used.epochs)
    return searches.said(used, "checks.recorded_budget", "checks.recorded_budget_hours")


def _search_device(candidates: Sequence[Candidate]) -> Check:
    """Whether every trial of every search ran on one kind of device and in one precision."""
    recorded = []
    for candidate in candidates:
        devices = dict.fromkeys(trial.device.description for trial in _trials(candidate) if trial.device)
        recorded.append((candidate.title, clauses(devices) or MISSING))
    everywhere = {trial.device for candidate in candidates for trial in _trials(candidate) if trial.device}
    return Check("search_device", len(everywhere) == 1, tuple(recorded))


def _trials(candidate: Candidate) -> Sequence[TrialRecord]:
    return candidate.study.trials if candidate.study else ()


def _machine(device: Device) -> str:
    """Its description without the precision, which is a check of its own."""
    return device.description.replace(f", {device.precision}", "")


def _cards(what: Any) -> Any:
    """What all cards of a candidate say; all different answers where they disagree."""
    return lambda candidate: clauses(dict.fromkeys(str(what(model.card)) for model in candidate.models))


def _images(card: ModelCard) -> str:
    return text("record.images_cell", train=card.train_images, val=card.val_images)


def _names(candidate: Candidate) -> str:
    """Tells sets of validation images apart that are of one size."""
    lists = dict.fromkeys(hashlib.sha256("\n".join(m.names).encode()).hexdigest()[:6] for m in candidate.scored)
    return f" ({text('checks.recorded_list', list=', '.join(lists))})" if lists else ""


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions.get(name, '?')}" for name in ("torch", "torchvision", "transformers"))


def _best(candidates: Sequence[Candidate]) -> Check:
    """Whether what was promoted is what the search finds best now, under the same fingerprint: it may have gone on."""
    recorded, held = [], True
    for candidate in candidates:
        promoted = ", ".join(str(index) for index in dict.fromkeys(model.card.trial for model in candidate.models))
        best = studies.best(candidate.study) if candidate.study else None
        same = candidate.study and all(m.card.fingerprint == candidate.study.fingerprint for m in candidate.models)
        held &= bool(same and best and all(m.card.trial == best.index for m in candidate.models))
        recorded.append(
            (candidate.title, text("checks.recorded_best", trials=promoted, best=best.index if best else MISSING))
        )
    return Check("best", held, tuple(recorded))


def _reproduced(candidates: Sequence[Candidate]) -> Check:
    """Whether the saved weights score what training recorded of them."""
    from segbench.core import metrics

    recorded, held = [], True
    for candidate in candidates:
        gaps = [
            abs(metrics.scores(m.confusions.sum(0), m.card.labels).miou - m.card.best.miou)
            for m in candidate.scored
            if m.confusions is not None
        ]
        held &= len(gaps) == len(candidate.models) and max(gaps) <= _AGREEMENT
        recorded.append((candidate.title, decimals(max(gaps), 4) if gaps else MISSING))
    return Check("reproduced", held, tuple(recorded))
