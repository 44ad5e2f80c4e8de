"""Datasets of one's own: found by patterns, split by folder, by lists or by groups; masks in colour."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.core import names as naming
from segbench.core import protocol
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT, shipped
from segbench.core.layout import Split
from segbench.core.protocol import Data
from segbench.data import dataset, layouts, masks, packing, scenes

CAMVID = shipped("camvid-11")
SIZE = (32, 32)


def picture(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three sequences of two frames each, in one folder each for images and masks, and a file that is neither."""
    for number in range(6):
        name = f"seq{'abc'[number // 2]}_{number:03}"
        picture(tmp_path / "photos" / f"{name}.png", np.full((40, 48, 3), 40 * number))
        picture(tmp_path / "truth" / f"{name}_L.png", np.full((40, 48), 7 + number % 2))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path


def data(**fields: Any) -> Data:
    given = {"size": SIZE, "layout": "pairs", "images": "photos/*.png", "masks": "truth/*_L.png", **fields}
    return Data(**given)


def names(root: Path, asked: Data) -> dict[str, list[str]]:
    layout = layouts.of(asked)
    return {split: [scene.name for scene in layout.find(root, split)[0]] for split in scenes.SPLITS}


def test_a_share_takes_whole_groups(root: Path) -> None:
    found = {seed: names(root, data(split=Split(share=0.3, seed=seed, group="(seq.)_"))) for seed in range(8)}
    for split in found.values():
        sequences = [{name.split("/")[0] for name in split[part]} for part in scenes.SPLITS]
        assert not sequences[0] & sequences[1]
        assert (len(split["train"]), len(split["val"])) == (4, 2)
    assert len({str(split) for split in found.values()}) > 1  # the seed chooses
    assert found[0] == names(root, data(split=Split(share=0.3, group="(seq.)_")))
    most = names(root, data(split=Split(share=0.99, group="seq.")))
    assert len(most["train"]) == 2  # one group at least is left


@pytest.mark.parametrize("seed", range(6))
def test_a_share_is_not_overshot_by_a_large_group(tmp_path: Path, seed: int) -> None:
    for group, images in (("a", 14), ("b", 3), ("c", 3)):
        for number in range(images):
            picture(tmp_path / f"photos/{group}/{number:02}.png", np.zeros((4, 4, 3)))
            picture(tmp_path / f"truth/{group}/{number:02}.png", np.zeros((4, 4)))
    patterns = {"images": "photos/*/*.png", "masks": "truth/*/*.png"}
    found = names(tmp_path, data(**patterns, split=Split(share=0.2, seed=seed)))
    assert len(found["val"]) == 3  # of 4 asked for; with "a" it would be 14
    least = names(tmp_path, data(**patterns, split=Split(share=0.01, seed=seed)))
    assert len(least["val"]) == 3


def test_lists_split(root: Path) -> None:
    (root / "train.txt").write_text("photos/seqa_000.png\nseqb_002.png\n\nseqc_005\n")
    (root / "val.txt").write_text("./photos/seqa_001.png\n")
    asked = data(split=Split(train="train.txt", val="val.txt"))
    assert names(root, asked) == {"train": ["all/seqa_000", "all/seqb_002", "all/seqc_005"], "val": ["all/seqa_001"]}
    (root / "val.txt").write_text("seqa_001\nseqa_000\n")
    with pytest.raises(UserError, match=r"train.txt and val.txt share 1 images, such as photos/seqa_000.png"):
        names(root, asked)
    (root / "val.txt").write_text("seqa_001\nseqz_9\n")
    with pytest.raises(UserError, match=r"val.txt:2: 'seqz_9': no pair has this name"):
        names(root, asked)
    (root / "val.txt").unlink()
    with pytest.raises(UserError, match=r"val.txt cannot be read \(No such file or directory\)"):
        names(root, asked)


def test_folders_split_and_a_shared_sequence_is_refused(root: Path) -> None:
    for split, sequences in (("train", "ab"), ("val", "bc")):
        for sequence in sequences:
            for kind in ("photos", "truth"):
                for path in sorted((root / kind).glob(f"seq{sequence}*"))[:: 1 if sequence != "b" else 2]:
                    target = root / split / kind / f"seq{sequence}" / path.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())
    asked = {"images": "{split}/photos/*/*.png", "masks": "{split}/truth/*/*_L.png"}
    found = names(root, data(**asked))
    assert found["val"] == ["seqb/seqb_002", "seqc/seqc_004", "seqc/seqc_005"]
    deep = {"images": "{split}/photos/**/*.png", "masks": "{split}/truth/**/*_L.png"}
    assert names(root, data(**deep)) == found
    with pytest.raises(UserError, match=r"train and val share 1 group, such as 'seqb' \(1 and 1 images\)"):
        names(root, data(**asked, split=Split(group="seq.")))


