"""Promotion: trains the best trial of each architecture's study fully, and evaluates the result.

promotion.run(protocol, architectures, Settings("demo"))  → the promoted models

Every epoch goes to MLflow; the model, its card, its masks and its per-image confusions go to storage/models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.core import artefacts, paths
from segbench.core import protocol as protocols
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol, fingerprint
from segbench.core.records import Hyperparameters, to_json
from segbench.core.study_record import StudyRecord
from segbench.experiment import searching
from segbench.experiment.settings import Settings
from segbench.ledger import models
from segbench.ledger.models import Promoted
from segbench.runtime import interrupts, process_group, terminal

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from segbench.data.packing import Dataset
    from segbench.data.subsets import Subset
    from segbench.experiment.examine import Plan
    from segbench.experiment.training_run import Task, TrainingRun
    from segbench.runtime.compute import Compute


def run(protocol: Protocol, architectures: Sequence[Architecture], settings: Settings) -> list[Promoted]:
    """Promotes the best trial of each architecture, one model per seed of the protocol, and skips finished promotions.
    Returns all these models in order.

    All processes of torchrun or accelerate call it, and train each model together. Raises UserError if a study has no
    finished trial, or if data, device or files cannot be used; KeyboardInterrupt after Ctrl-C, with progress saved.
    """
    _require_images_for_all(architectures, settings)
    with process_group.joined(settings.device) as device_name:
        plans = _promote_all(protocol, architectures, device_name, settings)
        folders = [paths.model_folder(each.study.name, seed) for each in plans for seed in protocol.final.seeds]
        return process_group.on_main(
            lambda: [Promoted(folder, models.read_card(folder / artefacts.CARD)) for folder in folders]
        )


def _require_images_for_all(architectures: Sequence[Architecture], settings: Settings) -> None:
    processes = process_group.size()
    if processes > 1 and settings.compiled:
        raise UserError(f"--compile is for one process; {processes} were started, so drop it")
    for architecture in architectures:
        if architecture.batch_size < processes:
            raise UserError(
                f"{architecture.name}.toml has batch_size {architecture.batch_size}, which {processes} processes "
                f"cannot share; start at most {architecture.batch_size}"
            )


def _promote_all(
    protocol: Protocol, architectures: Sequence[Architecture], device_name: str, settings: Settings
) -> list[Plan]:
    from segbench.data import dataset
    from segbench.experiment import rescore
    from segbench.runtime import compute

    chosen = process_group.on_main(lambda: plans(protocol, architectures, settings))
    device = compute.choose(device_name, settings.precision, settings.compiled)
    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = process_group.main_first(lambda: dataset.ready(protocol, str(settings.data) if settings.data else None))
    work = [(plan, seed) for plan in chosen for seed in protocol.final.seeds]
    with terminal.progress("models", len(work)) if len(work) > 1 else contextlib.nullcontext() as advance:
        for plan, seed in work:
            _promote(plan, data, seed, device, settings.precision)
            if advance:
                advance()
    if process_group.is_main():
        for plan in chosen:
            rescore.score(paths.studies_database(settings.study_db), plan, data, device)
    return chosen


def plans(protocol: Protocol, architectures: Sequence[Architecture], settings: Settings) -> list[Plan]:
    """What to promote of each architecture. Raises UserError if one has no finished trial."""
    from segbench.ledger import database, studies

    storage = database.connect(paths.studies_database(settings.study_db))
    made = []
    for architecture in architectures:
        command = f"python -m segbench.search{settings.repeat(architecture.name)}"
        record = studies.record(storage, studies.study_name(protocol, architecture), command)
        if not searching.can_be_promoted(record):
            raise UserError(searching.nothing_to_promote(record, settings))
        made.append(_plan(record, protocol, architecture, command))
    return made


def _plan(study: StudyRecord, protocol: Protocol, architecture: Architecture, command: str) -> Plan:
    """Raises UserError if the TOML files have changed since the search. `command`: the search command."""
    from segbench.experiment import search_display
    from segbench.experiment.examine import Plan
    from segbench.ledger import studies

    if not study.id:
        raise UserError(f"study '{study.name}' was created by an earlier version; update it with a search: {command}")
    best = studies.best(study)
    assert best
    # The search's command line may have overridden these; the study stores their values.
    overrides = {name: getattr(study.protocol.search, name) for name in ("trials", "hours", "sampler", "pruner")}
    protocol = dataclasses.replace(protocol, search=dataclasses.replace(protocol.search, **overrides))
    architecture = dataclasses.replace(architecture, weights=study.architecture.weights)
    if fingerprint(protocol, architecture) != study.fingerprint:
        raise UserError(
            f"the TOML files of '{protocol.name}' have changed since study '{study.name}' was searched; undo the "
            "change, or copy the folder under a new name and search there"
        )
    if not study.finished or len(study.planned) < (protocol.search.trials or 0):
        terminal.say(f"note: {study.name} has used {search_display.used(study)}; to finish the search: {command}")
    return Plan(protocol, architecture, study, best)


def _promote(plan: Plan, data: Dataset, seed: int, compute: Compute, precision: str) -> None:
    """`precision`: the value of --precision."""
    from filelock import FileLock

    require_same_data(plan, data)
    folder = paths.model_folder(plan.study.name, seed)
    lock = FileLock(folder.with_suffix(".lock"), blocking=False)
    process_group.on_main(lambda: acquire(lock, plan, seed))
    try:
        _promote_locked(plan, data, seed, compute, precision, folder)
    finally:
        lock.release()


def require_same_data(plan: Plan, data: Dataset) -> None:
    """Raises UserError if the study was searched on other images."""
    if data.fingerprint != plan.study.data_fingerprint:
        raise UserError(
            f"study '{plan.study.name}' was searched on another dataset (fingerprint {plan.study.data_fingerprint}, "
            f"now {data.fingerprint}); give that dataset with --data, or search again under a copied protocol"
        )


def acquire(lock: BaseFileLock, plan: Plan, seed: int) -> None:
    """Takes the lock of a promotion, and marks its folder as the study's. Raises UserError if another process has
    it."""
    from filelock import Timeout

    from segbench.ledger import study_folders

    study_folders.claim(plan.study.name, plan.study.id, adopt=True)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"'{plan.study.name}', seed {seed}, is being promoted by another process; wait for it, or stop it and "
            "rerun: this one then resumes from the other's checkpoint"
        ) from None


def _promote_locked(plan: Plan, data: Dataset, seed: int, compute: Compute, precision: str, folder: Path) -> None:
    from segbench.data import subsets
    from segbench.engine import resume
    from segbench.experiment.training_run import Images, Task

    chosen, keep = subsets.draw_full_training(data, plan.protocol), plan.protocol.final.keep
    recipe = plan.protocol.recipe_of(plan.architecture)
    hyperparameters = Hyperparameters.from_params(plan.trial.params, recipe)
    if process_group.on_main(lambda: _is_done(folder, plan, hyperparameters, chosen, precision)):
        resume.clear(folder)  # left by a process that was killed in its last steps
        shutil.rmtree(folder.with_suffix(".old"), ignore_errors=True)
        terminal.say(f"\n{plan.architecture.title}, seed {seed}: promoted already, nothing to do")
        if process_group.is_main():
            _complete(plan, data, chosen, compute, folder)
        return
    terminal.say(
        f"\n{plan.architecture.title}, seed {seed}: trial {plan.trial.index} of {plan.study.name}, {chosen.description}"
    )
    augment = plan.protocol.augment_of(plan.architecture)
    crop = plan.protocol.train.crop
    images = Images.of(data, chosen, plan.architecture.batch_size, compute, augment, crop)
    fingerprints = (plan.study.fingerprint, data.fingerprint)
    task = Task(*fingerprints, images, hyperparameters, plan.protocol.final.epochs, seed, keep)
    partial = folder.with_suffix(".partial")
    _train_and_publish(plan, data, task, compute, partial)
    if process_group.is_main():
        _put_in_place(partial, folder)
        resume.clear(folder)


def _complete(plan: Plan, data: Dataset, chosen: Subset, compute: Compute, folder: Path) -> None:
    """Measures what is missing: an earlier version, or protocol, did not."""
    from segbench.experiment import examine
    from segbench.experiment.training_run import Images

    if not examine.is_complete(plan, folder):
        trained_on = Images.of(data, chosen, plan.architecture.batch_size, compute, None)
        images = examine.final_images(plan, data, trained_on, compute)
        examine.complete(plan, data, images, compute, folder)


def _train_and_publish(plan: Plan, data: Dataset, task: Task, compute: Compute, folder: Path) -> None:
    """Trains and examines the model, and writes it to `folder` and MLflow."""
    from segbench.experiment import examine, training_run
    from segbench.experiment.training_run import TrainingRun
    from segbench.ledger import registry, runs

    started = time.perf_counter()
    classes, passes = len(plan.protocol.data.labels), plan.protocol.passes
    model, origin = process_group.main_first(
        lambda: training_run.build(plan.architecture, task.hyperparameters, task.seed, classes, passes)
    )
    run = TrainingRun.begin(task, model, origin, folder, compute)
    earlier = sum(record.seconds.total for record in run.session.records)
    if process_group.is_main():
        open_mlflow(plan, run, "promotion", "promoted")
    with run.in_mlflow():
        train(plan, run)
        if not process_group.is_main():
            return
        assert run.mlflow
        card = examine.examine(examine.Trained(plan, run, started - earlier), data)
        numbers = {f"speed/{k}": float(v) for k, v in to_json(card.speed).items() if isinstance(v, (int, float))}
        runs.log_metrics(run.mlflow, run.id, {**numbers, "best/miou": card.best.miou, "best/epoch": card.best.epoch})
        models.write_card(folder / artefacts.CARD, card)
        registry.publish(run.mlflow, folder, card, run.session.records)


def open_mlflow(plan: Plan, run: TrainingRun, kind: str, done: str) -> None:
    """Opens the MLflow run of a full training. `kind`: its tag; `done`: what its name says was done."""
    from segbench.ledger import runs, tracking

    mlflow = tracking.client()
    architecture, study, seed = plan.architecture.name, plan.study.name, run.task.seed
    trial = runs.trial_tags(study, plan.trial.attempt, plan.trial.index)
    run.open_mlflow(
        mlflow,
        f"{architecture} {done}, seed {seed}",
        {"kind": kind, "seed": str(seed), **trial},
        lambda: runs.study_run(mlflow, plan.protocol.name, study, plan.study.id, {"architecture": architecture}),
    )


def train(plan: Plan, run: TrainingRun) -> None:
    """Trains all epochs. Raises UserError if training cannot continue, KeyboardInterrupt if it was stopped."""
    from segbench.ledger import studies

    with terminal.progress(plan.architecture.name, run.task.epochs) as advance, interrupts.graceful():
        try:
            for record in run.epochs():
                best = f"best {run.session.best.record.value:.3f}"
                advance(f"{record.value_name} {record.value:.3f}, {best}, {record.images_per_second:.1f} images/s")
            run.keep()  # what follows may be interrupted too
        except studies.TrialFailed as failure:
            raise UserError(f"the full training of '{plan.study.name}' failed: {failure}") from failure
        except studies.Stopped:
            raise interrupts.interrupt() from None
        if interrupts.agreed():
            raise interrupts.interrupt()


def _is_done(folder: Path, plan: Plan, hyperparameters: Hyperparameters, chosen: Subset, precision: str) -> bool:
    """Whether `folder` holds this promotion, in this `precision` unless that is "auto". A different promotion, also one
    that kept another epoch's weights, is replaced once the new one is complete."""
    if not (folder / artefacts.CARD).is_file():
        return False
    try:
        card = models.read_card(folder / artefacts.CARD)
    except UserError:
        return False  # damaged, or of another version: this promotion replaces it
    final = plan.protocol.final
    if card.keep != final.keep:
        terminal.say(f"{folder} keeps the weights '{card.keep}'; the protocol asks for '{final.keep}': trained again")
        return False
    counts = (card.epochs, card.train_images, card.selection_images or card.val_images)
    planned_counts = (final.epochs, len(chosen.train), len(chosen.val))
    same_intent = (card.fingerprint, card.data_fingerprint) == (plan.study.fingerprint, plan.study.data_fingerprint)
    same_precision = precision in ("auto", card.device.precision)
    return same_intent and same_precision and card.hyperparameters == hyperparameters and counts == planned_counts


def _put_in_place(partial: Path, folder: Path) -> None:
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
