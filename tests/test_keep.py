"""Which epoch of a full training is kept, and that the final images do not choose it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench import promote, search
from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.core.protocol import BEST_ON_FINAL, BEST_ON_SELECTION, KEEP, LAST, Data, Final, Protocol, Search
from segbench.core.records import EpochRecord, ModelCard
from segbench.data import packing, subsets
from segbench.data.packing import Dataset
from segbench.ledger import measured, models, runs, tracking
from tests.conftest import PROTOCOL, SIZE, write_protocol

pytest_plugins = ["tests.fabricated"]


@pytest.fixture
def opened(drawn: Path, tmp_path: Path) -> Dataset:
    return packing.prepare(drawn, SIZE, tmp_path / "cache")


def protocol(keep: str, train_images: int | None = None) -> Protocol:
    return Protocol("p", "P", Data(SIZE), Search(2, 2, 16, 4), Final(2, train_images, None, (0,), keep))


def test_whole_cities_of_the_search_are_held_out(opened: Dataset) -> None:
    asked = protocol(BEST_ON_SELECTION)
    chosen, searched = subsets.draw_full_training(opened, asked), subsets.draw_search(opened, asked.search)
    cities = np.array(opened.train.cities)
    assert not set(cities[chosen.train]) & set(cities[chosen.val])
    assert set(cities[chosen.val]) == set(cities[searched.val])  # the same cities that chose the trial
    assert sorted([*chosen.train, *chosen.val]) == list(range(len(opened.train)))  # all their images choose
    assert chosen.val_split == "train"
    assert f"costs the training {len(chosen.val)} images" in chosen.description


@pytest.mark.parametrize("keep", [LAST, BEST_ON_FINAL])
def test_otherwise_the_training_has_all_images(opened: Dataset, keep: str) -> None:
    asked = protocol(keep)
    chosen, final = subsets.draw_full_training(opened, asked), subsets.draw_final(opened, asked.final)
    assert all(np.array_equal(a, b) for a, b in zip(chosen[:2], final[:2], strict=True))


def test_a_limit_of_train_images_counts_before_the_cities_are_held_out(opened: Dataset) -> None:
    whole = set(subsets.draw_final(opened, Final(1, 12)).train)
    chosen = subsets.draw_full_training(opened, protocol(BEST_ON_SELECTION, 12))
    assert set(chosen.train) == whole - set(chosen.val)


def test_nothing_left_to_train_on_is_refused(opened: Dataset) -> None:
    lots = Search(2, 2, 16, len(opened.train), select_on="val")
    with pytest.raises(UserError, match="leaves none of the 24 to train on"):
        subsets.draw_full_training(opened, Protocol("p", "P", Data(SIZE), lots, Final(2)))


def promoted(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, databases: Path, keep: str) -> ModelCard:
    """Searches and promotes in a storage of its own."""
    storage = folder / "storage"
    if not storage.exists():
        shutil.copytree(databases, storage)
    monkeypatch.setenv("SEGBENCH_STORAGE", str(storage))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    toml = PROTOCOL.replace("[final]\nepochs = 2", f'[final]\nepochs = 3\nkeep = "{keep}"')
    shutil.rmtree(folder / "small", ignore_errors=True)
    asked = write_protocol(folder / "small", toml)
    command = ["deeplab", "--protocol", str(asked), "--data", str(data)]
    assert search.main(["--quiet", *command]) == 0
    assert promote.main(command) == 0
    return models.read_card(paths.model_folder("small-deeplab", 0) / artefacts.CARD)


def curve(card: ModelCard) -> list[EpochRecord]:
    return [epoch.without_timings() for epoch in runs.epochs(tracking.client(), card.run_id, card.categories)]


@pytest.mark.slow
def test_relabelling_the_final_images_does_not_change_the_kept_epoch(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_databases: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same search and training on two datasets that differ in the labels of the final images alone."""
    other = Path(shutil.copytree(dataset, tmp_path / "relabelled"))
    for path in (other / "gtFine" / "val").rglob("*labelIds.png"):
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == 7, 23, 7).astype(np.uint8)).save(path)  # road is sky, all else is road
    cards, curves = [], []
    for name, data in (("one", dataset), ("two", other)):
        (tmp_path / name).mkdir()
        cards.append(promoted(tmp_path / name, data, monkeypatch, made_databases, BEST_ON_SELECTION))
        curves.append(curve(cards[-1]))
    one, two = cards
    assert one.data_fingerprint != two.data_fingerprint
    assert curves[0] == curves[1]  # nothing that is known while training depends on the final images
    assert (one.best.epoch, one.sha256) == (two.best.epoch, two.sha256)
    assert one.best.miou != two.best.miou  # the card's scores are of the final images
    best = max(curves[0], key=lambda epoch: epoch.miou)
    assert one.best.epoch == best.epoch
    assert one.best.miou != best.miou
    said = capsys.readouterr().out
    assert f"which costs the training {one.images_given_up} images; 8 validation images choose nothing" in said
    assert (one.keep, one.val_images, one.train_images + one.images_given_up) == (BEST_ON_SELECTION, 8, 24)
    fitted = measured.read_reliability(paths.model_folder("small-deeplab", 0) / artefacts.RELIABILITY)
    assert fitted
    assert fitted.held_out  # the temperature's images are not among those that were trained on

    # Another way to keep is another promotion.
    assert promoted(tmp_path / "two", other, monkeypatch, made_databases, BEST_ON_SELECTION) == two
    assert "promoted already" in capsys.readouterr().out
    last = promoted(tmp_path / "two", other, monkeypatch, made_databases, LAST)
    assert "keeps the weights 'best on selection'; the protocol asks for 'last'" in capsys.readouterr().out
    assert (last.keep, last.train_images, last.images_given_up, last.selection_images) == (LAST, 24, 0, 0)
    assert last.best == last.last
    fitted = measured.read_reliability(paths.model_folder("small-deeplab", 0) / artefacts.RELIABILITY)
    assert fitted
    assert not fitted.held_out
    assert last.best.epoch == 3
    final = promoted(tmp_path / "two", other, monkeypatch, made_databases, BEST_ON_FINAL)
    assert final.best.without_timings() == max(curve(final), key=lambda epoch: epoch.miou)


def test_an_older_card_kept_the_best_epoch_on_the_final_images(here: Path) -> None:
    path = paths.model_folder("fab-alpha", 0) / artefacts.CARD
    content = json.loads(path.read_text())
    for name in ("keep", "selection_images", "images_given_up"):
        del content[name]
    path.write_text(json.dumps(content))
    assert models.read_card(path).keep == BEST_ON_FINAL
    assert BEST_ON_FINAL in KEEP
