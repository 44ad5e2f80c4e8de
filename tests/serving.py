"""What tests of the server share: promoted models with random weights, photographs, and the server itself."""

from __future__ import annotations

from pathlib import Path

from segbench import architectures
from segbench.core.labels import CATEGORIES
from segbench.core.records import EpochRecord, EpochSeconds, Hyperparameters, ModelCard, SpeedCard, WeightsOrigin
from segbench.data.batches import IMAGENET_MEAN, IMAGENET_STD
from segbench.engine import checkpoint
from segbench.ledger import models

SIZE = (32, 64)


def promote(storage: Path, architecture: str, seed: int = 0) -> Path:
    """A tiny network with random weights as a promoted model of the study demo-<architecture>. Returns its folder."""
    folder = storage / "models" / f"demo-{architecture}" / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    extra = {"aux_loss": True} if architecture == "deeplab" else {}
    model, origin = architectures.create(architecture, len(CATEGORIES), "random", {"size": "tiny", **extra}, seed)
    checkpoint.save(model, folder / "best.safetensors")
    epoch = EpochRecord(1, 1.0, 1.0, 1.0, 0.5, 0.4, 0.4, (0.4,) * 8, EpochSeconds(*[0.0] * 8), 1.0, 1.0)
    speed = SpeedCard("cpu", "fp32", 1, SIZE, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0)
    card = ModelCard(
        architecture=architecture,
        title=f"{architecture} (tiny)",
        model={"size": "tiny"},
        categories=CATEGORIES,
        size=SIZE,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        hyperparameters=Hyperparameters(1e-3, 1e-4, "adamw", extra),
        batch_size=1,
        protocol="demo",
        protocol_title="Test streets",
        drawn=True,
        fingerprint="f",
        data_fingerprint="d",
        cache="c",
        weights=WeightsOrigin("random", "seed 0", "0" * 64),
        study=f"demo-{architecture}",
        trial=0,
        attempt=0,
        seed=seed,
        epochs=1,
        train_images=1,
        val_images=1,
        best=epoch,
        last=epoch,
        majority_miou=0.1,
        speed=speed,
        device="cpu",
        versions={},
        run_id="r",
        seconds=1.0,
        created="2026-01-01T00:00:00+00:00",
    )
    models.write_card(folder / "card.json", card)
    return folder
