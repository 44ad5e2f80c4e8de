"""What `prepare` says of a dataset: images in both splits, or nearly; shared groups; classes without pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from segbench import prepare
from segbench.core import colour_vision
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT, shipped
from segbench.data import inspection, masks, packing
from tests.conftest import SIZE

PROTOCOL = """
title = "Planted"
[data]
size = [32, 64]
labels = "cityscapes-19"
[search]
trials = 1
epochs = 1
train_images = 1
val_images = 1
[final]
epochs = 1
"""


def scenes(root: Path, split: str) -> list[Path]:
    return sorted((root / "leftImg8bit" / split).glob("*/*"))


def labels_of(image: Path) -> Path:
    text = str(image).replace("leftImg8bit/", "gtFine/", 1)
    return Path(text.replace("_leftImg8bit.png", "_gtFine_labelIds.png"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a protocol; storage and reports lie beside it."""
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    folder = tmp_path / "plant"
    folder.mkdir()
    (folder / "protocol.toml").write_text(PROTOCOL)
    return folder


@pytest.fixture
def planted(dataset: Path) -> Path:
    """The first validation image is a training image, the second nearly: brightened and saved as JPEG."""
    train, val = scenes(dataset, "train"), scenes(dataset, "val")
    val[0].write_bytes(train[3].read_bytes())
    labels_of(val[0]).write_bytes(labels_of(train[3]).read_bytes())
    bright = Image.fromarray(np.clip(np.asarray(Image.open(train[5])) * 1.1, 0, 255).astype(np.uint8))
    content = io.BytesIO()
    bright.save(content, "JPEG", quality=60)
    Image.open(content).save(val[1])
    labels_of(val[1]).write_bytes(labels_of(train[5]).read_bytes())
    return dataset


def test_planted_twins_are_found_and_no_others(planted: Path, tmp_path: Path) -> None:
    data = packing.prepare(planted, SIZE, tmp_path / "cache")
    found = inspection.twins(data.train, data.val)
    assert [(twin.val, twin.train) for twin in found] == [(0, 3), (1, 5)]
    assert [twin.equal for twin in found] == [True, False]
    assert found[0].likeness == 1
    assert found[1].likeness >= inspection.ALIKE


def test_untouched_streets_share_nothing(drawn: Path, tmp_path: Path) -> None:
    data = packing.prepare(drawn, SIZE, tmp_path)
    findings = inspection.inspect(data)
    assert findings.twins == ()
    assert set(findings.shared) == set(data.train.cities) & set(data.val.cities)


def test_constant_images_resemble_only_equal_ones(dataset: Path, tmp_path: Path) -> None:
    train, val = scenes(dataset, "train"), scenes(dataset, "val")
    for path, grey in ((train[0], 90), (val[0], 90), (val[1], 91)):
        Image.new("RGB", SIZE[::-1], (grey,) * 3).save(path)
    data = packing.prepare(dataset, SIZE, tmp_path / "cache")
    assert [(twin.val, twin.train) for twin in inspection.twins(data.train, data.val)] == [(0, 0)]


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_prepare_says_so_and_writes_a_page(
    planted: Path, folder: Path, lang: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for image in scenes(planted, "train") + scenes(planted, "val"):
        ids = np.array(Image.open(labels_of(image)))
        ids[ids == 28] = 26  # no bus
        Image.fromarray(ids).save(labels_of(image))
    assert prepare.main(["--protocol", str(folder), "--data", str(planted), "--lang", lang]) == 0
    printed = capfd.readouterr().out
    assert "note: classes without a pixel in train or val, which are neither learnt nor scored: " in printed
    assert "bus" in printed.split("neither learnt nor scored: ")[1].splitlines()[0]
    assert "note: 2 val images are in train, too, or nearly, such as" in printed
    assert "(likeness 1.00)" in printed
    page = folder.parent / "reports" / ("plant.dataset.html" if lang == "en" else "plant.dataset.fr.html")
    html = page.read_text(encoding="utf-8")
    assert f'lang="{lang}"' in html
    assert ("panneau" in html) == (lang == "fr")
    complaints: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 900})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.goto(page.as_uri())
        assert tab.locator("tbody tr").count() == 19
        assert tab.locator("figure").count() == 2 + 8  # the twins, and four scenes of each split
        assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert complaints == []


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_labels_that_are_not_in_the_set_get_a_page(
    dataset: Path, folder: Path, lang: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for image, values in zip(scenes(dataset, "val"), ((40,), (40, 77)), strict=False):
        ids = np.array(Image.open(labels_of(image)))
        for row, value in enumerate(values):
            ids[row] = value
        Image.fromarray(ids).save(labels_of(image))
    (truncated := scenes(dataset, "train")[0]).write_bytes(b"")
    asked = ["--protocol", str(folder), "--data", str(dataset), "--lang", lang]
    with pytest.raises(UserError, match=r"3 files in .* cannot be used"):
        prepare.main(asked)
    printed = capfd.readouterr().out
    first, second = (str(labels_of(image).relative_to(dataset)) for image in scenes(dataset, "val")[:2])
    assert f"not in the label set: id 40, 128 pixels in 2 masks, such as {second}" in printed
    assert f"not in the label set: id 77, 64 pixels in 1 masks, such as {second}" in printed
    page = folder.parent / "reports" / ("plant.dataset.html" if lang == "en" else "plant.dataset.fr.html")
    assert f"page {page}" in printed
    html = page.read_text(encoding="utf-8")
    for part in (first, second, str(truncated.relative_to(dataset)), "id 40", "id 77", ">128<", ">64<"):
        assert part in html
    assert html.count("<figure>") == 1  # the second mask is the example of both values
    assert ("étiquettes" in html) == (lang == "fr")


def test_a_value_is_marked_where_it_is(dataset: Path) -> None:
    path = labels_of(scenes(dataset, "val")[0])
    ids = np.array(Image.open(path))
    ids[3, 5:9] = 200
    Image.fromarray(ids).save(path)
    where = masks.unknown(path, shipped("cityscapes-19"))
    assert np.argwhere(where).tolist() == [[3, column] for column in range(5, 9)]
    camvid = shipped("camvid-11")
    colours = np.full((4, 6, 3), next(row.label.mask for row in camvid.rows if row.label.mask), np.uint8)
    colours[2, 1] = 1, 2, 3
    Image.fromarray(colours).save(path)
    assert np.argwhere(masks.unknown(path, camvid)).tolist() == [[2, 1]]


def test_colours_that_somebody_confuses_are_known() -> None:
    names = shipped("cityscapes-19").names
    found = {(names[i], names[j]) for i, j in colour_vision.confusable(shipped("cityscapes-19").colours)}
    assert ("fence", "pole") in found
    assert ("vegetation", "person") in found  # green and red
    assert ("road", "sky") not in found
    assert [(DEFAULT.names[i], DEFAULT.names[j]) for i, j in colour_vision.confusable(DEFAULT.colours)] == [
        ("nature", "human")
    ]
    assert colour_vision.confusable([(0, 0, 0), (255, 255, 255)]) == []
    assert colour_vision.confusable([(200, 200, 200), (203, 200, 200)]) == [(0, 1)]
    assert colour_vision.confusable([(10, 20, 30)]) == []
