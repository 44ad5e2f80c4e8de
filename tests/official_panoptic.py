"""Scenes with instances, and what cityscapesScripts says of predictions for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.core import panoptic
from segbench.core.labels import LabelSet
from segbench.core.panoptic import SPAN, VOID
from segbench.data import segment_files

Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # raw ids, and the plane of instances


def scene(
    generator: np.random.Generator, labels: LabelSet, size: tuple[int, int] = (48, 64), patches: int = 40
) -> Scene:
    """Random rectangles: stuff, instances, groups, and labels that are of no segment."""
    height, width = size
    raw = np.full(size, generator.choice([raw for raw in labels.raw_ids if raw < 24]), np.uint8)
    plane = np.zeros(size, np.uint8)
    for patch in range(40):
        top, left = generator.integers(height), generator.integers(width)
        where = np.s_[top : top + generator.integers(1, height // 2), left : left + generator.integers(1, width // 2)]
        raw[where] = generator.choice([raw for raw in labels.raw_ids if raw < 34])
        plane[where] = patch + 1 if raw[top, left] >= 24 and generator.random() < 0.8 else 0
    return raw, plane


def prediction(generator: np.random.Generator, truth: NDArray[np.int64], labels: LabelSet) -> NDArray[np.int64]:
    """The truth with objects moved, merged, split, mistaken, left void and invented."""
    found = np.where((truth < 0) | (truth % SPAN == 0), truth, truth // SPAN * SPAN + 1 + truth % SPAN % 251)
    things, stuff = panoptic.things(labels), panoptic.stuff(labels)
    group = np.isin(truth // SPAN, things) & (truth % SPAN == 0)
    found[group] += generator.integers(300, 303, found.shape)[group]  # a group's pixels go to whatever objects
    shift = generator.integers(-2, 3, 2)
    found = np.roll(found, shift, (0, 1))
    for patch in range(12):
        top, left = (generator.integers(side) for side in found.shape)
        thing = generator.choice(things) * SPAN + 400 + patch if things else VOID
        choices = [VOID, generator.choice(stuff) * SPAN, thing, generator.choice(found.reshape(-1))]
        found[top : top + generator.integers(1, 16), left : left + generator.integers(1, 16)] = generator.choice(
            choices
        )
    return found


def write_prediction(folder: Path, segments: dict[str, NDArray[np.int64]], labels: LabelSet) -> Path:
    """As `predict --panoptic` writes it; returns the JSON, whose pictures are in `folder`."""
    folder.mkdir()
    annotations = []
    for name, each in segments.items():
        segment_files.coco_picture(each).save(folder / f"{name}.png")
        annotations.append(segment_files.coco_annotation(each, name, f"{name}.png", labels))
    path = folder.with_suffix(".json")
    path.write_text(json.dumps({"annotations": annotations, "categories": segment_files.coco_categories(labels)}))
    return path


def write_truth(folder: Path, truths: dict[str, NDArray[np.int64]], labels: LabelSet) -> Path:
    """Our definition of the truth in the same format: n = 0 of a thing is a crowd."""
    path = write_prediction(folder, truths, labels)
    content = json.loads(path.read_text())
    things = {labels.typical_ids[thing] for thing in panoptic.things(labels)}
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = int(segment["category_id"] in things and (segment["id"] - SPAN) % SPAN == 0)
    path.write_text(json.dumps(content))
    return path


def evaluate(truth: Path, prediction: Path) -> dict[str, Any]:
    """evaluatePanoptic's results, in this process: it would start one per core. Both: a JSON beside its folder."""
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official  # noqa: N813

    wanted, found = (json.loads(path.read_text()) for path in (truth, prediction))
    categories = {category["id"]: category for category in wanted["categories"]}
    by_image = {annotation["image_id"]: annotation for annotation in found["annotations"]}
    pairs = [(annotation, by_image[annotation["image_id"]]) for annotation in wanted["annotations"]]
    folders = str(truth.with_suffix("")), str(prediction.with_suffix(""))
    return dict(official.average_pq(official.pq_compute_single_core(0, pairs, *folders, categories), categories))
