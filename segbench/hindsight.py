"""What the trials of a search score on the final images, where `search --keep-weights` kept their weights.

Ten configurations are told apart on few selection images. Scored once more on all final ones, after everything is
chosen, they tell whether those few ranked them rightly. No choice is ever made from these scores.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import optuna

from segbench import checkpoint, evaluation, objective, places, terminal
from segbench.compute import Compute
from segbench.data import subset
from segbench.data.packed import Dataset
from segbench.database import Ledger
from segbench.examine import Plan
from segbench.records import Hyperparameters, TrialRecord, to_json
from segbench.trials import FINAL_SCORES, NONE

_FEWEST = 3  # of two trials a ranking says nothing, and the best's weights are always there


def score(storage: Ledger, plan: Plan, data: Dataset, device: Compute) -> None:
    """Writes each kept trial's mIoU on the final images into its study, one by one: those that are there already are
    not scored again."""
    study = optuna.load_study(study_name=plan.study.name, storage=storage)
    chosen = subset.draw_final(data, plan.protocol.final)
    kept = [(trial, path) for trial in plan.study.trials if (path := _weights(plan, trial))]
    known = study.user_attrs.get(FINAL_SCORES, NONE)
    scores = dict(known["scores"]) if known["images"] == chosen.words else {}
    left = [(trial, path) for trial, path in kept if scores.get(str(trial.slot), {}).get("epoch") != _epoch(path)]
    if len(kept) < _FEWEST or not left:
        return
    images = objective.Images.of(data, chosen, plan.architecture.batch_size, device, None)
    with terminal.progress(f"{plan.architecture.name}, trials on the final images", len(left)) as advance:
        for trial, path in left:
            found = _score(plan, trial, path, images, device)
            scores[str(trial.slot)] = {"epoch": _epoch(path), "miou": found}
            study.set_user_attr(FINAL_SCORES, to_json({"images": chosen.words, "scores": scores}))
            advance(f"trial {trial.slot}: mIoU {found:.3f}, {trial.value:.3f} on the selection images")


def _score(plan: Plan, trial: TrialRecord, path: Path, images: objective.Images, device: Compute) -> float:
    untrained = dataclasses.replace(plan.architecture, weights="random")  # every weight comes from the file
    model, _ = objective.build(untrained, Hyperparameters.from_params(trial.params), seed=0)
    checkpoint.load(model, path)
    return evaluation.evaluate(model.to(device.device), images.val, device).scores.miou


def _weights(plan: Plan, trial: TrialRecord) -> Path | None:
    """Of a finished trial of the plan, where they were kept."""
    path = places.trial_folder(plan.study.name, trial.slot) / "best.safetensors"
    if trial.state != "complete" or trial.baseline or not path.is_file():
        return None
    return path if checkpoint.metadata(path).get("study") == plan.study.fingerprint else None


def _epoch(path: Path) -> str:
    return checkpoint.metadata(path)["epoch"]
