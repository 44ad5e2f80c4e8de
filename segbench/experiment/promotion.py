"""Promoting: trains the best trial of each architecture's study fully, and measures what the result is worth.

promotion.run(protocol, architectures, Settings("demo"))  → the promoted models

Every epoch goes to MLflow; the model, its card, its masks and its per-image confusions go to storage/models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.core import artefacts, paths
from segbench.core import protocol as protocols
from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol, fingerprint
from segbench.core.records import EpochRecord, Hyperparameters, WeightsOrigin, to_json
from segbench.core.study_record import StudyRecord
from segbench.experiment.settings import Settings
from segbench.ledger import models
from segbench.ledger.models import Promoted
from segbench.runtime import interrupts, process_group, terminal

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from mlflow import MlflowClient

    from segbench.data.packing import Dataset
    from segbench.data.subsets import Subset
    from segbench.engine.resume import TrainingSession
    from segbench.engine.training import State
    from segbench.experiment.examine import Plan
    from segbench.experiment.objective import Images
    from segbench.runtime.compute import Compute


def run(protocol: Protocol, architectures: Sequence[Architecture], settings: Settings) -> list[Promoted]:
    """Promotes the best trial of each architecture, one model per seed of the protocol; what is promoted already is
    left as it is. Returns these models in order.

    The processes of torchrun or accelerate that all call it train each model together. Raises UserError where there is
    no finished trial, and where data, device or files cannot be used; KeyboardInterrupt after Ctrl-C, when what was
    done is kept.
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

    plans = process_group.on_main(lambda: _plans(protocol, architectures, settings))
    device = compute.choose(device_name, settings.precision, settings.compiled)
    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = process_group.main_first(lambda: dataset.ready(protocol, str(settings.data) if settings.data else None))
    work = [(plan, seed) for plan in plans for seed in protocol.final.seeds]
    with terminal.progress("models", len(work)) if len(work) > 1 else contextlib.nullcontext() as advance:
        for plan, seed in work:
            _promote(plan, data, seed, device)
            if advance:
                advance()
    if process_group.is_main():
        for plan in plans:
            rescore.score(paths.studies_database(settings.study_db), plan, data, device)
    return plans


def _plans(protocol: Protocol, architectures: Sequence[Architecture], settings: Settings) -> list[Plan]:
    from segbench.ledger import database, studies

    storage = database.connect(paths.studies_database(settings.study_db))
    plans = []
    for architecture in architectures:
        command = f"python -m segbench.search{settings.repeat(architecture.name)}"
        record = studies.record(storage, studies.study_name(protocol, architecture), command)
        plans.append(_plan(record, protocol, architecture, command))
    return plans


def _plan(study: StudyRecord, protocol: Protocol, architecture: Architecture, command: str) -> Plan:
    """Raises UserError where no trial is finished, or where the TOML has changed since the search. `command`: the one
    that searches."""
    from segbench.experiment.examine import Plan
    from segbench.ledger import studies

    best = studies.best(study)
    if best is None:
        raise UserError(f"study '{study.name}' has no finished trial to promote; search first: {command}")
    # The search may have been told otherwise on its command line; the study remembers.
    asked = {name: getattr(study.protocol.search, name) for name in ("trials", "sampler", "pruner")}
    protocol = dataclasses.replace(protocol, search=dataclasses.replace(protocol.search, **asked))
    architecture = dataclasses.replace(architecture, weights=study.architecture.weights)
    if fingerprint(protocol, architecture) != study.fingerprint:
        raise UserError(
            f"the TOML files of '{protocol.name}' have changed since study '{study.name}' was searched; undo the "
            "change, or copy the folder under a new name and search there"
        )
    finished = sum(t.state.ended for t in study.planned)
    if finished < protocol.search.trials:
        terminal.say(
            f"note: {finished} of {protocol.search.trials} trials of {study.name} are finished; go on: {command}"
        )
    return Plan(protocol, architecture, study, best)


def _promote(plan: Plan, data: Dataset, seed: int, device: Compute) -> None:
    from filelock import FileLock

    if data.fingerprint != plan.study.data_fingerprint:
        raise UserError(
            f"study '{plan.study.name}' was searched on another dataset (fingerprint {plan.study.data_fingerprint}, "
            f"now {data.fingerprint}); give the same with --data, or search again under a copied protocol"
        )
    folder = paths.model_folder(plan.study.name, seed)
    lock = FileLock(folder.with_suffix(".lock"), blocking=False)
    process_group.on_main(lambda: _acquire(lock, plan, seed))
    try:
        _promote_locked(plan, data, seed, device, folder)
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, plan: Plan, seed: int) -> None:
    from filelock import Timeout

    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"'{plan.study.name}', seed {seed}, is being promoted by another process; let it end, or stop it and type "
            "the same command again: it goes on where the other stopped"
        ) from None


