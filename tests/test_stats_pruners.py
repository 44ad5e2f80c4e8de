"""Pruners replayed over learning curves: by hand, and the command on a real study."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks import pruners
from segbench.core import paths, protocol
from segbench.core.errors import UserError
from segbench.core.records import EpochRecord, EpochSeconds
from segbench.ledger import database, queue, samplers, studies
from segbench.runtime import terminal
from tests.conftest import write_protocol

SECONDS = EpochSeconds(0, 0, 0, 0, 0, 0, 0, 1)


def flat(*levels: float) -> pruners.Curves:
    """One curve of four epochs per level."""
    return np.repeat(np.array(levels)[:, None], 4, axis=1)


def replayed(curves: pruners.Curves, kind: str) -> pruners.Replay:
    search = protocol.Search(len(curves), curves.shape[1], 1, 1, pruner=kind)
    return pruners.replay(curves, samplers.pruner(search), "some-study")


def test_median_by_hand() -> None:
    """The fourth trial is below the median of three, 0.6, and ends after its second epoch: 2 of 16 epochs are saved."""
    assert replayed(flat(0.5, 0.6, 0.7, 0.1), "median") == (2 / 16, 0)
    assert replayed(flat(0.1, 0.5, 0.6, 0.7), "median") == (0, 0)
    late = flat(0.5, 0.6, 0.7, 0.1)
    late[3, 3] = 0.9  # nobody sees it
    saved, lost = replayed(late, "median")
    assert saved == 2 / 16
    assert lost == pytest.approx(0.2)


def test_halving_by_hand() -> None:
    """From the second trial on, a trial must lead all before it after one epoch."""
    assert replayed(flat(0.5, 0.9, 0.1, 0.8), "halving") == (6 / 16, 0)
    assert replayed(flat(0.8, 0.1, 0.9, 0.5), "halving") == (6 / 16, 0)


def test_rungs_follow_from_the_epochs_alone() -> None:
    """Not from the order in which trials end: they are the same for every architecture."""
    epochs = {n: samplers.rungs(protocol.Search(1, n, 1, 1, pruner="halving")) for n in (1, 3, 4, 10, 50)}
    assert epochs == {1: (), 3: (1,), 4: (1,), 10: (1, 4), 50: (1, 4, 16)}
    pruner = samplers.pruner(protocol.Search(4, 10, 1, 1, pruner="halving"))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    first, second = study.ask(), study.ask()  # the first has not ended when the second is compared
    compared = []
    for trial, level in ((first, 0.9), (second, 0.1)):
        for epoch in range(1, 10):
            trial.report(level, epoch)
            if trial.should_prune():
                compared.append(epoch)
                break
    assert compared == [1]
    rung = [key for key in study.get_trials()[0].system_attrs if key.startswith("completed_rung_")]
    assert len(rung) == 2


def test_hyperband_prunes_within_its_brackets() -> None:
    levels = np.linspace(0.9, 0.1, 10)
    saved, lost = replayed(np.repeat(levels[:, None], 9, axis=1), "hyperband")
    assert 0 < saved < 8 / 9  # the best comes first, so many later ones end early, but not in every bracket at once
    assert lost == 0


def test_what_is_told_is_the_best_epoch() -> None:
    """A trial whose peak is not its last epoch: the objective's value, as in a search."""
    curves = np.array([[0.2, 0.9, 0.3, 0.3], [0.1, 0.1, 0.1, 0.1]])
    assert replayed(curves, "none") == (0, 0)


def test_savings_over_all_orders() -> None:
    """Of two flat curves under halving the better never ends early: nothing is lost, whatever the order."""
    found = pruners.savings(flat(0.4, 0.6), "halving", 40, "some-study", left_out=1)
    assert (found.trials, found.epochs, found.orders, found.left_out) == (2, 4, 40, 1)
    assert (found.lost, found.best_survived) == ((0, 0, 0), 1)
    assert (found.saved.low, found.saved.high) == (
        0,
        3 / 8,
    )  # the worse one ends after its first epoch, if it is second


def test_a_best_trial_that_starts_slowly_is_lost_in_most_orders() -> None:
    curves = flat(0.3, 0.4, 0.5, 0.6, 0.7, 0.1)
    curves[5, 2:] = 0.8
    found = pruners.savings(curves, "median", 100, "some-study")
    # It survives among the first three, half of the orders; later it is below any median.
    assert found.best_survived == pytest.approx(0.5, abs=0.1)
    assert found.lost.mean >= (1 - found.best_survived) * 0.1 - 1e-9
    assert found.saved.low <= found.saved.mean <= found.saved.high
    assert found == pruners.savings(curves, "median", 100, "some-study")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    return tmp_path


def searched(here: Path, kind: str = "none", epochs: int = 4) -> str:
    """A study of six trials and the baseline; trial 2 diverges. Returns its name."""
    folder = write_protocol(here / "small")
    text = (folder / "protocol.toml").read_text().replace("trials = 2\nepochs = 2", f"trials = 6\nepochs = {epochs}")
    (folder / "protocol.toml").write_text(text.replace("val_images = 4", f'val_images = 4\npruner = "{kind}"', 1))
    asked, own = protocol.load(folder), protocol.load_architecture(folder, "deeplab")
    study = studies.open_study(database.connect(paths.studies_database()), asked, own, "data", "16 images")
    queue.plan(study, own.space, asked.search, own.baseline)
    studies.run(study, lambda trial: objective(trial, own.space, epochs))
    return study.study_name


def objective(trial: optuna.Trial, space: Any, epochs: int) -> float:
    samplers.suggest(trial, space)
    index, records = studies.index_of(trial), []
    for number in range(1, epochs + 1):
        if index == 2:
            raise studies.TrialFailed("diverged", "loss is nan in epoch 1")
        miou = 0.9 - 0.1 * index if index >= 0 else 0.99
        records.append(EpochRecord(number, 1, 1, 1, miou, miou, miou, (miou,) * 8, SECONDS, 1, 1))
        studies.report(trial, records[-1])
        if number < epochs and trial.should_prune():
            raise optuna.TrialPruned
    return max(record.miou for record in records)


def test_command_on_a_study(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = searched(here)
    assert pruners.main([name, "--orders", "20"]) == 0
    rows = json.loads((here / "reports" / "pruners.json").read_text())
    assert [row["pruner"] for row in rows] == ["median", "halving", "hyperband"]
    for row in rows:
        assert (row["study"], row["trials"], row["left_out"], row["epochs"], row["orders"]) == (name, 5, 1, 4, 20)
        assert 0 <= row["saved"]["low"] <= row["saved"]["mean"] <= row["saved"]["high"] < 1
    median, halving, _ = rows
    assert median["saved_in_trial_order"] == pytest.approx(4 / 20)  # trials 4 and 5 are below the median of 0, 1 and 3
    assert halving["saved_in_trial_order"] == pytest.approx(12 / 20)  # after trial 0, the best, all end early
    printed = capsys.readouterr().out
    assert "median" in printed
    assert "pruners.json" in printed


def test_nothing_to_replay_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(lambda: pruners.main([])) == 2
    assert "Search first" in capsys.readouterr().err
    with pytest.raises(UserError, match="--orders must be at least 1"):
        pruners.main(["--orders", "0"])


@pytest.mark.parametrize(("kind", "epochs", "said"), [("median", 4, "ran under a pruner: "), ("none", 1, "of \\[1\\]")])
def test_pruned_or_short_studies_cannot_be_replayed(here: Path, kind: str, epochs: int, said: str) -> None:
    name = searched(here, kind, epochs)
    with pytest.raises(UserError, match=said):
        pruners.main([name])
