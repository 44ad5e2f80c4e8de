"""Ledgers fabricated with the real Optuna and the real MLflow: two architectures, searched and promoted.

PYTEST_DONT_REWRITE: it is a plugin, for its fixtures, and a module, for its helpers; it asserts nothing.
"""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from segbench.core import metrics, paths, protocol
from segbench.core.labels import DEFAULT
from segbench.core.records import (
    Device,
    EpochRecord,
    EpochSeconds,
    Hyperparameters,
    ModelCard,
    SpeedCard,
    WeightsOrigin,
    to_json,
)
from segbench.data import packing, streets
from segbench.data.pictures import mask
from segbench.experiment import measuring
from segbench.ledger import database, measured, models, queue, runs, samplers, studies, tracking
from segbench.report.numbers import comparison
from segbench.stats import calibration

HOSTILE = "<script>alert(1)</script> & <b>streets</b>"
DEVICE = Device("cpu", "", 2, 1, "fp32", False)
ERRORS = {"alpha": 0.3, "beta": 0.1}  # the share of pixels each fabricated model gets wrong
TITLES = {"alpha": "Alpha </script><i>net</i>", "beta": "Beta"}
TOML = """
title = "{title}"
batch_size = 4
weights = "random"
[space]
lr = {{ log_uniform = [1e-4, 1e-2] }}
weight_decay = {{ log_uniform = [1e-6, 1e-3] }}
optimizer = {{ choice = ["adam", "sgd"] }}
[baseline]
lr = 0.5
weight_decay = 1e-5
optimizer = "adam"
"""
PROTOCOL = """
title = "{title}"
data = {{ size = [32, 64], streets = {{ train = 4, val = 8, size = [32, 64] }} }}
search = {{ trials = 12, epochs = 3, train_images = 2, val_images = 1 }}
final = {{ epochs = 4 }}
"""


def epoch(number: int, quality: float) -> EpochRecord:
    seconds = EpochSeconds(0.1, 0.5, 0.2, 1.0, 0.1, 0.29, 0.01, 2.5)
    iou = (None, *(quality for _ in DEFAULT.names[1:]))
    scores = (1 - quality, quality, quality, quality, iou)
    return EpochRecord(number, 2 / number, 3 / number, *scores, seconds, 40.0, 1.25 + number / 100, 1e-3, 1.5, 4.0)


def search(storage: Any, asked: protocol.Protocol, own: protocol.Architecture, data: str) -> None:
    study = studies.open_study(storage, asked, own, data, "2 train images")
    queue.plan(study, own.space, asked.search, own.baseline)

    def objective(trial: optuna.Trial) -> float:
        params = samplers.suggest(trial, own.space)
        trial.set_user_attr("device", to_json(DEVICE))
        if studies.index_of(trial) == 3:
            raise studies.TrialFailed("diverged", "loss is nan in epoch 1")
        quality = 0.3 + 0.1 * float(np.log10(params["lr"]) + 4) / 2
        epochs = asked.search.epochs
        for n in range(1, epochs + 1):
            studies.report(trial, epoch(n, quality * n / epochs))
        return quality

    studies.run(study, objective)


def promote(
    asked: protocol.Protocol, own: protocol.Architecture, data: packing.Dataset, record: Any, errors: float, place: int
) -> None:
    """`errors`: the share of pixels that are wrong; `place`: its place among the architectures decides its cost."""
    folder = paths.model_folder(record.name, 0)
    raw = np.asarray(data.val.labels)
    truth = np.array(DEFAULT.class_of_raw, np.uint8)[raw]
    generator = np.random.default_rng(place)
    wrong = generator.random(truth.shape) < errors
    predicted = np.where(wrong, generator.integers(0, 8, truth.shape), truth).astype(np.uint8)
    cells = raw.astype(np.int64) * 8 + predicted
    counted = np.stack([np.bincount(image.ravel(), minlength=256 * 8).reshape(256, 8) for image in cells])
    confusions = metrics.rows(counted, DEFAULT)
    for name, categories in zip(data.val.names, predicted, strict=True):
        path = folder / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask(categories, DEFAULT.colours).save(path)
    np.savez_compressed(folder / "confusions.npz", confusions=confusions, names=np.array(data.val.names))
    explain(folder, data, truth == predicted)
    scores = metrics.scores(confusions.sum(0), DEFAULT)
    records = [epoch(n, scores.miou * n / 4) for n in (1, 2, 3, 4)]
    client = tracking.client()
    parent = runs.study_run(client, asked.name, record.name, record.id, {})
    best = studies.best(record)
    run = runs.nested_run(client, parent, own.name, {"kind": "promotion"}, best.params)
    for record_ in records:
        runs.log_epoch(client, run, record_, DEFAULT.names)
    histogram = [np.bincount(np.asarray(split.labels).ravel(), minlength=256) for split in (data.train, data.val)]
    cost = 2.0 ** (place * 5 % 12)  # spread over three decades, in another order
    rates = (100 + 300 * errors, 1e4, 5e3, 120.0 / cost)
    speed = SpeedCard(DEVICE, 4, data.size, *rates, 9.5 * cost, round(741_080 * cost), 0.8 + place / 10, 0.1 * cost)
    card = ModelCard(
        architecture=own.name,
        title=own.title,
        model={},
        categories=DEFAULT.names,
        size=data.size,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        hyperparameters=Hyperparameters.from_params(best.params),
        batch_size=4,
        protocol=asked.name,
        protocol_title=asked.title,
        drawn=asked.drawn,
        fingerprint=record.fingerprint,
        data_fingerprint=data.fingerprint,
        cache=data.folder.name,
        weights=WeightsOrigin("random", "seed 0", "e8" * 32),
        sha256="5a" * 32,
        study=record.name,
        study_id=record.id,
        trial=best.index,
        attempt=best.attempt,
        seed=0,
        epochs=4,
        train_images=4,
        val_images=8,
        best=records[-1],
        last=records[-1],
        majority_miou=metrics.majority_miou(*histogram, DEFAULT),
        speed=speed,
        device=DEVICE,
        versions={"torch": "2.13.0"},
        run_id=run,
        seconds=12.5,
        created=datetime(2031, 5, 6, 7, 8, tzinfo=UTC).isoformat(),
    )
    models.write_card(folder / "card.json", card)


