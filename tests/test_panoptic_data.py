"""Instances on disk and in batches: verified, packed, moved with their labels; and what drawn streets have of them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segbench.core import labels, paths, protocol
from segbench.core.augment import Augment
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import label_of
from segbench.core.protocol import Data, Final, Search, Streets
from segbench.data import augmentation, dataset, layouts, packing, streets
from segbench.data.batches import Batches
from segbench.data.packing import DamagedScenes
from tests.conftest import PROTOCOL, SIZE, write_protocol

PANOPTIC = layouts.of(Data(SIZE, task="panoptic"))
# SHA-256 of image and label ids, of commit f2f0900, before streets had instances.
DRAWN = {
    (0, 0, 64, 128): "c2bfe2d7fb944dd3",
    (3, 5, 96, 192): "714f41d29e6f41c3",
    (8, 23, 128, 256): "c1e950e060c94030",
    (11, 7, 50, 77): "97ff63ea0e5f9ac7",
}


@pytest.fixture
def few(drawn: Path, tmp_path: Path) -> Path:
    """Three training scenes and one for validation."""
    root = tmp_path / "few"
    for split, number in (("train", 3), ("val", 1)):
        for image in sorted((drawn / "leftImg8bit" / split).glob("*/*"))[:number]:
            for kind in ("labelIds", "instanceIds"):
                truth = Path(str(image).replace("leftImg8bit/", "gtFine/").replace("_leftImg8bit", f"_gtFine_{kind}"))
                for path in (image, truth):
                    copy = root / path.relative_to(drawn)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, copy)
    return root


def instance_files(root: Path) -> list[Path]:
    return sorted(root.glob("gtFine/train/*/*_instanceIds.png"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file)


@pytest.mark.parametrize("scene", DRAWN)
def test_streets_are_the_pixels_they_were_before_they_had_instances(scene: tuple[int, int, int, int]) -> None:
    image, ids = streets.draw(*scene)
    assert hashlib.sha256(image.tobytes() + ids.tobytes()).hexdigest()[:16] == DRAWN[scene]
    again, instances = streets.draw_instances(*scene)
    assert np.array_equal(again, image)
    assert np.array_equal(label_of(instances), ids)


def test_streets_hold_instances_and_groups() -> None:
    drawn = [np.unique(streets.draw_instances(seed, seed % 24, 128, 256)[1]) for seed in range(12)]
    found = set(np.concatenate(drawn).tolist())
    assert {each // 1000 for each in found if each >= 1000} >= {24, 25, 26, 33}
    assert 24 in found  # far walkers
    assert not found & {25, 26, 27, 28, 32, 33}  # whatever is near is told apart
    assert min(np.count_nonzero(ids >= 1000) for ids in drawn) >= 5


def test_the_packed_plane_is_the_files_at_the_pixels_of_the_labels(few: Path, tmp_path: Path) -> None:
    packed = packing.prepare(few, (20, 48), tmp_path / "cache", layout=PANOPTIC)
    for index, path in enumerate(instance_files(few)):
        own = Image.fromarray(pixels(path).astype(np.int32)).resize((48, 20), Image.Resampling.NEAREST)
        raw, plane = packed.train.labels[index], packed.train.instances[index]
        expected = np.where(np.asarray(own) < 1000, 0, np.asarray(own) % 1000 + 1)
        assert np.array_equal(plane, expected)
        assert np.array_equal(label_of(np.asarray(own)), raw)
    assert np.asarray(packed.train.instances).max() > 1
    semantic = packing.prepare(few, (20, 48), tmp_path / "cache")
    assert np.array_equal(semantic.train.images, packed.train.images)
    assert semantic.train.instances is None
    assert semantic.folder != packed.folder
    again = packing.open_split(packed.folder / "val", DEFAULT, panoptic=True)
    assert again.digest == packed.val.digest


def test_damaged_instances_are_packed_again(few: Path, tmp_path: Path) -> None:
    first = packing.prepare(few, SIZE, tmp_path / "cache", layout=PANOPTIC)
    plane, expected = first.folder / "train" / "instances.npy", np.array(first.train.instances)
    content = bytearray(plane.read_bytes())
    content[-7] ^= 1
    for damage in (lambda: plane.write_bytes(bytes(content)), plane.unlink):
        damage()
        again = packing.prepare(few, SIZE, tmp_path / "cache", layout=PANOPTIC)
        assert np.array_equal(again.train.instances, expected)
        assert again.fingerprint == first.fingerprint
    file = instance_files(few)[0]
    ids = pixels(file)
    Image.fromarray(label_of(ids).astype(np.uint16)).save(file)  # now all are groups
    changed = packing.prepare(few, SIZE, tmp_path / "cache", layout=PANOPTIC)
    assert changed.fingerprint != first.fingerprint
    assert not changed.train.instances[0].any()


def written(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(change(pixels(path).copy())).save(path, format="TIFF")


def other_labels(ids: np.ndarray) -> np.ndarray:
    ids[3, 4:6] = 25007
    return ids


def many(ids: np.ndarray) -> np.ndarray:
    largest = ids.max()
    return np.where(ids == largest, largest // 1000 * 1000 + 255, ids).astype(np.uint16)


WRONG = {
    "labels without instances: expected gtFine/train": Path.unlink,
    "2 pixels do not have their label, such as id 25007 where": written(other_labels),
    "it has instance 255 of label": written(many),
    "expected 16-bit ids": written(lambda ids: np.zeros((*ids.shape, 3), np.uint8)),
    "expected the same": written(lambda ids: ids[1:]),
    "expected 0..65535": written(lambda ids: ids.astype(np.int32) - 50),
    "it is empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("expected", WRONG)
def test_instances_that_cannot_be_used_are_listed_by_file(few: Path, tmp_path: Path, expected: str) -> None:
    files = instance_files(few)[:2]
    for file in files:
        WRONG[expected](file)
    with pytest.raises(DamagedScenes) as damaged:
        packing.prepare(few, SIZE, tmp_path / "cache", layout=PANOPTIC)
    assert len(damaged.value.problems) == 2
    for problem, file in zip(damaged.value.problems, files, strict=True):
        assert expected in problem.what
        assert Path(problem.file).name.split("_gtFine")[0] == file.name.split("_gtFine")[0]
    packing.prepare(few, SIZE, tmp_path / "cache")  # a semantic protocol does not read them


def test_batches_carry_the_plane_and_augmentation_moves_it_with_the_labels(few: Path, tmp_path: Path) -> None:
    # A plane that repeats the labels must still repeat them after any view; outside there is no instance.
    split = packing.prepare(few, SIZE, tmp_path / "cache", layout=PANOPTIC).train
    cpu, chosen = torch.device("cpu"), np.arange(3)
    assert torch.equal(next(iter(Batches(split, chosen, 3, cpu))).instances, torch.from_numpy(split.instances[chosen]))
    assert next(iter(Batches(packing.prepare(few, SIZE, tmp_path).train, chosen, 3, cpu))).instances is None
    twin = split.__class__(**{**split.__dict__, "instances": split.labels, "digests": None})
    for border in ("void", "reflect"):
        everything = Augment(flip=0.5, scale=(0.5, 2.0), rotate=20, policy="randaugment", border=border)
        batches = Batches(twin, chosen, 3, cpu, everything)
        for epoch in range(4):
            (batch,) = batches.shuffled(0, epoch)
            inside = batch.raw != DEFAULT.border
            assert torch.equal(batch.instances[inside], batch.raw[inside])
            assert not batch.instances[~inside].any()


def test_reframing_moves_every_number_unharmed() -> None:
    plane = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    mirrored = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    assert torch.equal(augmentation.reframed_instances(Augment(), plane, mirrored), plane.flip(2))


def test_a_protocol_asks_for_instances_and_only_then_differs(tmp_path: Path) -> None:
    text = PROTOCOL.replace("size = [32, 64]", 'size = [32, 64]\ntask = "semantic"')
    folders = {"plain": PROTOCOL, "semantic": text, "panoptic": text.replace("semantic", "panoptic")}
    prints = {}
    for name, content in folders.items():
        folder = write_protocol(tmp_path / name, content)
        architecture = protocol.load_architecture(folder, "deeplab")
        prints[name] = protocol.fingerprint(protocol.load(folder), architecture)
    assert prints["plain"] == prints["semantic"] != prints["panoptic"]


PAIRS = {"layout": "pairs", "images": "{split}/*.png", "masks": "{split}-masks/*.png"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"task": "instance"}, "task must be one of"),
        ({"task": "panoptic", "labels": "stuff"}, "no class with thing = true"),
        ({"task": "panoptic", "layout": "pairs", "images": "a/*", "masks": "b/*"}, 'layout "pairs" needs instances'),
        ({"layout": "pairs", "images": "a/*", "masks": "b/*", "instances": "c/*"}, 'only task = "panoptic" reads'),
        ({"task": "panoptic", "instances": "c/*"}, 'instances: only layout = "pairs" has this'),
        ({"task": "panoptic", **PAIRS, "instances": "c/*/*"}, r"images and instances match pairs them.*1 in.*2 in"),
        ({"task": "panoptic", **PAIRS, "instances": "c/*"}, "images and instances must both say {split}"),
    ],
)
def test_what_a_protocol_cannot_ask_for(fields: dict[str, str], expected: str) -> None:
    if "labels" in fields:
        stuff = [labels.Class(name, (0, 0, index), (labels.Label(index),)) for index, name in enumerate("ab")]
        fields = {**fields, "labels": labels.LabelSet("stuff", "Stuff", tuple(stuff))}
    with pytest.raises(ValueError, match=expected):
        Data(SIZE, **fields)


def test_streets_drawn_before_they_had_instances_are_left_alone(storage: Path) -> None:
    made = {}
    for task in ("semantic", "panoptic"):
        data = Data(SIZE, Streets(2, 1, SIZE), task=task)
        made[task] = dataset.root_of(protocol.Protocol("p", "p", data, Search(1, 1, 1, 1), Final(1)), None)
    assert made["semantic"] == paths.cache() / "streets-2+1-32x64-seed0"
    assert not list(made["semantic"].rglob("*instanceIds*"))
    assert len(list(made["panoptic"].rglob("*_instanceIds.png"))) == 3


def test_pairs_have_instances_by_a_third_pattern(few: Path, tmp_path: Path) -> None:
    patterns = {
        "images": "leftImg8bit/{split}/*/*_leftImg8bit.png",
        "masks": "gtFine/{split}/*/*_gtFine_labelIds.png",
        "instances": "gtFine/{split}/*/*_gtFine_instanceIds.png",
    }
    layout = layouts.of(Data(SIZE, layout="pairs", task="panoptic", **patterns))
    pairs = packing.prepare(few, SIZE, tmp_path / "pairs", layout=layout)
    expected = packing.prepare(few, SIZE, tmp_path / "cityscapes", layout=PANOPTIC)
    assert np.array_equal(pairs.train.instances, expected.train.instances)
    assert pairs.train.instances[0].any()
    (lost, *_) = instance_files(few)
    lost.unlink()
    with pytest.raises(DamagedScenes) as damaged:
        packing.prepare(few, SIZE, tmp_path / "pairs", layout=layout)
    (problem,) = damaged.value.problems
    assert problem.what == "image without instances"


def test_instance_files_without_an_instance_are_refused_in_one_line(few: Path, storage: Path, tmp_path: Path) -> None:
    for file in few.rglob("*_instanceIds.png"):
        shutil.copy(str(file).replace("instanceIds", "labelIds"), file)
    folder = write_protocol(tmp_path / "asked", PROTOCOL.replace("[search]", 'task = "panoptic"\n[search]', 1))
    with pytest.raises(UserError, match=r"^no training image in .* has an instance: .*label ids alone"):
        dataset.ready(protocol.load(folder), str(few))


def test_a_dataset_without_instances_is_refused_in_one_line(few: Path, storage: Path, tmp_path: Path) -> None:
    for path in few.rglob("*_instanceIds.png"):
        path.unlink()
    folder = write_protocol(tmp_path / "asked", PROTOCOL.replace("[search]", 'task = "panoptic"\n[search]', 1))
    with pytest.raises(UserError, match=r"^4 files in .* cannot be used"):
        dataset.ready(protocol.load(folder), str(few))