def test_files_without_partner_are_problems(root: Path) -> None:
    (root / "photos/seqa_000.png").unlink()
    (root / "truth/seqb_002_L.png").unlink()
    picture(root / "photos/odd name.png", np.zeros((4, 4, 3)))
    picture(root / "truth/odd name_L.png", np.zeros((4, 4)))
    asked = data(split=Split(share=0.3, group="seq.|odd"))
    _, problems = layouts.of(asked).find(root, "train")
    assert {problem.file: problem.what for problem in problems} == {
        "photos/odd name.png": f"its name {naming.refusal('odd name')}",
        "photos/seqb_002.png": "image without mask",
        "truth/seqa_000_L.png": "mask without image",
    }
    with pytest.raises(packing.DamagedScenes):
        packing.prepare(root, SIZE, root / "cache", label_set=DEFAULT, layout=layouts.of(asked))
    assert not list((root / "cache").rglob("train/manifest.json"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layout": "voc"}, "layout must be one of cityscapes, pairs, not 'voc'"),
        ({"layout": "cityscapes"}, 'images, masks: only layout = "pairs" has this'),
        ({"images": ""}, 'layout "pairs" needs images, a pattern such as'),
        ({"masks": "truth/a.png"}, "needs masks, a pattern such as"),
        ({"images": "/photos/*.png"}, "images must be relative to the dataset's root"),
        ({"images": "../photos/*.png"}, "images must be relative to the dataset's root"),
        ({"images": "photos/?*.png"}, r"the wildcards are \* and \*\*/"),
        ({"images": "photos/*/*.png"}, "expected as many, found 2 in 'photos/.*' and 1 in"),
        ({}, "either by {split} in the patterns or by lists or a share in .data.split., found neither"),
        ({"images": "{split}/*.png"}, "images and masks must both say {split}, or neither"),
        ({"images": "{split}/*.png", "masks": "{split}m/*.png", "split": Split(share=0.5)}, "found both"),
        ({"split": Split(group="x")}, "found neither"),
    ],
)
def test_mistakes_in_patterns_are_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as found:
        data(**fields)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"train": "a.txt"}, "train and val must both name a list file, or neither"),
        ({"train": "a", "val": "b", "share": 0.1}, "either the list files train and val, or a share"),
        ({"share": 1.0}, "share must be 0 or more and below 1, not 1"),
        ({"share": 0.1, "group": "("}, "is not a regular expression"),
        ({"share": 0.1, "group": "(a)(b)"}, "has 2 parenthesised parts"),
        ({"share": 0.1, "seed": -1}, "seed must be 0"),
    ],
)
def test_mistakes_in_a_split_are_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Split(**fields)


def test_nothing_to_split_is_one_line(root: Path) -> None:
    with pytest.raises(UserError, match=r"the images form 1 group, all; expected at least two to split"):
        names(root, data(split=Split(share=0.5)))
    with pytest.raises(UserError, match=r"no folder .*photo, where photo/\*.png would be"):
        names(root, data(images="photo/*.png", split=Split(share=0.5, group="seq.")))
    with pytest.raises(UserError, match=r"no image in .* matches photos/\*x.png"):
        names(root, data(images="photos/*x.png", masks="truth/*x.png", split=Split(share=0.5, group="seq.")))


def test_colours_become_ids(root: Path) -> None:
    road, wall = ((row.label.mask, row.label.id) for row in CAMVID.rows if row.name in ("Road", "Wall"))
    pixels = np.array([[road[0], wall[0]], [wall[0], wall[0]]])
    picture(root / "mask.png", pixels)
    Image.fromarray(pixels.astype(np.uint8)).quantize(4).save(root / "palette.png")
    for name in ("mask.png", "palette.png"):
        ids = masks.read(root / name, CAMVID)
        assert ids.tolist() == [[road[1], wall[1]], [wall[1], wall[1]]]
        assert [CAMVID.names[CAMVID.class_of_raw[raw]] for raw in ids[0]] == ["road", "building"]
    with pytest.raises(Exception, match=r"its pixels are RGB; expected 8-bit label ids"):
        masks.read(root / "mask.png", DEFAULT)


