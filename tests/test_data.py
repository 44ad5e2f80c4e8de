"""From files to batches: all scenes are packed, and every problem is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench.core import labels
from segbench.core.errors import UserError
from segbench.core.protocol import Final, Search
from segbench.data import packing, subsets
from segbench.data.batches import IMAGENET, Batches, _chunks
from segbench.data.packing import DamagedScenes, Dataset
from tests.conftest import SIZE

CPU = torch.device("cpu")


def image_of(root: Path, split: str = "train", index: int = 0) -> Path:
    return sorted((root / "leftImg8bit" / split).glob("*/*"))[index]


def labels_of(image: Path) -> Path:
    text = str(image).replace("leftImg8bit/", "gtFine/", 1)
    return Path(text.replace("_leftImg8bit.png", "_gtFine_labelIds.png"))


def test_unpacks_what_was_packed(drawn: Path, tmp_path: Path) -> None:
    data = packing.prepare(drawn, SIZE, tmp_path)
    assert (len(data.train), len(data.val)) == (24, 8)
    for index in range(24):
        image = image_of(drawn, "train", index)
        assert image.name.startswith(data.train.names[index].split("/")[1])
        np.testing.assert_array_equal(data.train.images[index], np.asarray(Image.open(image)))
        np.testing.assert_array_equal(data.train.labels[index], np.asarray(Image.open(labels_of(image))))
    assert data.train.histogram.sum() == 24 * SIZE[0] * SIZE[1]


def test_resizes_images_smoothly_and_labels_by_nearest(drawn: Path, tmp_path: Path) -> None:
    data = packing.prepare(drawn, (40, 50), tmp_path)
    image = Image.open(image_of(drawn))
    np.testing.assert_array_equal(data.train.images[0], np.asarray(image.resize((50, 40), Image.Resampling.BILINEAR)))
    ids = Image.open(labels_of(image_of(drawn)))
    np.testing.assert_array_equal(data.train.labels[0], np.asarray(ids.resize((50, 40), Image.Resampling.NEAREST)))


def test_fingerprint_is_of_the_content(drawn: Path, dataset: Path, tmp_path: Path) -> None:
    here = packing.prepare(drawn, SIZE, tmp_path / "a").fingerprint
    assert packing.prepare(dataset, SIZE, tmp_path / "b").fingerprint == here  # another place, same content
    assert packing.prepare(drawn, (32, 32), tmp_path / "a").fingerprint != here
    Image.new("RGB", SIZE[::-1]).save(image_of(dataset))
    assert packing.prepare(dataset, SIZE, tmp_path / "b").fingerprint != here  # a changed file is packed again


def test_jpeg_images_work(dataset: Path, tmp_path: Path) -> None:
    image = image_of(dataset)
    Image.open(image).save(image.with_suffix(".jpg"), quality=95)
    image.unlink()
    assert len(packing.prepare(dataset, SIZE, tmp_path / "cache").train) == 24


def test_licence_plate_is_known(dataset: Path, tmp_path: Path) -> None:
    path = labels_of(image_of(dataset))
    ids = np.array(Image.open(path))
    ids[0, 0] = 255
    Image.fromarray(ids).save(path)
    assert packing.prepare(dataset, SIZE, tmp_path / "cache").train.histogram[255] == 1


def test_everything_wrong_is_named(dataset: Path, tmp_path: Path) -> None:
    images = [image_of(dataset, "train", index) for index in range(7)]
    labels_of(images[0]).unlink()
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:200])
    Image.new("RGB", (10, 10)).save(images[3])
    ids = np.array(Image.open(labels_of(images[4])))
    ids[3, 3] = 77
    Image.fromarray(ids).save(labels_of(images[4]))
    Image.new("RGB", SIZE[::-1]).save(labels_of(images[5]))
    labels_of(images[6]).write_bytes(b"")
    with pytest.raises(DamagedScenes) as caught:
        packing.prepare(dataset, SIZE, tmp_path / "cache")
    words = {problem.file.split("/")[-1]: problem.what for problem in caught.value.problems}
    assert len(words) == 7
    assert "image without labels" in words[images[0].name]
    assert "labels without image" in words[labels_of(images[1]).name]
    assert "image cannot be read" in words[images[2].name]
    assert words[images[3].name].startswith("image is 10x10, labels are 32x64")
    assert "ids that 'cityscapes-8' does not have: id 77 (" in words[labels_of(images[4]).name]
    assert "labels cannot be read: its pixels are RGB" in words[labels_of(images[5]).name]
    assert "labels cannot be read" in words[labels_of(images[6]).name]
    assert not list((tmp_path / "cache").glob("*/train/manifest.json"))
    for image in images:  # unusable files are removed: packed scenes are not packed again
        image.unlink(missing_ok=True)
        labels_of(image).unlink(missing_ok=True)
    assert len(packing.prepare(dataset, SIZE, tmp_path / "cache").train) == 17


def test_interrupted_packing_resumes(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packing.prepare(drawn, SIZE, tmp_path / "whole")
    calls = 0

    def stop(text: str = "") -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packing.prepare(drawn, SIZE, tmp_path / "cut", stop)
    folder = next((tmp_path / "cut").iterdir())
    journal = folder / "train" / "done.jsonl"
    done = len(journal.read_text().splitlines())
    assert 9 <= done < 24
    journal.write_text(journal.read_text() + '{"name": "half')  # as a kill in mid-line leaves it
    decoded = []
    decode = packing._decode
    monkeypatch.setattr(packing, "_decode", lambda scene, *how: decoded.append(scene) or decode(scene, *how))
    again = packing.prepare(drawn, SIZE, tmp_path / "cut")
    assert len(decoded) == 24 - done + 8
    assert again.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(again.train.images, whole.train.images)


def test_lost_pages_are_packed_again(drawn: Path, tmp_path: Path) -> None:
    whole = packing.prepare(drawn, SIZE, tmp_path)
    fingerprint, folder = whole.fingerprint, whole.folder
    expected = np.array(whole.train.images)
    (folder / "train" / "manifest.json").unlink()
    array = np.load(folder / "train" / "images.npy", mmap_mode="r+")
    array[5] = 0  # as after a power cut: the journal is newer than the pixels
    array.flush()
    again = packing.prepare(drawn, SIZE, tmp_path)
    assert again.fingerprint == fingerprint
    np.testing.assert_array_equal(again.train.images, expected)


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds leftImg8bit/ and gtFine/"):
        packing.prepare(tmp_path, SIZE, tmp_path / "cache")
    for folder in ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match="no scenes in"):
        packing.prepare(tmp_path, SIZE, tmp_path / "cache")


def test_void_only_scenes_are_noted(dataset: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(labels_of(image_of(dataset, "val", 3)))
    data = packing.prepare(dataset, SIZE, tmp_path / "cache")
    assert data.val.void_only == (data.val.names[3],)


@pytest.fixture(scope="module")
def opened(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return packing.prepare(drawn, SIZE, tmp_path_factory.mktemp("cache"))


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), train=st.integers(1, 16), val=st.integers(1, 6))
def test_selection_images_come_from_other_cities(opened: Dataset, seed: int, train: int, val: int) -> None:
    chosen = subsets.draw_search(opened, Search(1, 1, train, val, seed=seed))
    again = subsets.draw_search(opened, Search(1, 1, train, val, seed=seed))
    assert (len(chosen.train), len(chosen.val), chosen.val_split) == (train, val, "train")
    np.testing.assert_array_equal(chosen.train, again.train)
    cities = np.array(opened.train.cities)
    assert not set(cities[chosen.train]) & set(cities[chosen.val])
    assert len(np.unique(chosen.train)) == train


def test_selection_where_cities_do_not_suffice(opened: Dataset) -> None:
    cities, sizes = np.unique(np.array(opened.train.cities), return_counts=True)
    assert (len(cities), sizes.tolist()) == (6, [4] * 6)
    chosen = subsets.draw_search(opened, Search(1, 1, 20, 4))  # exactly one city can be spared
    assert "selection on 4 from held-out city " in chosen.description
    chosen = subsets.draw_search(opened, Search(1, 1, 23, 1))
    assert "others of the same cities" in chosen.description
    assert not set(chosen.train) & set(chosen.val)


def test_selection_on_val(opened: Dataset) -> None:
    chosen = subsets.draw_search(opened, Search(1, 1, 24, 8, select_on="val"))
    assert subsets.split_of(opened, chosen) is opened.val
    assert list(chosen.val) == list(range(8))


def test_fewer_images_than_the_protocol_needs(opened: Dataset) -> None:
    with pytest.raises(UserError, match="is 28, but the dataset's train split holds 24 images"):
        subsets.draw_search(opened, Search(1, 1, 24, 4))
    with pytest.raises(UserError, match=r"\[final\] val_images is 500"):
        subsets.draw_final(opened, Final(1, None, 500))
    everything = subsets.draw_final(opened, Final(1))
    assert (len(everything.train), len(everything.val)) == (24, 8)


def test_batches_are_normalised_and_looked_up(opened: Dataset) -> None:
    batches = Batches(opened.train, np.array([3, 5, 7]), 2, CPU)
    (images, categories, raw, *_), *_ = batches
    expected = (opened.train.images[3] / 255 - IMAGENET.mean) / IMAGENET.std
    np.testing.assert_allclose(images[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(raw[1].numpy(), opened.train.labels[5])
    np.testing.assert_array_equal(categories[1].numpy(), np.array(labels.DEFAULT.class_of_raw)[opened.train.labels[5]])
    assert categories.dtype == torch.int64
    assert sum(len(batch.images) for batch in batches) == 3


def test_order_depends_on_seed_and_epoch_alone(opened: Dataset) -> None:
    batches = Batches(opened.train, np.arange(24), 8, CPU)

    def order(seed: int, epoch: int) -> list[int]:
        return [int(image.sum() * 1000) for batch in batches.shuffled(seed, epoch) for image in batch.images]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert sorted(order(0, 0)) == sorted(order(1, 0))


@given(number=st.integers(1, 50), size=st.integers(1, 12))
def test_no_image_is_lost_and_none_is_alone(number: int, size: int) -> None:
    chunks = _chunks(torch.arange(number), size)
    assert torch.cat(chunks).tolist() == list(range(number))
    if number > 1 and size > 1:
        assert min(map(len, chunks)) >= 2
    assert max(map(len, chunks)) <= size + 1


def test_manifest_is_plain_json(opened: Dataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(opened.folder, tmp_path / "copy"))
    assert json.loads((copy / "val" / "manifest.json").read_text())["size"] == list(SIZE)
    assert packing.open_split(copy / "val").digest == opened.val.digest
