"""Variants of one architecture: <architecture>@<variant>.toml, with an own [augment] or not, through all commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest

from segbench import architectures, promote, search
from segbench.core import names, paths
from segbench.core.augment import Augment
from segbench.core.errors import UserError
from segbench.core.protocol import architecture_names, fingerprint, load, load_architecture
from segbench.core.records import from_json, to_json
from segbench.core.study_record import StudyRecord
from segbench.data import augmentation
from segbench.data.augmentation import Views
from segbench.ledger import database, models, studies
from segbench.report import __main__ as report
from segbench.runtime import terminal
from tests.conftest import PROTOCOL, write_protocol

EXAMPLE = Path(__file__).parent.parent / "examples" / "my_architecture"
OWN = "\n[augment]\nflip = 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A protocol with [augment], DeepLab, and a variant of it that has its own."""
    made = write_protocol(tmp_path / "small", PROTOCOL + "[augment]\ncolour = 0.4\n")
    (made / "mask2former.toml").unlink()
    (made / "deeplab@mirrored.toml").write_text((made / "deeplab.toml").read_text() + OWN)
    return made


def test_its_own_table_replaces_the_protocols(folder: Path) -> None:
    assert architecture_names(folder) == ["deeplab", "deeplab@mirrored"]
    protocol, plain, variant = load(folder), *(load_architecture(folder, name) for name in architecture_names(folder))
    assert protocol.augment_of(plain) == protocol.augment == Augment(colour=0.4)
    assert protocol.augment_of(variant) == Augment(flip=1)
    assert from_json(type(variant), to_json(variant)) == variant
    (folder / "deeplab@mirrored.toml").write_text((folder / "deeplab.toml").read_text() + "\n[augment]\n")
    assert protocol.augment_of(load_architecture(folder, "deeplab@mirrored")) == Augment()


def test_its_own_table_enters_the_fingerprint(folder: Path) -> None:
    protocol, text = load(folder), (folder / "deeplab.toml").read_text()

    def current(own: str) -> str:
        (folder / "deeplab@mirrored.toml").write_text(text + own)
        return fingerprint(protocol, load_architecture(folder, "deeplab@mirrored"))

    prints = [current(own) for own in ("", "\n[augment]\n", OWN, f"{OWN}rotate = 5\n", f"{OWN}rotate = 0\n")]
    assert len(set(prints)) == 4
    assert prints[2] == prints[4]  # a default says nothing


def test_a_mistake_names_file_and_table(folder: Path) -> None:
    (folder / "deeplab@mirrored.toml").write_text((folder / "deeplab.toml").read_text() + "\n[augment]\nflip = 2\n")
    with pytest.raises(UserError, match=r"deeplab@mirrored\.toml: \[augment\]: flip is a share, 0\.\.1, not 2"):
        load_architecture(folder, "deeplab@mirrored")


@pytest.mark.parametrize("name", ["deeplab@wide", "my-net@lr_0.1", "é@路"])
def test_a_name_may_have_one_variant(name: str) -> None:
    assert names.part(name, "architecture") == name
    assert names.architecture(name) == name.split("@")[0]


@pytest.mark.parametrize("name", ["@wide", "deeplab@", "deeplab@a@b", "deeplab@ a"])
def test_a_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="and one '@' before a variant's name; rename it"):
        names.part(name, "architecture")


def test_a_variant_of_the_users_own_code_runs_it(tmp_path: Path) -> None:
    for name in ("my_unet.toml", "my_unet.py"):
        shutil.copy(EXAMPLE / name, tmp_path)
    shutil.copy(EXAMPLE / "my_unet.toml", tmp_path / "my_unet@again.toml")
    plain, variant = (load_architecture(tmp_path, name) for name in ("my_unet", "my_unet@again"))
    assert variant.code == plain.code
    assert variant.code is not None
    built = [architectures.create(each.name, 8, "random", {"width": 4}, 0, each.code)[1] for each in (plain, variant)]
    assert built[0] == built[1]


def test_a_variant_has_its_architectures_checkpoints() -> None:
    assert architectures.checkpoints("deeplab@a") == architectures.checkpoints("deeplab")
    assert architectures.transformers_class("mask2former@a") == architectures.transformers_class("mask2former")


@pytest.mark.slow
def test_it_is_searched_promoted_served_and_reported(
    folder: Path, storage: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Augment] = []

    def draw(augment: Augment, *arguments: object) -> Views:
        asked.append(augment)
        return drawn_views(augment, *arguments)

    drawn_views = augmentation.draw
    monkeypatch.setattr(augmentation, "draw", draw)
    where = ["--protocol", str(folder)]
    for main in (search.main, promote.main):
        trials = ["--trials", "1"] if main is search.main else []
        assert terminal.run(lambda: main(["deeplab@mirrored", *where, "--data", str(drawn), *trials])) == 0  # noqa: B023
    assert asked == [Augment(flip=1)] * 4  # two epochs each
    record = studies.record(database.connect(paths.studies_database()), "small-deeplab@mirrored")
    assert isinstance(record, StudyRecord)
    ((kept, card),) = models.promoted("small")
    assert (kept.parent.name, card.architecture) == ("small-deeplab@mirrored", "deeplab@mirrored")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{paths.tracking_database()}")
    loaded = mlflow.pyfunc.load_model("models:/small-deeplab@mirrored@champion", model_config={"device": "cpu"})
    assert loaded.predict(np.zeros((1, 32, 64, 3), np.uint8)).shape == (1, 32, 64)
    assert terminal.run(lambda: report.main(where)) == 0
    assert "deeplab@mirrored" in (storage.parent / "reports" / "small.html").read_text(encoding="utf-8")
