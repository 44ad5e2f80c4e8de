"""What the trials of a search score on the final images, where `search --keep-weights` kept their weights.

Ten configurations are told apart on few selection images. Scored once more on all final ones, after everything is
chosen, they tell whether those few ranked them rightly. No choice is ever made from these scores.
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

_FEWEST = 3  # of two trials a ranking says nothing, and the best's weights are always there


def score(study_db: str, plan: Plan, data: Dataset, device: Compute) -> None:
    """Writes each kept trial's mIoU on the final images into its study, one by one: those that are there already are
    not scored again."""
    kept = [(trial, path) for trial in plan.study.trials if (path := _weights(plan, trial))]
    if len(kept) < _FEWEST:
        return
    study = optuna.load_study(study_name=plan.study.name, storage=database.connect(study_db))
    chosen = subsets.draw_final(data, plan.protocol.final)
    known = study.user_attrs.get(FINAL_SCORES, NO_FINAL_SCORES)
    scores = dict(known["scores"]) if known["images"] == chosen.description else {}
    left = [(trial, path) for trial, path in kept if str(trial.index) not in scores]
    if not left:
        return
    images = Batches(subsets.split_of(data, chosen), chosen.val, plan.architecture.batch_size, device.device)
    with terminal.progress(f"{plan.architecture.name}, trials on the final images", len(left)) as advance:
        for trial, path in left:
            found = _score(plan, trial, path, images, device)
            scores[str(trial.index)] = found
            study.set_user_attr(FINAL_SCORES, {"images": chosen.description, "scores": scores})
            advance(f"trial {trial.index}: mIoU {found:.3f}, {trial.value:.3f} on the selection images")


def _score(plan: Plan, trial: TrialRecord, path: Path, images: Batches, device: Compute) -> float:
    untrained = dataclasses.replace(plan.architecture, weights="random")  # every weight comes from the file
    model, _ = training_run.build(untrained, Hyperparameters.from_params(trial.params), seed=0)
    checkpoint.load(model, path)
    return evaluation.evaluate(model.to(device.device), images, device).scores.miou


def _weights(plan: Plan, trial: TrialRecord) -> Path | None:
    """Of a finished trial of the plan, where they were kept."""
    path = paths.trial_folder(plan.study.name, trial.index) / artefacts.WEIGHTS
    if trial.state != TrialState.COMPLETE or trial.baseline or not path.is_file():
        return None
    return path if checkpoint.metadata(path).get("study") == plan.study.fingerprint else None
