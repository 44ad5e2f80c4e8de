"""Scores a search's trials on the final images, if `search --keep-weights` kept their weights.

A search ranks its configurations on few selection images. Scoring them on all final images, after everything is chosen,
shows whether that ranking was right. These scores never decide anything.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import optuna

from segbench.core import artefacts, paths
from segbench.core.records import Hyperparameters
from segbench.core.study_record import TrialRecord, TrialState
from segbench.data import subsets
from segbench.data.batches import Batches
from segbench.data.packing import Dataset
from segbench.engine import checkpoint, evaluation
from segbench.experiment import training_run
from segbench.experiment.examine import Plan
from segbench.ledger import database
from segbench.ledger.reading import FINAL_SCORES, NO_FINAL_SCORES
from segbench.runtime import terminal
from segbench.runtime.compute import Compute

_FEWEST = 3  # trials; a ranking of two says nothing


def score(study_db: str, plan: Plan, data: Dataset, device: Compute) -> None:
    """Writes the value on the final images of each trial with weights into its study, one by one, and skips trials that
    have been scored."""
    scorable = [(trial, path) for trial in plan.study.trials if (path := _weights(plan, trial))]
    if len(scorable) < _FEWEST:
        return
    study = optuna.load_study(study_name=plan.study.name, storage=database.connect(study_db))
    chosen = subsets.draw_final(data, plan.protocol.final)
    known = study.user_attrs.get(FINAL_SCORES, NO_FINAL_SCORES)
    scores = dict(known["scores"]) if known["images"] == chosen.description else {}
    left = [(trial, path) for trial, path in scorable if str(trial.index) not in scores]
    if not left:
        return
    images = Batches(subsets.split_of(data, chosen), chosen.val, plan.architecture.batch_size, device.device)
    with terminal.progress(f"{plan.architecture.name}, trials on the final images", len(left)) as advance:
        for trial, path in left:
            value = _score(plan, trial, path, images, device)
            scores[str(trial.index)] = value
            study.set_user_attr(FINAL_SCORES, {"images": chosen.description, "scores": scores})
            name = plan.protocol.data.value_name
            advance(f"trial {trial.index}: {name} {value:.3f}, {trial.value:.3f} on the selection images")


def _score(plan: Plan, trial: TrialRecord, path: Path, images: Batches, device: Compute) -> float:
    untrained = dataclasses.replace(plan.architecture, weights="random")  # every weight comes from the file
    classes, passes = len(images.label_set), plan.protocol.passes
    model, _ = training_run.build(untrained, Hyperparameters.from_params(trial.params), 0, classes, passes)
    checkpoint.load(model, path)
    return evaluation.evaluate(model.to(device.device), images, device).value


def _weights(plan: Plan, trial: TrialRecord) -> Path | None:
    """The weights of a finished trial of the study, if they were kept; never the baseline's."""
    path = paths.trial_folder(plan.study.name, trial.index) / artefacts.WEIGHTS
    if trial.state != TrialState.COMPLETE or trial.baseline or not path.is_file():
        return None
    return path if checkpoint.metadata(path).get("study") == plan.study.fingerprint else None
