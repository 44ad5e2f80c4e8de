"""Label sets: those that ship are the official ones, lookups agree with them, and mistakes are one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segbench import study
from segbench.core import labels, protocol
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT, IGNORED, Class, Label, LabelSet, shipped
from segbench.core.records import from_json, to_json

ROAD = """
[[classes]]
name = "road"
colour = [128, 64, 128]
labels = [7]
"""
SKY = """
[[classes]]
name = "sky"
colour = [70, 130, 180]
labels = [23]
"""


def read(folder: Path, text: str) -> LabelSet:
    path = folder / "own.labels.toml"
    path.write_text('title = "My own"\n' + text)
    return labels.read(path)


def test_eight_categories_are_the_official_ones() -> None:
    from cityscapesscripts.helpers.labels import labels as official

    ours = {(row.name, row.label.id, row.class_index, row.label.ignored) for row in DEFAULT.rows}
    assert ours == {(one.name, one.id % 256, one.categoryId, one.ignoreInEval) for one in official}
    assert list(DEFAULT.names) == list(dict.fromkeys(one.category for one in official))


@pytest.mark.parametrize("name", ["cityscapes-19", "bdd100k-19"])
def test_nineteen_classes_are_the_official_ones(name: str) -> None:
    from cityscapesscripts.helpers.labels import trainId2label as official  # noqa: N813

    assert [(c.name, c.colour, c.parent, c.thing) for c in shipped(name).classes] == [
        (official[i].name, official[i].color, official[i].category, official[i].hasInstances) for i in range(19)
    ]


def test_which_ids_the_nineteen_classes_have() -> None:
    from cityscapesscripts.helpers.labels import labels as official

    nineteen, bdd = shipped("cityscapes-19"), shipped("bdd100k-19")
    for one in official:
        assert nineteen.class_of_raw[one.id % 256] == one.trainId % 256
    assert nineteen.rows == tuple(sorted(nineteen.rows, key=lambda row: row.label.id))
    assert bdd.class_of_raw == (*range(19), *[IGNORED] * 237)


@pytest.mark.parametrize("name", labels.shipped_names())
def test_a_set_survives_json_and_its_lookups_agree(name: str) -> None:
    one = shipped(name)
    assert from_json(LabelSet, to_json(one)) == one
    assert [one.class_of_raw[raw] for raw in one.typical_ids] == list(range(len(one)))
    assert all(c.french for c in one.classes)
    for row in one.rows:
        assert one.class_of_raw[row.label.id] == row.class_index
    assert one.class_of_raw[one.border] in (IGNORED, *one.void)
    assert one.unknown([*one.raw_ids, 200]) == [200]


def test_ids_in_words() -> None:
    assert DEFAULT.ids_in_words == "0..33, 255"
    assert shipped("camvid-11").ids_in_words == "0, 7..8, 11, 13, 17, 20..21, 23..26, 40..59"


def test_a_set_of_ones_own(tmp_path: Path) -> None:
    own = read(tmp_path, "ignored = [[0, 0, 0], 255]\n" + ROAD + SKY.replace("[23]", "[[1, 2, 3], [4, 5, 6], 23]"))
    assert (own.name, own.title, own.names) == ("own", "My own", ("road", "sky"))
    found = {row.label.id: (row.class_index, row.label.mask) for row in own.rows}
    assert found == {
        0: (IGNORED, (0, 0, 0)),  # colours without an id get the lowest free ones
        1: (1, (1, 2, 3)),
        2: (1, (4, 5, 6)),
        7: (0, None),
        23: (1, None),
        255: (IGNORED, None),
    }
    assert labels.chosen("own.labels.toml", tmp_path) == own
    assert labels.chosen("camvid-11", tmp_path) is shipped("camvid-11")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROAD + SKY.replace("23", "7"), "the id 7 stands for 'road' and for 'sky'; each must be there once"),
        (ROAD + SKY.replace("[23]", "[23, 23]"), "the id 23 stands for 'sky' and for 'sky'"),
        (ROAD + SKY.replace("colour = [70, 130, 180]\n", ""), r"\[classes 'sky'\]: 'colour' is missing"),
        (
            ROAD + SKY.replace("70, 130, 180", "128, 64, 128"),
            r"the colour \[128, 64, 128\] stands for 'road' and for 'sky'",
        ),
        (ROAD + SKY.replace("180", "256"), r"\[classes 'sky'\]: colour must be \[red, green, blue\], 0..255 each"),
        (ROAD + SKY.replace("70, 130, 180", "70, 130"), r"classes 'sky'.colour must be \[red, green, blue\], found"),
        (ROAD + SKY.replace('"sky"', '"road"'), "the name road stands for 'road' and for 'road'"),
        (ROAD + SKY.replace('"sky"', '"s/k"'), "name must be letters, digits"),
        (ROAD + SKY.replace("[23]", "[256]"), "id must be 0..255, not 256"),
        (ROAD + SKY.replace("[23]", "[]"), "labels must hold at least one id or colour of a mask"),
        (ROAD + SKY.replace("labels = [23]", ""), r"\[classes 'sky'\]: 'labels' is missing"),
        (
            ROAD + SKY + 'parent = "x"',
            r"parent of class 'sky' must be left out, as there are no \[\[parents\]\], not 'x'",
        ),
        (ROAD + SKY + '[[parents]]\nname = "up"', r"parent of class 'road' must be one of \[\[parents\]\], up, not ''"),
        (ROAD + SKY + "typical = 7", r"typical must be one of its ids, \[23\]"),
        (ROAD, "classes must be 2 to 254, not 1"),
        (ROAD + SKY + "colur = 3", "unknown key 'colur'; did you mean 'colour'"),
        ("classes = 3", "classes must be a list, found 3"),
        ('name = "x"\n' + ROAD + SKY, "unknown key 'name'; the name is the file's, here 'own'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as found:
        read(tmp_path, text)
    assert str(tmp_path / "own.labels.toml") in str(found.value)
    assert "\n" not in str(found.value)


def test_a_set_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"labels 'cityscapes-20' is no label set: expected bdd100k-19, camvid-11, city"
    ):
        labels.chosen("cityscapes-20", tmp_path)
    with pytest.raises(UserError, match=r"own.labels.toml is not a file"):
        labels.chosen("own.labels.toml", tmp_path)


@given(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=4), min_size=2, max_size=20))
def test_any_set_is_refused_or_its_ids_have_one_class_each(ids: list[list[int]]) -> None:
    classes = tuple(Class(f"c{i}", (i, 0, 0), tuple(map(Label, own))) for i, own in enumerate(ids))
    flat = [raw for own in ids for raw in own]
    if len(flat) > len(set(flat)):
        with pytest.raises(ValueError, match="each must be there once"):
            LabelSet("any", "Any", classes)
        return
    one = LabelSet("any", "Any", classes)
    assert one.raw_ids == tuple(sorted(flat))
    assert all(one.class_of_raw[raw] == i for i, own in enumerate(ids) for raw in own)
    assert one.class_of_raw.count(IGNORED) == 256 - len(flat)


def test_a_copied_protocol_takes_its_label_set_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fleet = tmp_path / "fleet"
    fleet.mkdir()
    (fleet / "protocol.toml").write_text(
        'title = "Fleet"\n[data]\nsize = [32, 64]\nlabels = "own.labels.toml"\n'
        "[search]\ntrials = 1\nepochs = 1\ntrain_images = 1\nval_images = 1\n[final]\nepochs = 1\n"
    )
    original = read(fleet, ROAD + SKY)
    assert study.main(["new", "mine", "--from", str(fleet)]) == 0
    (tmp_path / "fleet" / "own.labels.toml").unlink()
    assert protocol.load(tmp_path / "studies" / "mine").data.labels == original
    assert sorted(path.name for path in (tmp_path / "studies" / "mine").iterdir()) == [
        "own.labels.toml",
        "protocol.toml",
    ]
    with pytest.raises(UserError, match=r"own.labels.toml is not a file"):
        study.main(["new", "other", "--from", str(fleet)])
    assert not (tmp_path / "studies" / "other").exists()
