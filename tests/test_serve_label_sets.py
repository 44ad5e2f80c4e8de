"""One server of models that were trained on different label sets: each answers in its own classes and colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageColor

from segbench.core.labels import DEFAULT, LabelSet, shipped
from segbench.serve import answers
from segbench.serve.page import viewer
from segbench.serve.service import Settings
from tests.serving import Live, photograph, pixels, promote

NINETEEN = shipped("cityscapes-19")
SETS = {"demo-deeplab": DEFAULT, "demo-deeplabv3plus": NINETEEN, "demo-lraspp": NINETEEN}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(tmp_path_factory.mktemp("two-sets")))
        for name, labels in SETS.items():
            promote(name.removeprefix("demo-"), labels=labels)
        server = Live(Settings(devices=("cpu",), queue=8))
        try:
            yield server
        finally:
            server.stop()


def palette(mask: bytes, classes: int) -> list[tuple[int, ...]]:
    with Image.open(io.BytesIO(mask)) as picture:
        colours = picture.getpalette() or []
    return [tuple(colours[3 * index : 3 * index + 3]) for index in range(classes)]


def test_every_model_answers_in_its_own_classes(live: Live) -> None:
    answer = live.post("/v1/segment", photograph(40, 80)).json()
    assert [one["model"] for one in answer["models"]] == list(SETS)
    for one in answer["models"]:
        labels: LabelSet = SETS[one["model"]]
        assert one["legend"] == answers.legend(labels)
        assert list(one["shares"]) == list(labels.names)
        mask = base64.b64decode(one["mask"])
        assert palette(mask, len(labels)) == list(labels.colours)
        assert pixels(mask).max() < len(labels)
        counted = np.bincount(pixels(mask).reshape(-1), minlength=len(labels)) / pixels(mask).size
        assert list(one["shares"].values()) == pytest.approx(counted.tolist())
        ids = pixels(live.post(f"/v1/models/{one['model']}/label-ids", photograph(40, 80)).body)
        np.testing.assert_array_equal(ids, np.array(labels.typical_ids)[pixels(mask)])
    assert answer["agreement"] is None  # classes of different sets cannot agree


def test_only_models_of_equal_sets_agree(live: Live) -> None:
    content = photograph(40, 80)
    alike = live.post("/v1/segment?model=demo-lraspp&model=demo-deeplabv3plus", content).json()
    one, other = (pixels(base64.b64decode(model["mask"])) for model in alike["models"])
    assert alike["agreement"]["share"] == pytest.approx((one == other).mean())
    assert live.post("/v1/segment?model=demo-deeplab&model=demo-lraspp", content).json()["agreement"] is None


def test_the_list_of_models_says_what_each_predicts(live: Live) -> None:
    cards = {card["model"]: card for card in live.ask("GET", "/v1/models").json()["models"]}
    assert {name: card["legend"] for name, card in cards.items()} == {
        name: answers.legend(labels) for name, labels in SETS.items()
    }


def test_the_page_has_one_legend_for_all(live: Live) -> None:
    content = photograph(40, 80)
    answer = live.post("/v1/segment", content).json()
    shown = viewer.prepared("id", viewer.photograph(content), answer)
    assert shown["disagreement"] is None
    names = [one["name"] for one in shown["legend"]]
    assert set(names) == {name for labels in SETS.values() for name in labels.names}
    for model in shown["models"]:
        shares = {name: share for name, share in zip(names, model["shares"], strict=True) if share}
        given = next(one["shares"] for one in answer["models"] if one["model"] == model["name"])
        assert shares == {name: share for name, share in given.items() if share}
    colours = {(one["name"], ImageColor.getrgb(one["colour"])) for one in shown["legend"]}
    assert colours >= {(one.name, one.colour) for labels in SETS.values() for one in labels.classes}
