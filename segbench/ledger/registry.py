"""Promoted models in MLflow: pictures, card and weights as artifacts of their run, and versions in the registry.

Each study has a registered model of the same name, with one version per promoted seed. The alias `champion` is the
seed with the highest value, mIoU or PQ, of the newest promotion.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.core.protocol import BEST_ON_FINAL
from segbench.core.records import Code, EpochRecord, ModelCard
from segbench.ledger import curves
from segbench.ledger.tracking import literal, local_artifacts
from segbench.runtime import terminal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
_MASKS = 4
_PACKAGE = Path(__file__).parent.parent
_NEEDED = ("mlflow", "torch", "torchvision", "transformers", "numpy", "pillow", "safetensors", "scipy", "filelock")


def publish(mlflow: MlflowClient, folder: Path, card: ModelCard, records: Sequence[EpochRecord]) -> None:
    """Logs the promoted model in `folder` (card.json, best.safetensors, masks/) to its run and registers it.

    Rerun after a kill, it replaces its artifacts and registers nothing twice. An error of MLflow is a warning, because
    the model is on disk. Raises UserError if the disk is full.
    """
    from mlflow.exceptions import MlflowException

    mlpackage = folder / "mlflow"
    try:
        (folder / artefacts.LEARNING_CURVE).write_bytes(curves.png(records))
        _save(mlpackage, folder, card.code)
        mlflow.log_artifact(card.run_id, str(folder / artefacts.LEARNING_CURVE))
        mlflow.log_artifact(card.run_id, str(folder / artefacts.CARD))
        for mask in sorted((folder / artefacts.MASKS).rglob("*.png"))[:_MASKS]:
            mlflow.log_artifact(card.run_id, str(mask), artefacts.MASKS)
        mlflow.log_artifacts(card.run_id, str(mlpackage), "model")
        _keep_once(mlflow, card.run_id, folder / artefacts.WEIGHTS)
        mlflow.set_tag(card.run_id, "mlflow.note.content", _note(card))
        with FileLock(paths.models_folder(card.study) / "registry.lock"):
            _register(mlflow, card)
    except OSError as error:
        raise UserError(
            f"the model of '{card.study}' could not be logged to MLflow ({error}); free some space and rerun: "
            "nothing is trained twice"
        ) from error
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0]
        terminal.warn(f"MLflow refused the model of '{card.study}' ({reason}); it is in storage/models only")
    finally:
        shutil.rmtree(mlpackage, ignore_errors=True)


def delete(mlflow: MlflowClient, study_id: str) -> None:
    """Deletes the study's registered versions, and models without versions."""
    versions = _versions(mlflow, f"tags.study_id = {literal(study_id)}") if study_id else []
    for registered in versions:
        mlflow.delete_model_version(registered.name, registered.version)
    for model in {registered.name for registered in versions}:
        if not _versions(mlflow, f"name = {literal(model)}"):
            mlflow.delete_registered_model(model)


def _keep_once(mlflow: MlflowClient, run: str, weights: Path) -> None:
    """Replaces MLflow's copy of the weights by a hard link, if it is on the same disk."""
    artifacts = local_artifacts(mlflow.get_run(run).info.artifact_uri)
    copy = artifacts and artifacts / "model" / "artifacts" / weights.name
    if not copy or not copy.is_file() or not filecmp.cmp(copy, weights, shallow=False):
        return
    link = copy.with_name(f"{copy.name}.partial")
    link.unlink(missing_ok=True)
    try:
        os.link(weights, link)
    except OSError:
        return  # another disk, or one without hard links: the copy stays
    os.replace(link, copy)
    link.unlink(missing_ok=True)  # rename(2) does nothing where both are the same file already


