"""What the server and its page make of models that tell objects apart."""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segbench.core.labels import DEFAULT
from segbench.core.panoptic import PANOPTIC, SPAN, VOID, things
from segbench.data import segment_files
from segbench.engine import inference
from segbench.ledger import models
from segbench.runtime import compute
from segbench.serve import answers, schema
from segbench.serve.page import viewer
from segbench.serve.service import Settings
from tests.page_api import FakeApi
from tests.serving import SIZE, Live, photograph, pixels, problem, promote

FLAT, SKY, HUMAN, VEHICLE = (DEFAULT.names.index(name) for name in ("flat", "sky", "human", "vehicle"))


def scene() -> np.ndarray[Any, np.dtype[np.int64]]:
    """(4, 8): sky, void, and two vehicles of which the second is larger."""
    ids = np.full((4, 8), SKY * SPAN)
    ids[2:, :3], ids[2:, 3:] = VEHICLE * SPAN + 7, VEHICLE * SPAN + 9
    ids[0, 0] = VOID
    return ids


def report_of(ids: np.ndarray[Any, np.dtype[np.int64]], height: int, width: int) -> dict[str, Any]:
    maps = answers.Maps(np.zeros((height, width), np.uint8), ids, DEFAULT)
    found = answers._objects(maps)
    assert found is not None
    schema.Panoptic(**found)
    return found


def numbers(text: str) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_an_answer_lists_every_segment_and_counts_the_objects() -> None:
    found = report_of(scene(), 8, 16)
    assert found["counts"] == {"human": 0, "vehicle": 2}
    assert [(one["number"], one["category"], one["thing"], one["share"] * 32) for one in found["segments"]] == [
        (1, SKY, False, 15), (2, VEHICLE, True, 6), (3, VEHICLE, True, 10),
    ]  # fmt: skip
    seen = numbers(found["map"])
    assert seen.shape == (8, 16)
    assert seen.dtype == np.uint16
    small = np.array([[0, *[1] * 7], [1] * 8, *[[2] * 3 + [3] * 5] * 2])
    assert np.array_equal(seen, small.repeat(2, 0).repeat(2, 1))


def test_instance_ids_are_those_of_the_file_that_evaluators_read() -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    maps = answers.Maps(np.zeros((8, 16), np.uint8), scene(), DEFAULT)
    expected = np.asarray(segment_files.instance_ids(scene(), DEFAULT)).repeat(2, 0).repeat(2, 1)
    assert sorted(np.unique(expected).tolist()) == [0, 23, 26000, 26001]
    assert np.array_equal(pixels(answers.instance_ids(image, maps)), expected)
    model = {"panoptic": report_of(scene(), 8, 16), "legend": answers.legend(DEFAULT)}
    assert np.array_equal(np.asarray(viewer.instance_ids(model)), expected)


def test_the_server_tells_objects_apart_where_the_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    promote("deeplab")
    folder = promote("panoptic_deeplab", task=PANOPTIC)
    live = Live(Settings(devices=("cpu",), megapixels=1, upload_bytes=1_000_000))
    try:
        content = photograph()
        semantic, panoptic = live.post("/v1/segment", content).json()["models"]
        assert semantic["panoptic"] is None
        model = inference.load(
            models.read_card(folder / "card.json"), folder / "best.safetensors", compute.choose("cpu")
        )
        images = torch.from_numpy(inference.seen(pixels(content)[..., :3], SIZE))[None]
        with torch.inference_mode():
            [made] = inference.predictions(model, images, compute.choose("cpu"), DEFAULT)
        assert made.segments is not None
        height, width = pixels(content).shape[:2]
        assert panoptic["panoptic"] == report_of(made.segments.numpy(), height, width)
        assert set(panoptic["panoptic"]["counts"]) == {DEFAULT.names[index] for index in things(DEFAULT)}
        seen = pixels(live.post("/v1/models/demo-panoptic_deeplab/instance-ids", content).body)
        assert seen.shape == (height, width)
        assert live.ask("GET", "/v1/models").json()["models"][1]["task"] == "panoptic"
        refused = live.post("/v1/models/demo-deeplab/instance-ids", content)
        assert problem(refused, 422) == (
            "demo-deeplab is a semantic model: it does not tell objects apart; ask a panoptic one"
        )
    finally:
        live.stop()


def test_the_viewer_gets_the_objects_of_panoptic_models() -> None:
    api = FakeApi(panoptic=True)
    content = photograph(40, 80)
    data = viewer.prepared("d", pixels(content)[..., :3], api.answer(content))
    semantic, panoptic = data["models"]
    assert semantic["objects"] is None
    objects = panoptic["objects"]
    assert objects["known"] == [None, None, None, [VEHICLE, 1], [VEHICLE, 2]]  # flat and sky are no objects
    assert objects["counts"][VEHICLE] == 2
    seen = np.frombuffer(zlib.decompress(base64.b64decode(objects["map"])), "<u2").reshape(40, 80)
    assert (seen[0, 0], seen[39, 0], seen[39, 59], seen[39, 60]) == (2, 1, 3, 4)
