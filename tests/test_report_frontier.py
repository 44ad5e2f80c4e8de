"""What the report says of budgets in device-hours, first configurations, pruning, kept epochs and longer trainings."""

from __future__ import annotations

import dataclasses

from segbench.core.protocol import BEST_ON_FINAL, BEST_ON_SELECTION, LAST
from segbench.core.recipe import Recipe
from segbench.core.study_record import StudyRecord, TrialState
from segbench.report.numbers import searches, tables
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.sections import longer, search, sentences
from segbench.report.text import i18n
from tests.fabricated import epoch

pytest_plugins = ["tests.fabricated"]


def study_of(compared: Comparison) -> StudyRecord:
    found = compared.candidates[0].study
    assert found
    return found


def by_hours(study: StudyRecord, seconds: float, charged: float) -> StudyRecord:
    """The same trials, each charged so many seconds, and the last one cut after its first epoch."""
    asked = dataclasses.replace(study.protocol.search, trials=None, hours=seconds / 3600)
    trials = [dataclasses.replace(trial, charged_seconds=charged) for trial in study.planned]
    trials[-1] = dataclasses.replace(trials[-1], epochs=trials[-1].epochs[:1])
    protocol = dataclasses.replace(study.protocol, search=asked)
    return dataclasses.replace(study, protocol=protocol, trials=tuple(trials))


def test_device_hours_are_said_and_compared_by_what_was_given(compared: Comparison) -> None:
    study = by_hours(study_of(compared), 100, 10)
    said = " ".join(search._facts(study))
    assert "2 min 00 s of 1 min 40 s of device time used" in said.replace("\u00a0", " ")
    assert "before their last epoch, and they keep their best one: 11 (1)" in said
    assert searches.budget(study).finished
    assert not searches.budget(by_hours(study, 1000, 10)).finished


def test_what_was_not_drawn_and_what_was_pruned_is_said(compared: Comparison) -> None:
    study = study_of(compared)
    pruned = [dataclasses.replace(t, state=TrialState.PRUNED, epochs=t.epochs[:1]) for t in study.planned[4:6]]
    trials = tuple(study.planned[:4]) + tuple(pruned) + tuple(study.planned[6:])
    asked = dataclasses.replace(study.protocol.search, pruner="halving", warm_start="other")
    changed = dataclasses.replace(
        study,
        trials=trials,
        starts={0: "baseline", 1: "other-alpha 7"},
        protocol=dataclasses.replace(study.protocol, search=asked),
    )
    said = " ".join(search._facts(changed))
    assert "Trial 0 was not drawn: it has the known-good values" in said
    assert "“other”, whose own search is not part of this budget: 1 (other-alpha 7)" in said
    assert "The pruner ended 2 of 12 trials early and saved 4 epochs (11\u00a0%)" in said
    assert "after the epochs 1, the same for every architecture" in said


def kept(compared: Comparison, keep: str) -> str:
    def changed(candidate: Candidate) -> Candidate:
        card = dataclasses.replace(candidate.models[0].card, keep=keep, selection_images=20, images_given_up=30)
        return dataclasses.replace(candidate, models=(dataclasses.replace(candidate.models[0], card=card),))

    rows = tables.summaries(dataclasses.replace(compared, candidates=tuple(map(changed, compared.candidates))))
    return sentences.verdict(rows, tables.pairs(rows))[1]


def test_only_a_training_whose_epoch_the_final_images_chose_is_called_flattering(compared: Comparison) -> None:
    assert "every score is slightly too high" in kept(compared, BEST_ON_FINAL)
    said = kept(compared, BEST_ON_SELECTION)
    assert "chosen on 20 held-out training images, which cost the training 30 images" in said
    assert "too high" not in said
    assert "The last epoch of each training was kept" in kept(compared, LAST)


def trained(candidate: Candidate, scores: list[float], schedule: str = "constant") -> Candidate:
    model, recipe = candidate.models[0], Recipe(schedule=schedule)
    hyperparameters = dataclasses.replace(model.card.hyperparameters, recipe=recipe)
    card = dataclasses.replace(model.card, hyperparameters=hyperparameters)
    epochs = tuple(epoch(number, score) for number, score in enumerate(scores, start=1))
    return dataclasses.replace(candidate, models=(dataclasses.replace(model, card=card, epochs=epochs),))


def test_a_longer_training_is_judged_by_the_curve(compared: Comparison) -> None:
    one, two = compared.candidates
    rising = trained(one, [0.2 + 0.02 * t for t in range(12)])
    flat = trained(two, [0.3 + 0.002 * (t % 2) for t in range(12)])
    points, fold = longer.blocks([rising, flat])
    rises, stays, crosses = points.items  # type: ignore[union-attr]
    assert "the curve still rose by 6.0 points" in rises
    assert "no rise stands out from the noise" in stays
    assert "12 more epochs would add" in stays
    assert f"{one.title} is ahead of {two.title} from epoch 7 on" in crosses
    assert len(fold.blocks[0].plots) == 2  # type: ignore[union-attr]


def test_the_end_of_a_schedule_is_not_continued(compared: Comparison) -> None:
    one = trained(compared.candidates[0], [0.2 + 0.02 * t for t in range(12)], "cosine")
    points, fold = longer.blocks([one])
    assert "schedule “cosine”" in points.items[0]  # type: ignore[union-attr]
    assert len(fold.blocks[0].plots[0].figure.data) == 1  # type: ignore[union-attr]  # the points alone
    with i18n.speaking("fr"):
        assert "« cosine »" in longer.blocks([one])[0].items[0].replace("\u00a0", " ")  # type: ignore[union-attr]


def test_a_curve_with_lost_epochs_is_left_out(compared: Comparison) -> None:
    one = trained(compared.candidates[0], [0.2, 0.3, 0.4])
    lost = dataclasses.replace(one, models=(dataclasses.replace(one.models[0], epochs=one.models[0].epochs[1:]),))
    assert longer.blocks([lost]) == []
