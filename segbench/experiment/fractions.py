"""How much data? Trains the best trial of each architecture on nested fractions of the final training images.

Every fraction is a training like a promotion, for as many epochs, into a folder of its own: promotions are untouched.
Fractions are nested, so that a larger one differs from a smaller one by the images it adds.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.core.protocol import LAST, Architecture, Protocol
from segbench.core.records import Hyperparameters
from segbench.data import dataset, subsets
from segbench.data.packing import Dataset
from segbench.data.subsets import Subset
from segbench.engine import evaluation, resume
from segbench.experiment import examine, promotion, training_run
from segbench.experiment.examine import Plan
from segbench.experiment.settings import Settings
from segbench.experiment.training_run import Images, Task, TrainingRun
from segbench.ledger import fractions, models
from segbench.ledger.fractions import Fraction
from segbench.runtime import compute, process_group, terminal
from segbench.runtime.compute import Compute


def run(protocol: Protocol, architectures: Sequence[Architecture], settings: Settings, parts: Sequence[float]) -> None:
    """Trains what is missing of these fractions, except 1, of every architecture and seed. Raises like
    `promotion.run`, and UserError for a fraction of less than two images."""
    with process_group.joined(settings.device) as device_name:
        plans = process_group.on_main(lambda: promotion.plans(protocol, architectures, settings))
        device = compute.choose(device_name, settings.precision, settings.compiled)
        data = process_group.main_first(lambda: dataset.ready(protocol, str(settings.data) if settings.data else None))
        whole = subsets.draw_full_training(data, protocol)
        chosen = [subsets.fraction(whole, part) for part in parts if part < 1]
        for plan in plans:
            promotion.require_same_data(plan, data)
            for seed, subset in itertools.product(protocol.final.seeds, chosen):
                with _locked(plan, seed):
                    _train(plan, data, subset, seed, device, settings.precision)


@contextlib.contextmanager
def _locked(plan: Plan, seed: int) -> Iterator[None]:
    """The lock of the promotion with this seed, which the deletion of the study waits for."""
    lock = FileLock(paths.model_folder(plan.study.name, seed).with_suffix(".lock"), blocking=False)
    process_group.on_main(lambda: promotion.acquire(lock, plan, seed))
    try:
        yield
    finally:
        lock.release()


def _train(plan: Plan, data: Dataset, chosen: Subset, seed: int, device: Compute, precision: str) -> None:
    """`precision`: the value of --precision."""
    folder = paths.fractions_folder(plan.study.name) / f"{len(chosen.train)}-seed{seed}"
    recipe = plan.protocol.recipe_of(plan.architecture)
    hyperparameters = Hyperparameters.from_params(plan.trial.params, recipe)
    augment = plan.protocol.augment_of(plan.architecture)
    images = Images.of(data, chosen, plan.architecture.batch_size, device, augment, plan.protocol.train.crop)
    epochs = plan.protocol.final.epochs
    task = Task(
        plan.study.fingerprint, data.fingerprint, images, hyperparameters, epochs, seed, plan.protocol.final.keep
    )
    terminal.say(f"\n{plan.architecture.title}, seed {seed}: {len(chosen.train)} train images")
    if process_group.on_main(lambda: _is_done(folder, task, precision)):
        terminal.say("trained already, nothing to do")
        return
    classes, passes = len(plan.protocol.data.labels), plan.protocol.passes
    model, origin = process_group.main_first(
        lambda: training_run.build(plan.architecture, hyperparameters, seed, classes, passes)
    )
    run = TrainingRun.begin(task, model, origin, folder, device)
    if process_group.is_main():
        promotion.open_mlflow(plan, run, "fraction", f"on {len(chosen.train)} images")
    with run.in_mlflow():
        promotion.train(plan, run)
        if process_group.is_main():
            _publish(run, plan, data, device, folder)


def _publish(run: TrainingRun, plan: Plan, data: Dataset, device: Compute, folder: Path) -> None:
    """Scores the kept epoch's weights on the final images, as a promotion does, and writes what the report needs; the
    record last."""
    task, model = run.task, run.state.evaluated
    kept = run.session.records[-1] if task.keep == LAST else run.session.best.record
    if task.keep != LAST:
        model.load_state_dict(run.session.best.weights)
    final = examine.final_images(plan, data, task.images, device)
    result = evaluation.evaluate(model, final.val, device)
    best, precision = examine.scored(kept, result), device.record.precision
    try:
        models.write_confusions(folder / artefacts.CONFUSIONS, final.names, result.confusions, result.segments)
        fractions.write(folder, Fraction(*_intent(task), precision, best))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error}); free some space and rerun: nothing is trained twice"
        ) from error
    resume.clear(folder)


def _is_done(folder: Path, task: Task, precision: str) -> bool:
    """Whether `folder` holds this training, in this `precision` unless that is "auto"."""
    known = fractions.read(folder)
    if known is None or precision not in ("auto", known.precision):
        return False
    return known == Fraction(*_intent(task), known.precision, known.best)


def _intent(task: Task) -> tuple[str, str, Hyperparameters, int, int, int, int]:
    """The first fields of a Fraction."""
    counts = (task.images.train.images, task.images.val.images)
    return task.fingerprint, task.data_fingerprint, task.hyperparameters, *counts, task.epochs, task.seed
