"""SIGKILL, SIGTERM and what else ends a process: at every instant whose order matters, and at random ones."""

from __future__ import annotations

import signal

import pytest

from tests.faults.command import Instant
from tests.faults.harness import Found, Place, assert_whole

KILLED = -signal.SIGKILL
IN_A_SEARCH = {
    "in a step": Instant("segbench.training", "torch.optim.Optimizer.zero_grad", 3),
    "study made, not described": Instant("optuna.study", "Study.set_metric_names"),
    "study half described": Instant("optuna.study", "Study.set_user_attr", 2),
    "between two slots of the plan": Instant("optuna.study", "Study.add_trial", 2),
    "study's MLflow run made, not known": Instant("mlflow", "MlflowClient.create_run", 1, after=True),
    "claimed, no heartbeat": Instant("segbench.database", "Ledger.claim", 1, after=True),
    "slot's MLflow run made, not known": Instant("mlflow", "MlflowClient.create_run", 2, after=True),
    "before the first epoch": Instant("segbench.training", "fit"),
    "while a checkpoint is written": Instant("segbench.checkpoint", "os.fsync", 2),
    "between a checkpoint's two renames": Instant("segbench.checkpoint", "os.replace", 5),
    "epoch told, not logged": Instant("segbench.runs", "log_epoch", 2),
    "all trained, not ended": Instant("segbench.objective", "_keep_confusions", 2),
    "MLflow run ended, trial not": Instant("optuna.study", "Study.tell", 2),
    "while weights are kept": Instant("segbench.checkpoint", "save", 2),
}


@pytest.mark.parametrize("instant", IN_A_SEARCH)
def test_a_search_killed(instant: str, place: Place, searched: Found) -> None:
    assert place.run("search", IN_A_SEARCH[instant]) == KILLED, place.output()
    assert place.run("search") == 0, place.output()
    assert_whole(place, searched)