def _promote_locked(plan: Plan, data: Dataset, seed: int, device: Compute, folder: Path) -> None:
    from segbench.data import subsets
    from segbench.engine import resume, training
    from segbench.experiment import examine, objective
    from segbench.ledger import registry, runs, tracking

    chosen = subsets.draw_final(data, plan.protocol.final)
    hyperparameters = Hyperparameters.from_params(plan.trial.params)
    if process_group.on_main(lambda: _is_done(folder, plan, hyperparameters, chosen)):
        resume.clear(folder)  # left by a process that was killed in its very last steps
        shutil.rmtree(folder.with_suffix(".old"), ignore_errors=True)
        terminal.say(f"\n{plan.architecture.title}, seed {seed}: promoted already, nothing to do")
        return
    terminal.say(
        f"\n{plan.architecture.title}, seed {seed}: trial {plan.trial.index} of {plan.study.name}, {chosen.description}"
    )
    started = time.perf_counter()
    images = objective.Images.of(data, chosen, plan.architecture.batch_size, device, plan.protocol.augment)
    model, origin = process_group.main_first(lambda: objective.build(plan.architecture, hyperparameters, seed))
    state = training.begin(model, hyperparameters, device)
    partial = folder.with_suffix(".partial")
    kept = resume.TrainingSession(partial, _identity(plan, data, images, origin, seed, device))
    kept.restore(state)
    if len(set(process_group.gather(state.epoch))) > 1:
        raise UserError(f"not every process finds the checkpoint in {partial}; all need the same SEGBENCH_STORAGE")
    if not process_group.is_main():
        _train(plan, state, images, seed, kept, lambda record: None)
        return
    earlier = sum(record.seconds.total for record in kept.records)
    mlflow = tracking.client()
    run = _run(plan, mlflow, kept, seed)
    with runs.ended(mlflow, run):
        _train(plan, state, images, seed, kept, _log(mlflow, run))
        trained = examine.Trained(plan, state, kept, hyperparameters, origin, seed, run, started - earlier)
        card = examine.examine(trained, images, data)
        numbers = {f"speed/{k}": float(v) for k, v in to_json(card.speed).items() if isinstance(v, (int, float))}
        runs.log_metrics(mlflow, run, {**numbers, "best/miou": card.best.miou, "best/epoch": card.best.epoch})
        models.write_card(partial / artefacts.CARD, card)
        registry.publish(mlflow, partial, card, kept.records)
    _put_in_place(partial, folder)
    resume.clear(folder)


def _identity(plan: Plan, data: Dataset, images: Images, origin: WeightsOrigin, seed: int, device: Compute) -> str:
    from segbench.engine import resume

    final = (plan.protocol.final.epochs, images.train.images, images.val.images, seed)
    where = (device.record.kind, device.record.precision)
    return resume.identity(plan.study.fingerprint, data.fingerprint, plan.trial.params, final, origin.sha256, where)


def _run(plan: Plan, mlflow: MlflowClient, kept: TrainingSession, seed: int) -> str:
    """The promotion's MLflow run: the one it began before it was killed, where it was."""
    from segbench.ledger import runs

    tags = {
        "kind": "promotion",
        "seed": str(seed),
        **runs.trial_tags(plan.study.name, plan.trial.attempt, plan.trial.index),
    }
    run = kept.run
    if not run or not runs.reopened(mlflow, run, tags):
        parent = runs.study_run(mlflow, plan.protocol.name, plan.study.name, {"architecture": plan.architecture.name})
        name = f"{plan.architecture.name} promoted, seed {seed}"
        run = runs.nested_run(mlflow, parent, name, tags, plan.trial.params)
        kept.run = run
    return run


def _log(mlflow: MlflowClient, run: str) -> Callable[[EpochRecord], None]:
    """What logs those epochs that are not in the run yet."""
    from segbench.ledger import runs

    logged = runs.steps(mlflow, run)

    def log(record: EpochRecord) -> None:
        if record.epoch not in logged:
            runs.log_epoch(mlflow, run, record)

    return log


def _train(
    plan: Plan, state: State, images: Images, seed: int, kept: TrainingSession, log: Callable[[EpochRecord], None]
) -> None:
    """All epochs, also those of before a kill. Raises UserError where training cannot go on."""
    from segbench.experiment import objective
    from segbench.ledger import studies

    number = plan.protocol.final.epochs
    try:
        with terminal.progress(plan.architecture.name, number) as advance, interrupts.graceful():
            for record in kept.epochs(state, objective.epochs(state, images, number, seed)):
                log(record)
                best = kept.best.record.miou
                advance(f"mIoU {record.miou:.3f}, best {best:.3f}, {record.images_per_second:.1f} images/s")
                if interrupts.agreed():
                    kept.write(state)
                    process_group.gather(None)  # torchrun ends all as soon as one has ended: not before all is kept
                    raise interrupts.interrupt()
    except studies.TrialFailed as failure:
        raise UserError(f"the full training of '{plan.study.name}' did not end: {failure}") from failure
    kept.write(state)  # what follows may be interrupted too


def _is_done(folder: Path, plan: Plan, hyperparameters: Hyperparameters, chosen: Subset) -> bool:
    """Whether `folder` holds this very promotion. Another one is replaced once the new one is complete."""
    if not (folder / artefacts.CARD).is_file():
        return False
    try:
        card = models.read_card(folder / artefacts.CARD)
    except UserError:
        return False  # damaged, or of another version: this promotion replaces it
    counts = (card.epochs, card.train_images, card.val_images)
    wanted = (plan.protocol.final.epochs, len(chosen.train), len(chosen.val))
    same_intent = (card.fingerprint, card.data_fingerprint) == (plan.study.fingerprint, plan.study.data_fingerprint)
    return same_intent and card.hyperparameters == hyperparameters and counts == wanted


def _put_in_place(partial: Path, folder: Path) -> None:
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