def explain(folder: Path, data: packing.Dataset, right: Any) -> None:
    """The kinds of its errors, on a grid of 8×16; and how sure it was: 75 % everywhere, where it should be."""
    measuring.write_errors(folder, data.val, data.val.names, (8, 16), "fabricated")
    images = len(right)
    bins, entropies = np.zeros((images, calibration.BINS, 3)), np.zeros((images, calibration.ENTROPIES, 2))
    hits, pixels = right.reshape(images, -1).sum(1), right[0].size
    bins[:, 11] = np.stack([np.full(images, pixels), hits, np.full(images, 0.75 * pixels)], axis=-1)
    entropies[:, 20, 0], entropies[:, 30, 1] = hits, pixels - hits
    found = measured.Reliability(tuple(data.val.names), bins, entropies, bins, 1.5, 6, False)
    measured.write_reliability(folder / "reliability.npz", found)


def keep(record: Any) -> None:
    """Per-trial confusions, as a search may keep them: a share of the pixels that grows with the value is right."""
    generator = np.random.default_rng(1)
    for trial in record.trials:
        if trial.value is None or trial.baseline:
            continue
        confusions = np.zeros((6, 35, 8), np.int64)
        for image in confusions:
            right = generator.binomial(1000, trial.value)
            image[7, 1], image[7, 2] = right, 1000 - right  # road as flat, road as construction
            image[11, 2] = 1000
        folder = paths.storage() / "trials" / record.name / f"trial{trial.index}"
        folder.mkdir(parents=True)
        np.savez_compressed(
            folder / "confusions.npz", confusions=confusions, names=np.array([f"s{i}" for i in range(6)])
        )


def fabricate(
    root: Path, databases: Path, toml: str = PROTOCOL, name: str = "fab", errors: Mapping[str, float] = ERRORS
) -> None:
    """Makes `storage/` and the protocol `name` in `root`: architectures, searched and promoted, that get a share of the
    pixels wrong."""
    shutil.copytree(databases, root / "storage")
    folder = root / name
    folder.mkdir()
    (folder / "protocol.toml").write_text(toml.format(title=HOSTILE))
    for architecture in errors:
        (folder / f"{architecture}.toml").write_text(TOML.format(title=TITLES.get(architecture, architecture)))
    asked = protocol.load(folder)
    drawn = asked.data.streets
    streets.write(root / "data", drawn.train, drawn.val, *drawn.size, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(root / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        data = packing.prepare(root / "data", asked.data.size, paths.cache())
        storage = database.connect(paths.studies_database())
        for place, (architecture, wrong) in enumerate(errors.items()):
            own = protocol.load_architecture(folder, architecture)
            search(storage, asked, own, data.fingerprint)
            record = studies.record(storage, f"{name}-{architecture}")
            promote(asked, own, data, record, wrong, place)
            keep(record)


@pytest.fixture(scope="session")
def fabricated(tmp_path_factory: pytest.TempPathFactory, made_databases: Path) -> Path:
    """A folder that `fabricate` has filled. Do not change it; `here` is a copy."""
    root = tmp_path_factory.mktemp("report")
    fabricate(root, made_databases)
    return root


@pytest.fixture(scope="session")
def compared(fabricated: Path) -> comparison.Comparison:
    """What the report reads of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(fabricated / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return read(fabricated)


@pytest.fixture
def here(fabricated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil."""
    shutil.copytree(fabricated, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    monkeypatch.delenv("CITYSCAPES_DATASET", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def read(here: Path) -> comparison.Comparison:
    """What the report reads of such a folder."""
    return comparison.read(here / "fab", "fab")
