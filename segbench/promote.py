"""Train the best trial's configuration fully, keep the best and the last weights, and measure what they are worth.

    python -m segbench.promote deeplab
    python -m segbench.promote                       every architecture of the protocol, in turn

Every epoch goes to MLflow; the model, its card, its masks and its per-image confusions go to storage/models.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from segbench import models, options, places, terminal
from segbench import protocol as protocols
from segbench.errors import UserError
from segbench.labels import CATEGORIES
from segbench.protocol import Architecture, Protocol, fingerprint
from segbench.records import (
    EpochRecord,
    Hyperparameters,
    ModelCard,
    SpeedCard,
    StudyRecord,
    TrialRecord,
    WeightsOrigin,
    to_json,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

    from segbench.architectures.segmenter import Segmenter
    from segbench.compute import Compute
    from segbench.data.packed import Dataset
    from segbench.data.subset import Subset
    from segbench.objective import Images
    from segbench.training import State

_VERSIONS = ("segbench", "torch", "torchvision", "transformers", "optuna", "mlflow", "numpy")


def main(argv: list[str] | None = None) -> int:
    """Promotes the best trial of each architecture."""
    arguments = options.parse(options.parser(__doc__), argv)
    protocol, chosen = options.read(arguments)

    from segbench import compute, database, dataset, trials

    storage = database.connect(places.studies_database(arguments.study_db))
    plans = [_plan(trials.record(storage, trials.study_name(protocol, one)), protocol, one) for one in chosen]
    device = compute.choose(arguments.device, arguments.compile)
    if protocol.drawn:
        terminal.banner(protocols.DRAWN)
    data = dataset.ready(protocol, arguments.data)
    for plan in plans:
        for seed in protocol.final.seeds:
            _promote(plan, data, seed, device)
    _table(protocol)
    terminal.next_command(
        "python -m segbench.report" + options.protocol_again(arguments) + options.study_db_again(arguments)
    )
    return 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is promoted: the best trial of a study, under the protocol that study was made with."""

    protocol: Protocol
    architecture: Architecture
    study: StudyRecord
    trial: TrialRecord


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training left, before it is examined."""

    plan: Plan
    model: Segmenter
    hyperparameters: Hyperparameters
    origin: WeightsOrigin
    seed: int
    records: list[EpochRecord]
    run: str
    started: float  # time.perf_counter()


def _plan(study: StudyRecord, protocol: Protocol, architecture: Architecture) -> Plan:
    """Raises UserError where no trial is finished, or where the TOML has changed since the search."""
    from segbench import trials

    best = trials.best(study)
    command = f"python -m segbench.search {architecture.name} --protocol {protocol.name}"
    if best is None:
        raise UserError(f"study '{study.name}' has no finished trial to promote; search first: {command}")
    # The search may have been told otherwise on its command line; the study remembers.
    asked = {name: study.protocol["search"][name] for name in ("trials", "sampler", "pruner")}
    protocol = dataclasses.replace(protocol, search=dataclasses.replace(protocol.search, **asked))
    architecture = dataclasses.replace(architecture, weights=study.architecture["weights"])
    if fingerprint(protocol, architecture) != study.fingerprint:
        raise UserError(
            f"the TOML files of '{protocol.name}' have changed since study '{study.name}' was searched; undo the "
            "change, or copy the folder under a new name and search there"
        )
    finished = sum(t.state not in ("waiting", "running") and not t.baseline for t in study.trials)
    if finished < protocol.search.trials:
        terminal.say(
            f"note: {finished} of {protocol.search.trials} trials of {study.name} are finished; go on: {command}"
        )
    return Plan(protocol, architecture, study, best)


def _promote(plan: Plan, data: Dataset, seed: int, device: Compute) -> None:
    from segbench import objective, runs
    from segbench.data import subset

    if data.fingerprint != plan.study.data_fingerprint:
        raise UserError(
            f"study '{plan.study.name}' was searched on another dataset (fingerprint {plan.study.data_fingerprint}, "
            f"now {data.fingerprint}); give the same with --data, or search again under a copied protocol"
        )
    chosen = subset.draw_final(data, plan.protocol.final)
    folder = places.model_folder(plan.study.name, seed)
    hyperparameters = Hyperparameters.from_params(plan.trial.params)
    if _is_done(folder, plan, hyperparameters, chosen):
        terminal.say(f"\n{plan.architecture.title}, seed {seed}: promoted already, nothing to do")
        return
    terminal.say(
        f"\n{plan.architecture.title}, seed {seed}: trial {plan.trial.slot} of {plan.study.name}, {chosen.words}"
    )
    images = objective.Images.of(data, chosen, plan.architecture.batch_size, device)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    mlflow = runs.client()
    parent = runs.study_run(mlflow, plan.protocol.name, plan.study.name, {"architecture": plan.architecture.name})
    tags = {"kind": "promotion", "slot": str(plan.trial.slot), "trial": str(plan.trial.number), "seed": str(seed)}
    run = runs.nested_run(mlflow, parent, f"{plan.architecture.name} promoted, seed {seed}", tags, plan.trial.params)
    with runs.ended(mlflow, run):
        started = time.perf_counter()
        state, origin = objective.begin(plan.architecture, hyperparameters, seed, device)
        records = _train(plan, state, images, seed, mlflow, run, partial)
        trained = Trained(plan, state.model, hyperparameters, origin, seed, records, run, started)
        card = _examine(trained, images, data, device, partial)
        numbers = {f"speed/{k}": float(v) for k, v in to_json(card.speed).items() if isinstance(v, (int, float))}
        runs.log_metrics(mlflow, run, {**numbers, "best/miou": card.best.miou, "best/epoch": card.best.epoch})
    _put_in_place(partial, folder)


def _train(
    plan: Plan, state: State, images: Images, seed: int, mlflow: MlflowClient, run: str, folder: Path
) -> list[EpochRecord]:
    """All epochs; the best and the last weights are in `folder` then. Raises UserError where training cannot go on."""
    from segbench import checkpoint, objective, runs, trials

    epochs = plan.protocol.final.epochs
    records: list[EpochRecord] = []
    best = -1.0
    try:
        with terminal.progress(plan.architecture.name, epochs) as advance:
            for record in objective.epochs(state, images, epochs, seed):
                records.append(record)
                runs.log_epoch(mlflow, run, record)
                if record.miou > best:
                    best = record.miou
                    checkpoint.save(state.model, folder / "best.safetensors")
                advance(f"mIoU {record.miou:.3f}, best {best:.3f}, {record.images_per_second:.1f} images/s")
    except trials.TrialFailed as failure:
        raise UserError(f"the full training of '{plan.study.name}' did not end: {failure}") from failure
    checkpoint.save(state.model, folder / "last.safetensors")
    return records


def _examine(trained: Trained, images: Images, data: Dataset, compute: Compute, folder: Path) -> ModelCard:
    """Measures the best weights once more, image by image, and writes everything beside them; the card last."""
    import numpy as np

    from segbench import checkpoint, evaluation, inference, speed

    model = trained.model
    checkpoint.load(model, folder / "best.safetensors")
    result = evaluation.evaluate(model, images.val, compute)
    names = [data.val.names[index] for index in images.chosen.val]
    np.savez_compressed(folder / "confusions.npz", confusions=result.confusions.astype(np.int32), names=np.array(names))
    model = inference.ready(model, compute)
    _write_masks(model, data, images, compute, names, folder / "masks")
    measured = speed.measure(model, data.size, images.val.batch_size, compute)
    card = _card(trained, images, data, measured, compute)
    models.write_card(folder / "card.json", card)
    return card


def _write_masks(
    model: Segmenter, data: Dataset, images: Images, compute: Compute, names: list[str], folder: Path
) -> None:
    import torch

    from segbench import inference, pictures

    size = images.val.batch_size
    for start in range(0, len(names), size):
        batch = torch.from_numpy(data.val.images[images.chosen.val[start : start + size]])
        maps = inference.predict(model, batch, compute).cpu().numpy()
        for name, categories in zip(names[start : start + size], maps, strict=True):
            path = folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures.mask(categories).save(path)


def _card(trained: Trained, images: Images, data: Dataset, measured: SpeedCard, compute: Compute) -> ModelCard:
    import numpy as np

    from segbench import metrics
    from segbench.data.batches import IMAGENET_MEAN, IMAGENET_STD

    plan, records = trained.plan, trained.records
    train = np.bincount(data.train.labels[images.chosen.train].reshape(-1), minlength=256)
    val = np.bincount(data.val.labels[images.chosen.val].reshape(-1), minlength=256)
    return ModelCard(
        architecture=plan.architecture.name,
        title=plan.architecture.title,
        model=plan.architecture.model,
        categories=CATEGORIES,
        size=data.size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        hyperparameters=trained.hyperparameters,
        batch_size=plan.architecture.batch_size,
        protocol=plan.protocol.name,
        protocol_title=plan.protocol.title,
        drawn=plan.protocol.drawn,
        fingerprint=plan.study.fingerprint,
        data_fingerprint=data.fingerprint,
        cache=data.folder.name,
        weights=trained.origin,
        study=plan.study.name,
        trial=plan.trial.number,
        slot=plan.trial.slot,
        seed=trained.seed,
        epochs=len(records),
        train_images=len(images.chosen.train),
        val_images=len(images.chosen.val),
        best=max(records, key=lambda r: r.miou),
        last=records[-1],
        majority_miou=metrics.majority_miou(train, val),
        speed=measured,
        device=compute.words,
        versions={name: version(name) for name in _VERSIONS},
        run_id=trained.run,
        seconds=time.perf_counter() - trained.started,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _is_done(folder: Path, plan: Plan, hyperparameters: Hyperparameters, chosen: Subset) -> bool:
    """Whether `folder` holds this very promotion. Another one is replaced once the new one is complete."""
    if not (folder / "card.json").is_file():
        return False
    try:
        card = models.read_card(folder / "card.json")
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


def _table(protocol: Protocol) -> None:
    columns = ["model", "seed", "mIoU", "official", "pixel accuracy", "majority mIoU", "images/s", "s/epoch"]
    rows = []
    for _, card in models.promoted(protocol.name):
        numbers = [card.best.miou, card.best.miou_official, card.best.pixel_accuracy, card.majority_miou]
        costs = [f"{card.speed.inference_images_per_second:.1f}", f"{card.best.seconds.total:.1f}"]
        rows.append([card.title, str(card.seed), *(f"{n:.4f}" for n in numbers), *costs])
    terminal.table(f"promoted models of {protocol.name}", columns, rows, right=set(range(1, 8)))
    terminal.say(f"weights, cards and masks: {places.storage() / 'models'}")


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
