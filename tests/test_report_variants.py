"""The report of a protocol that compares variants of one architecture."""

from __future__ import annotations

from dataclasses import replace

from segbench.core.augment import Augment
from segbench.report.numbers import checks, comparison, tables
from segbench.report.sections import record, sentences

pytest_plugins = ["tests.fabricated"]


def test_a_protocol_that_compares_augmentations_is_not_called_unfair(compared: comparison.Comparison) -> None:
    first, *others = compared.candidates
    own = Augment(0.5, (0.5, 2.0), 0, 10.0, 0.2, 1.5, 0.05, "randaugment", "reflect")
    study = replace(first.study, architecture=replace(first.study.architecture, augment=own))
    fairness = checks.checks(replace(compared, candidates=(replace(first, study=study), *others)))
    (check,) = (check for check in fairness if check.held is None)
    assert check.key == "augmentation"
    assert check.recorded[0][1] == (
        "50\u00a0% mirrored, zoomed by 0.50 to 2.00, turned by up to 10°, contrast alone changed by up to 20\u00a0%, "
        "blurred by up to 1.5 pixels, noise of up to 5\u00a0% of white, RandAugment, borders reflected"
    )
    rows = tables.summaries(compared)
    assert sentences.caveats(rows, (), fairness) == sentences.caveats(rows, (), [c for c in fairness if c != check])
    (item,) = (item for item in record.section(compared, fairness).blocks[0].items if item.held is None)
    assert item.title == "Different augmentation of training images: this protocol compares it"


def test_variants_of_one_architecture_may_start_from_different_weights(compared: comparison.Comparison) -> None:
    first, second, *_ = compared.candidates
    weights = replace(second.models[0].card.weights, kind="pretrained")
    other = replace(second.models[0], card=replace(second.models[0].card, weights=weights))
    pair = (first, replace(second, models=(other,)))

    def held(*names: str) -> bool | None:
        renamed = tuple(replace(candidate, name=name) for candidate, name in zip(pair, names, strict=True))
        fairness = checks.checks(replace(compared, candidates=renamed))
        return next(check.held for check in fairness if check.key == "weights")

    assert held("deeplab", "mask2former") is False
    assert held("deeplab", "deeplab@random") is None