def _save(mlpackage: Path, folder: Path, code: Code | None) -> None:
    """Saves a folder that MLflow can load anywhere: with segbench's code and the user's, if any, and without pickle."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    byte = np.dtype(np.uint8)
    photographs, maps = TensorSpec(byte, (-1, -1, -1, 3)), TensorSpec(byte, (-1, -1, -1))
    artifacts = {"card": str(folder / artefacts.CARD), "weights": str(folder / artefacts.WEIGHTS)}
    requirements = [f"{package}=={version(package).partition('+')[0]}" for package in _NEEDED]
    if code and code.kind == "file":
        artifacts["code"] = str(folder / code.name)
    elif code:
        requirements.append(code.name)
    shutil.rmtree(mlpackage, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it recommends an input example, which would run the model
        pyfunc.save_model(
            str(mlpackage),
            python_model=str(_PACKAGE / "experiment" / "served.py"),
            artifacts=artifacts,
            code_paths=[str(_PACKAGE)],
            signature=ModelSignature(Schema([photographs]), Schema([maps])),
            pip_requirements=requirements,
            model_config={"device": "auto"},
        )


def _register(mlflow: MlflowClient, card: ModelCard) -> None:
    name = card.study
    if not mlflow.search_registered_models(f"name = {literal(name)}", max_results=1):
        mlflow.create_registered_model(name, {"protocol": card.protocol, "architecture": card.architecture})
    versions = _versions(mlflow, f"name = {literal(name)}")
    if not any(version.run_id == card.run_id for version in versions):
        source = f"{mlflow.get_run(card.run_id).info.artifact_uri}/model"
        about = {"seed": str(card.seed), "miou": repr(card.best.miou), "value": repr(card.best.value)}
        tags = {"study_id": card.study_id, "promotion": _promotion(card), **about}
        versions.append(mlflow.create_model_version(name, source, card.run_id, tags, description=_note(card)))
    newest = {  # version of each seed
        version.tags["seed"]: version
        for version in sorted(versions, key=lambda version: int(version.version))
        if version.tags.get("promotion") == _promotion(card)
    }
    # Versions of before panoptic protocols have no other value than their mIoU.
    best = max(newest.values(), key=lambda version: float(version.tags.get("value") or version.tags["miou"]))
    mlflow.set_registered_model_alias(name, CHAMPION, str(best.version))


def _versions(mlflow: MlflowClient, query: str) -> list[ModelVersion]:
    page = mlflow.search_model_versions(query)
    versions = list(page)
    while page.token:
        page = mlflow.search_model_versions(query, page_token=page.token)
        versions += page
    return versions


def _promotion(card: ModelCard) -> str:
    """A key that all seeds of one promotion share."""
    parts: tuple[object, ...] = (
        card.fingerprint,
        card.data_fingerprint,
        card.trial,
        card.epochs,
        card.train_images,
        card.val_images,
    )
    parts += () if card.keep == BEST_ON_FINAL else (card.keep,)  # older cards kept the best epoch on the final images
    return "-".join(map(str, parts))


def _note(card: ModelCard) -> str:
    """The note on MLflow's page of the run, Markdown."""
    drawn = "**Trained on drawn streets: no number here is a Cityscapes result.**\n\n" if card.drawn else ""
    height, width = card.size
    quality = f"PQ {card.best.value:.4f}, " if card.best.panoptic else ""
    return (
        f"{drawn}{card.title}, {card.protocol_title}: trial {card.trial} of study `{card.study}`, seed {card.seed}, "
        f"{card.epochs} epochs on {card.train_images} images at {height}x{width}. Kept: epoch {card.best.epoch} "
        f"({card.keep}), {quality}mIoU {card.best.miou:.4f}, official {card.best.miou_official:.4f}, "
        f"on {card.val_images} images.\n\n"
        f"```python\nmodel = mlflow.pyfunc.load_model('models:/{card.study}@{CHAMPION}')\n"
        "categories = model.predict(images)  # (N, H, W, 3) uint8 RGB -> (N, H, W) uint8\n```\n"
    )
