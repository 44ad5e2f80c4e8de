"""The configurations that a plan begins with: known-good values, and the best trials of another protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from segbench import search
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Data, Final, Protocol, Search, fingerprint
from segbench.core.records import Scalar
from segbench.core.space import Choice, Range
from segbench.ledger import database, liveness, queue, samplers, studies
from segbench.ledger.database import StudyStorage
from segbench.runtime import terminal
from tests.conftest import PROTOCOL, write_protocol
from tests.test_studies import epoch

SPACE = {
    "lr": Range(1e-4, 1e-2, log=True),
    "sgd.lr": Range(1e-3, 1.0, log=True),
    "weight_decay": Choice((0.0, 1e-4)),
    "optimizer": Choice(("adam", "sgd")),
    "depth": Range(1, 4, integer=True),
}
KNOWN = {"lr": 0.5, "weight_decay": 1e-4, "optimizer": "sgd", "depth": 3}
NET = Architecture("net", "Net", 2, "random", SPACE, baseline=KNOWN)


@pytest.fixture
def storage_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyStorage:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    return database.connect(tmp_path / "studies.db")


def protocol(name: str, trials: int | None = 6, **options: object) -> Protocol:
    return Protocol(name, name, Data((32, 32)), Search(trials, 2, 1, 1, **options), Final(1))  # type: ignore[arg-type]


def opened(storage: StudyStorage, asked: Protocol, net: Architecture = NET) -> optuna.Study:
    study = studies.open_study(storage, asked, net, "data", "1 train image")
    queue.plan(study, net.space, asked.search, None)
    return study


def searched(storage: StudyStorage, asked: Protocol, value: Callable[[int], float], net: Architecture = NET) -> None:
    def objective(trial: optuna.Trial) -> float:
        samplers.suggest(trial, net.space)
        studies.report(trial, epoch(1))
        return value(studies.index_of(trial))

    studies.run(opened(storage, asked, net), objective)


def params(storage: StudyStorage, name: str) -> list[dict[str, Scalar]]:
    return [dict(trial.params) for trial in studies.record(storage, name).trials]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_known_good_values_are_the_first_trial_of_the_plan(storage_: StudyStorage, sampler: str) -> None:
    searched(storage_, protocol("plain"), lambda index: 0.5)
    searched(storage_, protocol("with", enqueue="baseline", sampler=sampler), lambda index: 0.5 + index / 100)
    record = studies.record(storage_, "with-net")
    assert len(record.trials) == 6  # it counts in the budget
    assert record.trials[0].params == KNOWN  # by hyperparameter: the lr of sgd
    assert record.starts == {0: "baseline"}
    assert not record.trials[0].baseline  # it can be promoted, unlike the one beside the plan
    if sampler == "random":
        assert params(storage_, "with-net")[1:] == params(storage_, "plain-net")[1:]


def test_values_outside_the_space_are_refused(storage_: StudyStorage) -> None:
    asked = protocol("p", enqueue="baseline")
    for known, said in (
        ({**KNOWN, "lr": 5.0}, r"\[baseline\] lr = 5.0 lies outside"),
        ({**KNOWN, "optimizer": "adam"}, "lr = 0.5"),  # that lr is sgd's
        ({**KNOWN, "depth": 9}, "depth = 9"),
        ({}, r"has no table \[baseline\]"),
    ):
        with pytest.raises(UserError, match=said):
            opened(storage_, asked, dataclasses.replace(NET, baseline=known))
    assert studies.names(storage_) == []
    assert optuna.get_all_study_names(storage_) == []


def test_warm_start_repeats_the_best_of_another_protocol_and_is_frozen(storage_: StudyStorage) -> None:
    searched(storage_, protocol("other"), lambda index: index / 10)
    asked = protocol("warm", warm_start="other", enqueue="baseline")
    opened(storage_, asked)
    best = params(storage_, "other-net")[:-4:-1]  # trials 5, 4, 3
    searched(storage_, protocol("other", 8), lambda index: 0.9)  # goes on, and finds better ones
    searched(storage_, asked, lambda index: 0.5)
    record = studies.record(storage_, "warm-net")
    assert params(storage_, "warm-net")[:4] == [KNOWN, *best]
    assert record.starts == {0: "baseline", 1: "other-net 5", 2: "other-net 4", 3: "other-net 3"}
    assert len(record.planned) == 6


def test_of_the_best_only_those_that_fit_are_repeated(storage_: StudyStorage) -> None:
    searched(storage_, protocol("other"), lambda index: index / 10)
    depths = [trial["depth"] for trial in params(storage_, "other-net")[:-4:-1]]
    narrow = dataclasses.replace(NET, baseline={}, space={**SPACE, "depth": Choice((depths[0],))})
    searched(storage_, protocol("warm", warm_start="other"), lambda index: 0.5, narrow)
    assert len(studies.record(storage_, "warm-net").starts) == depths.count(depths[0])
    nowhere = dataclasses.replace(NET, baseline={}, space={**SPACE, "depth": Choice((99,))})
    with pytest.raises(UserError, match=r"no best trial of 'other-net' lies in the space of net \(trial 5: depth = "):
        opened(storage_, protocol("another", warm_start="other"), nowhere)


def test_a_missing_study_and_too_few_trials_are_one_line(storage_: StudyStorage) -> None:
    with pytest.raises(UserError, match="there is no study 'other-net'; search it first") as caught:
        opened(storage_, protocol("warm", warm_start="other"))
    assert "\n" not in str(caught.value)
    searched(storage_, protocol("other"), lambda index: index / 10)
    with pytest.raises(UserError, match=r"trials of 'warm' is 2, but .* begin the plan of net with 4"):
        opened(storage_, protocol("warm", 2, warm_start="other", enqueue="baseline"))


def test_they_work_with_device_hours(storage_: StudyStorage) -> None:
    study = opened(storage_, protocol("hours", None, hours=1.0, enqueue="baseline"))
    first, second = (queue.claim(study, str(liveness.me())) for _ in range(2))
    assert first is not None
    assert second is not None
    assert samplers.suggest(first, SPACE) == KNOWN
    assert samplers.suggest(second, SPACE) != KNOWN


def test_the_fingerprint_covers_them_only_where_they_are_used() -> None:
    plain, other = protocol("p"), dataclasses.replace(NET, baseline={**KNOWN, "lr": 0.4})
    assert fingerprint(plain, NET) == fingerprint(plain, other)
    enqueued = protocol("p", enqueue="baseline")
    prints = [fingerprint(plain, NET), fingerprint(enqueued, NET), fingerprint(enqueued, other)]
    prints += [fingerprint(protocol("p", warm_start="demo"), NET), fingerprint(protocol("p", None, hours=1.0), NET)]
    prints += [fingerprint(protocol("p", None, hours=2.0), NET)]
    assert len(set(prints)) == len(prints)


def test_a_killed_trial_does_not_compete_against_itself(storage_: StudyStorage) -> None:
    """Under successive halving, what it reached before the kill would count beside what it reaches again."""
    study = opened(storage_, protocol("p", pruner="halving"))
    trial = queue.claim(study, "gone:1:0.0")
    assert trial is not None
    studies.report(trial, epoch(1))
    assert not trial.should_prune()
    queue.hand_back(study, trial._trial_id)
    rungs = [key for t in study.get_trials() for key in t.system_attrs if key.startswith("completed_rung_")]
    assert rungs == ["completed_rung_0"]


def test_from_the_command(storage: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = PROTOCOL.replace("trials = 2\nepochs = 2", 'trials = 2\nenqueue = "baseline"\nepochs = 1')
    folder = write_protocol(tmp_path / "small", toml)
    command = ["deeplab", "--protocol", str(folder), "--data", str(drawn)]
    assert terminal.run(lambda: search.main([*command, "--baseline"])) == 2
    assert "drop --baseline" in capsys.readouterr().err
    assert terminal.run(lambda: search.main(command)) == 2  # it lies below 1e-6
    assert "[baseline] weight_decay = 1e-08 lies outside [space]" in capsys.readouterr().err
    own = folder / "deeplab.toml"
    own.write_text(own.read_text().replace("weight_decay = 1e-8", "weight_decay = 1e-5"))
    assert search.main(command) == 0
    assert "trial 0: the known-good values" in capsys.readouterr().out