def test_unknown_colours_are_listed_with_counts_and_an_example(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(root / "storage"))
    for path in (root / "truth").glob("*.png"):
        pixels = np.full((40, 48, 3), (128, 64, 128))
        if "seqb" in path.name:
            pixels[: 1 + int(path.stem[5:8])] = 1, 2, 3
        picture(path, pixels)
    folder = root / "own"
    folder.mkdir()
    (folder / "protocol.toml").write_text(
        'title = "Own"\n[data]\nsize = [32, 32]\nlabels = "camvid-11"\nlayout = "pairs"\nimages = "photos/*.png"\n'
        'masks = "truth/*_L.png"\nsplit = { share = 0.3, group = "seq." }\n'
        "[search]\ntrials = 1\nepochs = 1\ntrain_images = 1\nval_images = 1\n[final]\nepochs = 1\n"
    )
    asked = protocol.load(folder)
    with pytest.raises(UserError, match=r"2 files in .* cannot be used"):
        dataset.ready(asked, str(root))
    printed = capfd.readouterr().out
    assert (
        "truth/seqb_003_L.png: labels hold colours that 'camvid-11' does not have: colour [1, 2, 3] (192 pixels)"
        in printed
    )
    total = "not in the label set: colour [1, 2, 3], 336 pixels in 2 masks, such as truth/seqb_003_L.png"
    assert total in printed
    assert not list((root / "storage").rglob("train/manifest.json"))  # the split with problems is not finished


def test_what_a_cache_is_made_of_depends_on_how_the_root_is_read(root: Path) -> None:
    split = Split(share=0.3, group="seq.")
    one, other = (
        data(split=split),
        data(split=split, images="photos/**/*.png", masks="truth/**/*_L.png"),
    )
    first, again, second = (
        packing.prepare(root, SIZE, root / "cache", layout=layouts.of(asked)) for asked in (one, one, other)
    )
    assert first.folder == again.folder != second.folder
    assert first.train.names == tuple(names(root, one)["train"])


def test_another_label_set_finds_ids_it_lacks(root: Path) -> None:
    asked = data(split=Split(share=0.3, group="seq."))
    layout, cache = layouts.of(asked), root / "cache"
    packing.prepare(root, SIZE, cache, layout=layout)
    with pytest.raises(packing.DamagedScenes) as found:
        packing.prepare(root, SIZE, cache, label_set=_without_sidewalk(), layout=layout)
    assert {problem.unknown for problem in found.value.problems} == {(("id 8", 1920),)}
    assert len(packing.prepare(root, SIZE, cache, layout=layout).train) == 4


def _without_sidewalk() -> Any:
    import dataclasses

    flat = DEFAULT.classes[1]
    lacking = dataclasses.replace(flat, labels=tuple(label for label in flat.labels if label.id != 8))
    return dataclasses.replace(DEFAULT, classes=(DEFAULT.classes[0], lacking, *DEFAULT.classes[2:]))


CAMVID_ROOT = Path(__file__).parents[2] / "shared/data/camvid"


@pytest.mark.skipif(not CAMVID_ROOT.is_dir(), reason=f"CamVid is not at {CAMVID_ROOT}: it may not be copied")
def test_camvid_by_both_layouts(tmp_path: Path) -> None:
    small = tmp_path / "camvid"
    for split in scenes.SPLITS:
        for path in sorted((CAMVID_ROOT / "gtFine" / split).glob("*/*"))[::40]:
            image = path.name.replace("_gtFine_labelIds.png", "_leftImg8bit.jpg")
            for file in (path, CAMVID_ROOT / "leftImg8bit" / split / path.parent.name / image):
                target = small / file.relative_to(CAMVID_ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(file)
    asked = data(
        labels=CAMVID,
        images="leftImg8bit/{split}/*/*_leftImg8bit.jpg",
        masks="gtFine/{split}/*/*_gtFine_labelIds.png",
    )
    ours = packing.prepare(small, SIZE, tmp_path / "a", label_set=CAMVID)
    pairs = packing.prepare(small, SIZE, tmp_path / "b", label_set=CAMVID, layout=layouts.of(asked))
    assert ours.fingerprint == pairs.fingerprint
    seen = {CAMVID.class_of_raw[raw] for raw in np.flatnonzero(ours.train.histogram)}
    assert set(range(11)) <= seen
    assert re.fullmatch("camvid-32x32-[0-9a-f]{8}", ours.folder.name)
