"""Panoptic quality is the official evaluator's, and right by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from segbench import stats
from segbench.core import panoptic
from segbench.core.labels import DEFAULT, LabelSet, shipped
from segbench.core.panoptic import SPAN, VOID
from segbench.data import segment_files
from segbench.engine import panoptic as engine
from segbench.stats import panoptic as quality
from tests import official_panoptic as official

OFFICIAL = shipped("cityscapes-19")
HUMAN, VEHICLE = 6, 7


def _counts(truth: NDArray[np.int64], found: NDArray[np.int64], labels: LabelSet = DEFAULT) -> quality.Counts:
    predicted = torch.from_numpy(np.maximum(found // SPAN, 0))
    return engine.count(torch.from_numpy(truth), torch.from_numpy(found), predicted, labels)


@pytest.mark.parametrize("labels", [DEFAULT, OFFICIAL], ids=lambda one: one.name)
def test_equals_the_official_evaluator(tmp_path: Path, labels: LabelSet) -> None:
    generator = np.random.default_rng(0)
    scenes = [official.scene(generator, labels) for _ in range(8)]
    empty = np.full((48, 64), 7, np.uint8)
    scenes.append((empty, np.zeros_like(empty)))  # one class alone
    scenes.append((np.zeros_like(empty), np.zeros_like(empty)))  # nothing to find
    truths = np.stack([panoptic.truth(*each, labels) for each in scenes])
    found = np.stack([official.prediction(generator, truth, labels) for truth in truths])
    found[3], found[4] = VOID, truths[4]
    names = [f"city_{index:06d}_000000" for index in range(len(scenes))]
    wanted = official.write_truth(tmp_path / "truth", dict(zip(names, truths, strict=True)), labels)
    given = official.write_prediction(tmp_path / "found", dict(zip(names, found, strict=True)), labels)
    theirs = official.evaluate(wanted, given)
    counts = _counts(truths, found, labels)
    ours = quality.quality(counts, labels)
    assert [ours.pq, ours.sq, ours.rq] == pytest.approx([theirs["All"][name] for name in ("pq", "sq", "rq")], abs=1e-9)
    assert ours.pq_things == pytest.approx(theirs["Things"]["pq"], abs=1e-9)
    assert ours.pq_stuff == pytest.approx(theirs["Stuff"]["pq"], abs=1e-9)
    per_class = quality.per_class(counts.segments.sum(0))
    for index in (*panoptic.things(labels), *panoptic.stuff(labels)):
        value = theirs["per_class"][labels.typical_ids[index]]
        assert np.nan_to_num(per_class[index]).tolist() == pytest.approx(list(value.values()), abs=1e-9)
    assert 0.1 < theirs["Things"]["pq"] < 0.9, "else the scenes test too little"
    assert counts.segments[:, list(panoptic.things(labels)), 1:].sum((0, 1)).min() > 5
    assert not counts.segments[9, :, 3].any()


def test_the_official_truth_files_score_our_predictions(tmp_path: Path) -> None:
    """createPanopticImgs makes the truth from instanceIds files, the evaluator reads both."""
    from cityscapesscripts.preparation import createPanopticImgs

    generator = np.random.default_rng(1)
    scenes = {f"a_{index:06d}_000019": official.scene(generator, OFFICIAL) for index in range(4)}
    folder = tmp_path / "gtFine" / "val" / "a"
    folder.mkdir(parents=True)
    for name, (raw, plane) in scenes.items():
        ids = np.where(plane > 0, raw.astype(np.uint16) * 1000 + plane - 1, raw).astype(np.uint16)
        Image.fromarray(ids).save(folder / f"{name}_gtFine_instanceIds.png")
    createPanopticImgs.convert2panoptic(str(tmp_path / "gtFine"), str(tmp_path), setNames=["val"])
    truths = {name: panoptic.truth(*each, OFFICIAL) for name, each in scenes.items()}
    found = {name: official.prediction(generator, truth, OFFICIAL) for name, truth in truths.items()}
    given = official.write_prediction(tmp_path / "found", found, OFFICIAL)
    theirs = official.evaluate(tmp_path / "cityscapes_panoptic_val.json", given)
    ours = quality.quality(_counts(np.stack([*truths.values()]), np.stack([*found.values()]), OFFICIAL), OFFICIAL)
    assert [ours.pq, ours.sq, ours.rq] == pytest.approx([theirs["All"][name] for name in ("pq", "sq", "rq")], abs=1e-9)
    assert ours.pq_things == pytest.approx(theirs["Things"]["pq"], abs=1e-9)


def test_a_pair_by_hand() -> None:
    """A row of 20 pixels: people 24 (two of them), a group of people next to a group of riders, void, a car, road."""
    raw = np.array([[24] * 4 + [24] * 4 + [24] * 2 + [25] * 2 + [0] * 4 + [26] * 2 + [7] * 2], np.uint8)
    plane = np.array([[1] * 4 + [2] * 4 + [0] * 8 + [1] * 2 + [0] * 2], np.uint8)
    truth = panoptic.truth(raw, plane, DEFAULT)[None]
    human, vehicle, road = HUMAN * SPAN, VEHICLE * SPAN, SPAN
    found = np.array(
        [
            [
                *[human + 1] * 4,  # the first person, exactly: IoU 1
                *[human + 2] * 3,  # three quarters of the second, and one pixel more on void: IoU 3 / 4, void is free
                VOID,
                *[human + 3] * 3,  # on both groups, which are one: three of its four pixels are excused
                VOID,
                human + 2,
                *[vehicle + 1] * 3,  # wholly on void: no error
                human + 3,  # a quarter of it hides one half of the car
                vehicle + 2,  # IoU 1 / 2 is no match: one invented, one missed
                *[road] * 2,
            ]
        ]
    )
    counts = _counts(truth, found[None])
    assert counts.segments[0, HUMAN].tolist() == [1.75, 2, 0, 0]
    assert counts.segments[0, VEHICLE].tolist() == [0, 0, 1, 1]
    assert counts.segments[0, 1].tolist() == [1, 1, 0, 0]
    assert counts.segments.sum() == 1.75 + 2 + 2 + 2
    assert counts.instances[0, HUMAN, 0].tolist() == [2, 2]
    assert counts.instances[0, VEHICLE, 0].tolist() == [0, 1]
    ours = quality.quality(counts, DEFAULT)
    assert (ours.pq, ours.pq_things, ours.pq_stuff) == ((0.875 + 0 + 1) / 3, 0.875 / 2, 1)
    assert ours.pq_classes == (None, 1, None, None, None, None, 0.875, 0)


def test_two_groups_of_one_category_excuse_together() -> None:
    """The official evaluator remembers one crowd per category: unmerged, this prediction would be invented."""
    raw = np.array([[[24] * 4 + [25] * 4 + [7] * 2]], np.uint8)
    found = np.full((1, 1, 10), HUMAN * SPAN + 1)
    counts = _counts(panoptic.truth(raw, np.zeros_like(raw), DEFAULT), found)
    assert counts.segments[0, HUMAN].tolist() == [0, 0, 0, 0]
    assert counts.segments[0, 1].tolist() == [0, 0, 0, 1]


def test_no_thing_at_all_is_no_number() -> None:
    road = np.full((2, 3, 4), SPAN)
    ours = quality.quality(_counts(road, road), DEFAULT)
    assert (ours.pq, ours.pq_things, ours.pq_stuff, ours.iiou) == (1, None, 1, None)
    nothing = quality.quality(_counts(np.full((1, 3, 4), VOID), road[:1]), DEFAULT)
    assert (nothing.pq, nothing.sq, nothing.rq) == (None, None, None)


def test_iiou_equals_the_official_evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as theirs  # noqa: N813

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # it is gone from NumPy 2.4
    monkeypatch.setattr(theirs.args, "avgClassSize", _scaled(theirs.args.avgClassSize, 48 * 64))
    generator = np.random.default_rng(2)
    pairs: tuple[list[str], list[str]] = ([], [])
    parts = []
    for index in range(3):
        raw, plane = official.scene(generator, OFFICIAL)
        truth = panoptic.truth(raw, plane, OFFICIAL)
        found = official.prediction(generator, truth, OFFICIAL)
        predicted = np.maximum(found // SPAN, 0)
        parts.append(_counts(truth[None], found[None], OFFICIAL))
        ids = np.where(plane > 0, raw.astype(np.uint16) * 1000 + plane, raw).astype(np.uint16)
        for files, name, content in (
            (pairs[0], "pred", np.array(OFFICIAL.typical_ids, np.uint8)[predicted]),
            (pairs[1], "gtFine_labelIds", raw),
            ([], "gtFine_instanceIds", ids),
        ):
            path = tmp_path / f"a_{index:06d}_000000_{name}.png"
            Image.fromarray(content).save(path)
            files.append(str(path))
    for name, value in {"evalInstLevelScore": True, "JSONOutput": False, "quiet": True}.items():
        monkeypatch.setattr(theirs.args, name, value, raising=False)
    result = theirs.evaluateImgLists(*pairs, theirs.args)["classInstScores"]
    weighted = quality.Counts.joined(parts).weighted.sum(0)
    for thing in panoptic.things(OFFICIAL):
        assert float(quality.iiou([thing])(weighted)) == pytest.approx(result[OFFICIAL.names[thing]], abs=1e-12)


def _scaled(averages: dict[str, float], pixels: int) -> dict[str, float]:
    return {name: value * pixels / (2048 * 1024) for name, value in averages.items()}


def test_counts_do_not_depend_on_the_batch() -> None:
    generator = np.random.default_rng(3)
    truths = np.stack([panoptic.truth(*official.scene(generator, DEFAULT), DEFAULT) for _ in range(4)])
    found = np.stack([official.prediction(generator, truth, DEFAULT) for truth in truths])
    together = _counts(truths, found)
    apart = quality.Counts.joined([_counts(truths[i : i + 1], found[i : i + 1]) for i in range(4)])
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_the_bootstrap_keeps_fractions() -> None:
    segments = np.tile([[0.75, 1.0, 0.0, 0.0]], (40, 8, 1))
    segments[:20, HUMAN] = [0, 0, 1, 1]
    found = stats.interval([segments], quality.pq([HUMAN]))[0]
    assert found.estimate == pytest.approx(0.375)
    assert 0.2 < found.low < 0.375 < found.high < 0.55
    assert stats.interval([segments], quality.pq([1]))[0] == pytest.approx((0.75, 0.75, 0.75))


def test_instance_files_hold_the_segments() -> None:
    segments = np.full((4, 6), SPAN)
    segments[0, :2], segments[1, :3], segments[2, 0], segments[3, :4] = 6 * SPAN + 9, 6 * SPAN + 2, VOID, 7 * SPAN + 5
    written = np.asarray(segment_files.instance_ids(segments, DEFAULT))
    assert written.dtype == np.uint16
    assert np.unique(written).tolist() == [0, 7, 24000, 24001, 26000]
    assert (written[1, :3] == 24000).all(), "the largest comes first"
    annotation = segment_files.coco_annotation(segments, "a", "a.png", DEFAULT)
    picture = np.asarray(segment_files.coco_picture(segments)).astype(int)
    ids = picture @ [1, 256, 65536]
    assert sum(entry["area"] for entry in annotation["segments_info"]) == 23
    for entry in annotation["segments_info"]:
        left, top, width, height = entry["bbox"]
        rows, columns = np.nonzero(ids == entry["id"])
        assert (len(rows), columns.min(), rows.min()) == (entry["area"], left, top)
        assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (width, height)
