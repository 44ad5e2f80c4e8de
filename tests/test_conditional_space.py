"""Learning rates of an optimizer's own: Optuna has an entry for each, everybody else one `lr`."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from segbench.core import space as spaces
from segbench.core.protocol import Architecture, Data, Final, Protocol, Search
from segbench.core.records import Hyperparameters
from segbench.core.space import Choice, Range, Space
from segbench.core.study_record import StudyRecord
from segbench.ledger import database, queue, reading, samplers, studies
from segbench.report.numbers import searches

SPACE: Space = {
    "lr": Range(1e-5, 1e-3, log=True),
    "weight_decay": Range(1e-6, 1e-3, log=True),
    "optimizer": Choice(("adam", "adamw", "sgd")),
    "aux_loss": Choice((True, False)),
    "sgd.lr": Range(1e-2, 1.0, log=True),
    "adam.weight_decay": Choice((0.0,)),
}
BASELINE = {"lr": 3.0, "weight_decay": 1e-8, "optimizer": "sgd", "aux_loss": True}  # outside the space
TRIALS = 9


@pytest.fixture(autouse=True)
def storage_of_the_test(storage: Path) -> None:
    """Studies claim folders."""


def searched(folder: Path, sampler: str = "random", space: Space = SPACE) -> tuple[optuna.Study, StudyRecord]:
    search = Search(TRIALS, 1, 2, 1, sampler=sampler)
    architecture = Architecture("net", "Net", 2, "random", space, baseline=BASELINE if space is SPACE else {})
    protocol = Protocol("small", "Small", Data((32, 32)), search, Final(1))
    storage = database.connect(folder / "studies.db")
    study = studies.open_study(storage, protocol, architecture, "data", "2 images")
    queue.plan(study, space, search, architecture.baseline)

    def objective(trial: optuna.Trial) -> float:
        params = samplers.suggest(trial, space)
        assert samplers.suggest(trial, space) == params
        return float(params["weight_decay"])

    studies.run(study, objective)
    return study, reading.record(storage, study.study_name)


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "gp"])
def test_every_sampler_draws_the_rate_of_the_optimizer(sampler: str, tmp_path: Path) -> None:
    study, record = searched(tmp_path, sampler)
    assert len(record.planned) == TRIALS
    assert all(trial.state == "complete" for trial in record.trials)
    for trial in record.planned:
        assert set(trial.params) == {"lr", "weight_decay", "optimizer", "aux_loss"}
        lr, sgd = float(trial.params["lr"]), trial.params["optimizer"] == "sgd"
        assert (1e-2 <= lr <= 1) if sgd else (1e-5 <= lr <= 1e-3)
        assert (trial.params["weight_decay"] == 0) == (trial.params["optimizer"] == "adam")
        assert Hyperparameters.from_params(trial.params).lr == lr
    for attempt in study.get_trials():
        sgd = attempt.params["optimizer"] == "sgd"
        assert ("sgd.lr" in attempt.params, "lr" in attempt.params) == (sgd, not sgd)
    rates = [trial.params["lr"] for trial in record.planned]
    assert len(set(rates)) == TRIALS


def test_what_is_planned_follows_from_seed_and_trial(tmp_path: Path) -> None:
    _, record = searched(tmp_path)
    distributions = {entry: samplers.distribution(values) for entry, values in SPACE.items()}
    for trial in record.planned:
        drawn = samplers.draw(distributions, 0, trial.index)
        names = spaces.entries(SPACE, drawn["optimizer"])
        assert trial.params == {name: drawn[entry] for name, entry in names.items()}
    # The other parameters are those of a space without conditions, and its plan is as it always was.
    plain = {entry: values for entry, values in SPACE.items() if "." not in entry}
    (tmp_path / "plain").mkdir()
    for trial in record.planned:
        old = samplers.draw({entry: samplers.distribution(v) for entry, v in plain.items()}, 0, trial.index)
        assert {**trial.params, "lr": 0, "weight_decay": 0} == {**old, "lr": 0, "weight_decay": 0}


def test_the_baseline_keeps_its_values(tmp_path: Path) -> None:
    study, record = searched(tmp_path)
    (baseline,) = (trial for trial in record.trials if trial.baseline)
    assert baseline.params == BASELINE
    attempt = next(t for t in study.get_trials() if studies.index_of(t) == studies.BASELINE)
    assert attempt.params["sgd.lr"] == 3.0


def test_a_resumed_study_keeps_its_parameters(tmp_path: Path) -> None:
    search = Search(TRIALS, 1, 2, 1)
    storage = database.connect(tmp_path / "studies.db")
    study = optuna.create_study(storage=storage, study_name="tiny", direction="maximize")
    queue.plan(study, SPACE, search, None)
    first = queue.claim(study, "elsewhere:1:0.0")
    assert first is not None
    before = samplers.suggest(first, SPACE)
    queue.hand_back(study, first._trial_id)
    again = studies.queue.claim(study, "elsewhere:1:0.0")
    while again is not None and queue.index_of(again) != queue.index_of(first):
        again = queue.claim(study, "elsewhere:1:0.0")
    assert again is not None
    assert samplers.suggest(again, SPACE) == before


def test_figures_have_one_axis_per_hyperparameter(tmp_path: Path) -> None:
    _, record = searched(tmp_path)
    axes = {axis.name: axis for axis in searches.axes(record, searches.valued(record))}
    assert list(axes) == ["lr", "weight_decay", "optimizer", "aux_loss"]
    assert all(0 <= place <= 1 for place in axes["lr"].positions if place is not None)
    assert spaces.merged(SPACE)["lr"] == Range(1e-5, 1.0, log=True)
    assert spaces.merged(SPACE)["weight_decay"] == Range(0.0, 1e-3)  # of a range and a choice


def test_where_the_best_value_lies_at_a_bound(tmp_path: Path) -> None:
    """The objective is the weight decay: the best trial has the largest, not at the bound of the learning rate."""
    narrow = {**SPACE, "weight_decay": Range(1e-9, 1.0, log=True), "optimizer": Choice(("sgd",))}
    narrow.pop("adam.weight_decay")
    _, record = searched(tmp_path, space=narrow)
    best = studies.best(record)
    assert best is not None
    for found in searches.at_bounds(record):
        assert best.params[found.name] == found.value

    def moved(lr: float) -> list[searches.AtBound]:
        trial = best.__class__(**{**best.__dict__, "params": {**best.params, "lr": lr, "weight_decay": 1e-4}})
        return searches.at_bounds(record.__class__(**{**record.__dict__, "trials": (trial,)}))

    assert moved(0.1) == []
    assert moved(1.2e-2) == [
        searches.AtBound("lr", 1.2e-2, Range(1e-2, 1.0, log=True), upper=False)
    ]  # 4 % up the scale
    assert moved(1.3e-2) == []  # 5.7 %
    assert moved(0.9) == [searches.AtBound("lr", 0.9, Range(1e-2, 1.0, log=True), upper=True)]
