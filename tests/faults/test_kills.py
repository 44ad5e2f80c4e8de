"""SIGKILL and SIGTERM: at every instant whose order matters, and at random ones."""

from __future__ import annotations

import signal

import pytest

from segbench.core import paths
from tests.faults.command import Instant
from tests.faults.harness import Found, Place, assert_whole

KILLED = -signal.SIGKILL
# In the order in which a search comes to them, so that each kill meets what those before have left.
IN_A_SEARCH = {
    "study made, not described": Instant("optuna.study", "Study.set_metric_names"),
    "study half described": Instant("optuna.study", "Study.set_user_attr", 2),
    "half of the plan queued": Instant("segbench.ledger.attempts", "_insert", 2),
    "study's MLflow run made, not ended": Instant("mlflow", "MlflowClient.create_run", 1, after=True),
    "study's MLflow run made, not known": Instant("mlflow", "MlflowClient.set_terminated", 1, after=True),
    "claimed, not begun": Instant("segbench.ledger.queue", "claim", 1, after=True),
    "dead attempt ended, trial not queued again": Instant("segbench.ledger.attempts", "requeue", 1),
    "trial's MLflow run made, not known": Instant("mlflow", "MlflowClient.create_run", 1, after=True),
    "while a checkpoint is written": Instant("segbench.engine.checkpoint", "os.fsync", 4),
    "between a checkpoint's two renames": Instant("segbench.engine.checkpoint", "os.replace", 1, after=True),
    "epoch kept, not logged": Instant("segbench.ledger.runs", "log_epoch", 1),
    "in a step": Instant("segbench.architectures.parts.per_pixel", "PerPixel.losses", 5),
    "all trained, confusions half written": Instant("segbench.ledger.models", "np.savez_compressed"),
    "while weights are kept": Instant("segbench.core.files", "os.replace", 2),
    "MLflow run ended, trial not": Instant("optuna.study", "Study.tell", 1),
}
IN_A_PROMOTION = {
    "MLflow run made, not known": Instant("mlflow", "MlflowClient.create_run", 1, after=True),
    "epoch logged": Instant("segbench.ledger.runs", "log_epoch", 1, after=True),
    "in a step": Instant("segbench.architectures.parts.per_pixel", "PerPixel.losses", 4),
    "while the best weights are written": Instant("segbench.engine.checkpoint", "save", 2),
    "while masks are written": Instant("segbench.data.pictures", "mask", 3),
    "MLflow run ended, no card": Instant("segbench.ledger.models", "write_card"),
    "card written, not in place": Instant("segbench.experiment.promotion", "_put_in_place"),
    "in place, not cleared": Instant("segbench.experiment.promotion", "_put_in_place", 1, after=True),
}


@pytest.mark.slow
def test_killed_at_every_instant(place: Place, searched: Found, promoted: Found) -> None:
    for name, instant in IN_A_SEARCH.items():
        assert place.run("search", instant) == KILLED, (name, place.output())
    assert place.run("search") == 0, place.output()
    assert_whole(place, searched)
    for name, instant in IN_A_PROMOTION.items():
        assert place.run("promote", instant) == KILLED, (name, place.output())
        with place.visited():
            assert len(list(paths.storage().glob("models/*/seed0/card.json"))) == (name == "in place, not cleared")
    assert place.run("promote") == 0, place.output()
    assert_whole(place, promoted)
